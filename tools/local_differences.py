"""Write the table of differences in docs/local.md out of the list that the tests hold the embedded Chutes to.

python tools/local_differences.py            rewrite the table
python tools/local_differences.py --check    fail where the page says something else than the list
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.gateway.differences import DIFFERENCES  # noqa: E402

PAGE = ROOT / "docs" / "local.md"
TABLE = re.compile(r"(?P<head><!-- differences -->\n\n)(?P<body>(?:\|[^\n]*\n)*)")


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| What differs | Why |"
    yield "| --- | --- |"
    for each in DIFFERENCES:
        yield f"| {each.what} | {each.why} |"


def renewed(page: str) -> str:
    """Return the page with the table as the list has it."""
    table = "".join(f"{row}\n" for row in rows())
    new, count = TABLE.subn(lambda match: match["head"] + table, page)
    if count != 1:
        raise ValueError(f"The page needs one line <!-- differences --> with an empty line below, and has {count}.")
    return new


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not of today")
    check = parser.parse_args().check
    page = PAGE.read_text("utf-8")
    new = renewed(page)
    if check and new != page:
        print(f"{PAGE.name} does not have the list of differences: run python tools/local_differences.py")
        return 1
    if not check:
        PAGE.write_text(new, "utf-8")
    print(f"{PAGE.name}: {len(DIFFERENCES)} differences, each as the tests have it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
