"""Write the table of failures in docs/errors.md out of the code's own.

python tools/errors_table.py            rewrite the table
python tools/errors_table.py --check    fail where the page says something else than the code
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chutes_core.errors import Kind, Retry, Scope  # noqa: E402
from chutes_core.failures.table import FACTS, RULES  # noqa: E402

PAGE = ROOT / "docs" / "errors.md"
TABLE = re.compile(r"(?P<head><!-- failures -->\n\n)(?P<body>(?:\|[^\n]*\n)*)")
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
    table = "".join(f"{row}\n" for row in rows())
    new, count = TABLE.subn(lambda match: match["head"] + table, page)
    if count != 1:
        raise ValueError(f"The page needs one line <!-- failures --> with an empty line below it, and has {count}.")
    return new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not of today")
    check = parser.parse_args().check
    page = PAGE.read_text("utf-8")
    new = renewed(page)
    if check and new != page:
        print(f"{PAGE.name} does not have the table of failures as the code has it: run python tools/errors_table.py")
        return 1
    if not check:
        PAGE.write_text(new, "utf-8")
    print(f"{PAGE.name}: {len(FACTS)} kinds of failure, each as the code has it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
