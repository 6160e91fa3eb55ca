"""Write the table of accounts in docs/cost.md: what the commands say to each kind, asked of the embedded Chutes.

python tools/money_table.py            rewrite the table
python tools/money_table.py --check    fail where the page says something else than the commands
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from cli_docs import stage  # noqa: E402
from page_table import replaced, run  # noqa: E402

from chutes_cli import main as chutes_connect  # noqa: E402
from chutes_local import LocalChutes  # noqa: E402
from chutes_local.world.accounts import KINDS  # noqa: E402

PAGE = ROOT / "docs" / "cost.md"
MODEL, OTHER = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"


def ran(*words: str) -> tuple[int, str, str]:
    """Run a command: its status, and what it printed to each of its streams."""
    out, err = io.StringIO(), io.StringIO()
    stdin, sys.stdin = sys.stdin, io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = int(chutes_connect(words))
    finally:
        sys.stdin = stdin
    return status, out.getvalue(), err.getvalue()


def account() -> str:
    """What the command says of requests, and what to do."""
    status, out, err = ran("account")
    told = re.findall(r"^(?:requests|to do) +(.*)$", out, re.MULTILINE)
    return ". ".join(told) if told else _failed(status, err)


def doctor() -> str:
    """The two checks that money decides, and the status of all."""
    status, out, _ = ran("doctor", "--json")
    states = {each["check"]: each["state"] for each in json.loads(out)["checks"]}
    return f"account {states['account']}, call {states['call']}: status {status}"


def chat(*more: str) -> str:
    """What an answer was paid from, or why there is none."""
    status, _, err = ran("chat", MODEL, "Hello", *more)
    if status:
        return _failed(status, err)
    last = err.strip().split(" · ")[-1]
    return "answers" if last.startswith("first token") else f"answers; {last}"


def _failed(status: int, err: str) -> str:
    said = err.strip().splitlines()[-1].removeprefix("error: ")
    said = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2} 00:00 UTC", "midnight UTC", re.sub(r" after [0-9.]+ s", "", said))
    return f"status {status}: {said}"


def rows(server: LocalChutes) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| Account, key | `account` | `doctor` | `chat` | `chat --fallback` |"
    yield "| --- | --- | --- | --- | --- |"
    for kind, what in KINDS.items():
        cells = []
        for asked in (account, doctor, chat, lambda: chat("--fallback", OTHER)):
            server.reset()
            os.environ["CHUTES_API_KEY"] = server.api_key if kind == "plan" else f"cpk_{kind}"
            cells.append(asked().replace("|", r"\|"))
        name = "any key" if kind == "plan" else f"`cpk_{kind}`"
        yield f"| {what}<br>{name} | {' | '.join(cells)} |"


def renewed(page: str) -> str:
    """Return the page with the table as the commands have it."""
    with stage() as server:
        return replaced(page, "accounts", rows(server))


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not say what the commands say to each account: run python tools/money_table.py",
        current=f"{len(KINDS)} kinds of accounts, each as the commands have it",
    )


if __name__ == "__main__":
    sys.exit(main())
