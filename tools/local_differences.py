"""Write the table of differences in docs/local.md out of the list that the tests hold the embedded Chutes to.

python tools/local_differences.py            rewrite the table
python tools/local_differences.py --check    fail where the page says something else than the list
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from tests.gateway.differences import DIFFERENCES  # noqa: E402

PAGE = ROOT / "docs" / "local.md"


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| What differs | Why |"
    yield "| --- | --- |"
    for each in DIFFERENCES:
        yield f"| {each.what} | {each.why} |"


def renewed(page: str) -> str:
    """Return the page with the table as the list has it."""
    return replaced(page, "differences", rows())


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not have the list of differences: run python tools/local_differences.py",
        current=f"{len(DIFFERENCES)} differences, each as the tests have it",
    )


if __name__ == "__main__":
    sys.exit(main())
