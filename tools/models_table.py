"""Write the table of models in docs/models.md out of the bundled catalogue.

python tools/models_table.py            rewrite the table
python tools/models_table.py --check    fail where the page says something else than the catalogue
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from page_table import replaced, run  # noqa: E402

from chutes_core import Catalog, ModelInfo  # noqa: E402
from chutes_core.shown.numbers import price, size  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
CAN = {"tools": "tools", "structured_outputs": "structured", "json_mode": "JSON", "reasoning": "reasoning"}
TAKES = {"image": "images", "video": "video"}


def can(info: ModelInfo) -> str:
    """Return what a model can do, in words.

    >>> can(ModelInfo(id="acme/one", features=frozenset({"tools"}), input_modalities=frozenset({"text", "image"})))
    'tools, images'
    """
    words = [word for name, word in CAN.items() if info.supports(name)]
    words += [word for name, word in TAKES.items() if info.takes(name)]
    return ", ".join(words) or ("?" if info.features is None else "text")


def rows(catalog: Catalog) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| Model | $ in | $ out | Window | Longest answer | Can | TEE |"
    yield "| --- | ---: | ---: | ---: | ---: | --- | --- |"
    for info in catalog.select(kind=None, order_by="price"):
        what = f"{info.dimensions:,} dimensions" if info.dimensions else can(info)
        sealed = {True: "yes", False: "no", None: "?"}[info.confidential]
        yield (
            f"| `{info.id}` | {price(info.price_in)} | {price(info.price_out)} | {size(info.context_length)} "
            f"| {size(info.max_output)} | {what} | {sealed} |"
        )


def renewed(page: str) -> str:
    """Return the page with the table and the date as the catalogue has them."""
    catalog = Catalog.bundled()
    dated = re.sub(r"the snapshot of [0-9-]+", f"the snapshot of {catalog.snapshot_date}", page)
    return replaced(dated, "models", rows(catalog))


def main() -> int:
    return run(
        PAGE,
        renewed,
        about=__doc__,
        old="has another table than the bundled catalogue: run python tools/models_table.py",
        current=f"{len(Catalog.bundled())} models, each as the bundled catalogue has it",
    )


if __name__ == "__main__":
    sys.exit(main())
