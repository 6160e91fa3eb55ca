"""Run the commands that docs/cli.md shows, and write what they print into it.

python tools/cli_docs.py            rewrite the page
python tools/cli_docs.py --check    fail where the page shows something else than the commands print

A block is announced by a comment, ``<!-- cli: models --offline -->``, with the words of the command; before the colon
may stand ``fault=RULE`` for the embedded Chutes, ``stdin=TEXT``, ``keep`` to leave the server and the default model as
the block before left them, and ``keys=WAIT|KEYS|…`` to sit at a terminal: when the first text is shown, the keys are
pressed, and so on; ``↵`` is Enter, ``^C`` Ctrl-C, ``^D`` Ctrl-D. All run against the embedded Chutes with the echo
behind it, in lines of 80 characters; ``PORT`` among the words is its port, and a block behind ``<!-- file: app.py -->``
is a file that is there. Times, ports, dates and versions may differ between the page and a run; where nothing else
does, the page stays as it is.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import unified_diff
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chutes_cli import main as chutes_connect  # noqa: E402
from chutes_cli.exits import Exit  # noqa: E402
from chutes_cli.out import Out  # noqa: E402
from chutes_core.default_model import forget  # noqa: E402
from chutes_local import LocalChutes, serve  # noqa: E402

PAGE = ROOT / "docs" / "cli.md"
WIDTH = 80
BLOCK = re.compile(
    r"(?P<head><!-- cli(?P<options>[^:]*): (?P<words>[^\n]*) -->\n\n)```console\n(?P<body>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
FILE = re.compile(r"<!-- file: (?P<name>[^\n/]*) -->\n\n```\w+\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
TABLE = re.compile(r"(?P<head><!-- exit statuses -->\n\n)(?P<body>(?:\|[^\n]*\n)*)")
VOLATILE = (
    (r"\b\d+ h \d+ min\b|\b\d+ min \d+ s\b|\b\d+(\.\d+)? m?s\b", "TIME"),
    (r'"(seconds|ttft|skew)": [0-9.e-]+', "NUMBER"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.+Z-]+", "MOMENT"),
    (r"127\.0\.0\.1:\d+|--port \d+", "HOST"),
    (r"(?s)\bversions .*?(?= (ok|warn|fail|skip) )", "VERSIONS"),
)


def steady(text: str) -> str:
    r"""Take out of a transcript what differs from run to run, and how its lines are broken.

    >>> steady("all 12 ms at http://127.0.0.1:4711/v1\n  and so on")
    'all TIME at http://HOST/v1 and so on'
    """
    text = " ".join(text.split())
    for pattern, word in VOLATILE:
        text = re.sub(pattern, word, text)
    return text


def renewed(page: str, run: Callable[[str, str], str]) -> str:
    """Give the page with every block as ``run`` prints it now; one that differs in unsteady things alone stays."""

    def block(match: re.Match[str]) -> str:
        printed = run(match["options"], match["words"])
        body = match["body"] if steady(match["body"]) == steady(printed) else printed
        return f"{match['head']}```console\n{body}```"

    return TABLE.sub(lambda match: match["head"] + statuses(), BLOCK.sub(block, page))


def statuses() -> str:
    """The table of exit statuses, out of the code's own."""
    rows = [f"| {status.value} | {status.meaning} |" for status in Exit]
    return "\n".join(["| Status | Meaning |", "| --- | --- |", *rows]) + "\n"


def transcript(options: str, words: str, server: LocalChutes) -> str:
    """Run one command, and return what a terminal would show of it."""
    told = dict(option.partition("=")[::2] for option in shlex.split(options))
    words = words.replace("PORT", server.url.rpartition(":")[2])
    if "keep" not in told:
        server.reset()
        forget()
    if "fault" in told:
        server.faults.parse(told["fault"])
    if "keys" in told:
        return typed(told["keys"].split("|") if told["keys"] else [], words)
    shown, status = io.StringIO(), 0
    stdin, sys.stdin = sys.stdin, io.StringIO(told.get("stdin", ""))
    try:
        with redirect_stdout(shown), redirect_stderr(shown):
            try:
                status = chutes_connect(shlex.split(words), out=Out(width=WIDTH))
            except SystemExit as ended:
                status = int(ended.code or 0)
    finally:
        sys.stdin = stdin
    piped = f"echo {shlex.quote(told['stdin'])} | " if "stdin" in told else ""
    after = f"$ echo $?\n{int(status)}\n" if status else ""
    return f"$ {piped}chutes-connect {words}\n{shown.getvalue()}{after}"


def typed(steps: list[str], words: str) -> str:
    """Run one command at a terminal, press keys, and return what the terminal showed."""
    from tests.terminal import Terminal

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    env = {**os.environ, "TERM": "dumb", "PYTHONPATH": str(ROOT), "PATH": path}
    with Terminal([sys.executable, "-m", "chutes_cli", *shlex.split(words)], env, columns=WIDTH) as terminal:
        for wait, keys in zip(steps[::2], steps[1::2], strict=True):
            terminal.until(wait.replace("\\n", "\n"))
            for name, key in (("↵", "\r"), ("^C", "\x03"), ("^D", "\x04")):
                keys = keys.replace(name, key)
            terminal.type(keys)
        status = terminal.end()
    shown = "".join(f"{line.rstrip()}\n" for line in terminal.shown.splitlines())
    return f"$ chutes-connect {words}\n{shown}" + (f"$ echo $?\n{status}\n" if status else "")


@contextmanager
def stage() -> Iterator[LocalChutes]:
    """The embedded Chutes, an environment that leads to it alone, and a folder that is gone afterwards."""
    import platformdirs

    before, here, cache = dict(os.environ), Path.cwd(), platformdirs.user_cache_dir
    with tempfile.TemporaryDirectory() as folder, serve(backend="echo") as server:
        for name in [name for name in os.environ if name.startswith("CHUTES_")]:
            del os.environ[name]
        own = {"HOME": folder, "CHUTES_CONFIG_DIR": f"{folder}/.config/chutes-connect"}
        os.environ.update({**server.env, **own, "COLUMNS": str(WIDTH), "NO_COLOR": "1"})
        platformdirs.user_cache_dir = lambda *args, **kwargs: f"{folder}/cache"
        os.chdir(folder)
        try:
            yield server
        finally:
            os.chdir(here)
            platformdirs.user_cache_dir = cache
            os.environ.clear()
            os.environ.update(before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not of today")
    options = parser.parse_args()
    page = PAGE.read_text("utf-8")
    with stage() as server:
        for match in FILE.finditer(page):
            Path(match["name"]).write_text(match["body"], "utf-8")
        new = renewed(page, lambda told, words: transcript(told, words, server))
    count = len(BLOCK.findall(page))
    if not options.check:
        PAGE.write_text(new, "utf-8")
        print(f"{PAGE.name}: {count} transcripts")
    elif new != page:
        print("".join(unified_diff(page.splitlines(True), new.splitlines(True), "the page", "the commands")), end="")
        print(f"{PAGE.name} shows something else than the commands print: run python tools/cli_docs.py")
        return 1
    else:
        print(f"{PAGE.name}: {count} transcripts, each as the commands print it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
