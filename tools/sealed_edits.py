"""Write the table of edits in docs/privacy.md: what a relay did to sealed streams, and what came of it.

python tools/sealed_edits.py            rewrite the table
python tools/sealed_edits.py --check    fail where the page says something else than a run of the edits

The edits are those of tests/core/e2ee/edits.py, whose test also holds the page to them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from tests.core.e2ee.edits import ERROR, OTHER, SAME, tried  # noqa: E402

PAGE = ROOT / "docs" / "privacy.md"


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| What the relay did | Tried | The same answer | An error | Another answer |"
    yield "| --- | --- | --- | --- | --- |"
    for kind, came in tried().items():
        yield f"| {kind} | {came.total()} | {came[SAME]} | {came[ERROR]} | {came[OTHER]} |"


def renewed(page: str) -> str:
    """Return the page with the table as a run of the edits has it."""
    return replaced(page, "edits", rows())


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not have what the edits came to: run python tools/sealed_edits.py",
        current=f"{sum(came.total() for came in tried().values())} edits, each as it came out",
    )


if __name__ == "__main__":
    sys.exit(main())
