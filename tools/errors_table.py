"""Write the table of failures in docs/errors.md out of the code's own.

python tools/errors_table.py            rewrite the table
python tools/errors_table.py --check    fail where the page says something else than the code
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from chutes_core.errors import Kind, Retry, Scope  # noqa: E402
from chutes_core.failures.table import FACTS, RULES  # noqa: E402

PAGE = ROOT / "docs" / "errors.md"
CONCERNS = {Scope.TARGET: "this model", Scope.ACCOUNT: "the account", Scope.REQUEST: "the request"}
# What `chutes_core.failures.reading` takes a status for that no rule speaks of.
OTHERS = {Kind.UPSTREAM: "any other from 500", Kind.UNEXPECTED: "any other"}
AGAIN = {Retry.HERE: "here", Retry.ELSEWHERE: "elsewhere", Retry.NEVER: "never"}


def statuses(kind: Kind) -> str:
    """Return the statuses under which the service reports a kind of failure; none for what is found out here.

    >>> statuses(Kind.BAD_GATEWAY), statuses(Kind.STALL)
    ('502, 520, 521, 523', '')
    """
    found = sorted({status for codes, _, ruled in RULES if ruled is kind for status in codes})
    return OTHERS.get(kind) or ", ".join(map(str, found))


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| Kind, exception, status | Concerns, again | What probably happened, and what to do |"
    yield "| --- | --- | --- |"
    for kind, facts in FACTS.items():
        names = filter(None, (f"`{kind.value}`", f"`{facts.error.__name__}`", statuses(kind)))
        follows = f"{CONCERNS[facts.scope]}<br>{AGAIN[facts.retry]}"
        told = f"{facts.why[0].upper()}{facts.why[1:]}. {facts.remedy}".replace("|", r"\|")
        yield f"| {'<br>'.join(names)} | {follows} | {told} |"


def renewed(page: str) -> str:
    """Return the page with the table as the code has it."""
    return replaced(page, "failures", rows())


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not have the table of failures as the code has it: run python tools/errors_table.py",
        current=f"{len(FACTS)} kinds of failure, each as the code has it",
    )


if __name__ == "__main__":
    sys.exit(main())
