"""Write the table in docs/catalog.md of what is known of the streams of each family of models.

python tools/engine_table.py            rewrite the table
python tools/engine_table.py --check    fail where the page says something else than the recordings and the catalogue
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from chutes_core.catalog.catalog import Catalog  # noqa: E402
from tests.gateway.recordings import ENGINES  # noqa: E402

PAGE = ROOT / "docs" / "catalog.md"
_SOFTWARE = ("vLLM", "SGLang")


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    models = Catalog.bundled().select()
    yield "| Family | Models | vLLM | SGLang |"
    yield "| --- | ---: | --- | --- |"
    for family in sorted({tag for model in models for tag in model.tags}):
        number = sum(family in model.tags for model in models)
        yield f"| {family} | {number} | {' | '.join(_known(family, engine) for engine in _SOFTWARE)} |"


def _known(family: str, engine: str) -> str:
    cases = [each.facts for each in ENGINES if (each.facts["family"], each.facts["engine"]) == (family, engine)]
    shown = sum(not each["described"] for each in cases)
    return f"{shown} recorded" if shown else "only described" if cases else "**none**"


def renewed(page: str) -> str:
    """Return the page with the table of today."""
    return replaced(page, "engines", rows())


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="does not have what is recorded of each family: run python tools/engine_table.py",
        current=f"{len(ENGINES)} streams of engines",
    )


if __name__ == "__main__":
    sys.exit(main())
