"""How models are shown: a table that fits its line, a list of ids, a line of code. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.listing import CAN, listed
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.shown.numbers import plural, price, seconds
from chutes_core.shown.table import Table, fitted, width_of

__all__ = ["LEGEND", "changes", "fallback_line", "models_json", "models_table", "summary"]

_NEW = 60.0
LEGEND = "T tools  J JSON  S structured  R reasoning  V vision  M video  ? unknown"


def models_table(models: Sequence[ModelInfo], width: int | None) -> tuple[Table, str]:
    """Make the table, with words for the features where there is room; and what explains it otherwise.

    >>> table, legend = models_table([ModelInfo(id="acme/one", price_in=0.1, price_out=0.4)], 60)
    >>> [column.title for column in table.columns][:4], legend == LEGEND
    (['model', 'hot', '$ in', '$ out'], True)
    """
    wide = listed(models)
    if width is None or width_of(wide) <= width:
        return wide, ""
    table = fitted(listed(models, letters=True), width)
    return table, LEGEND if any(column.title == CAN for column in table.columns) else ""


def models_json(models: Sequence[ModelInfo], catalog: Catalog) -> dict[str, object]:
    """Give everything that is known of models, and of what the list is."""
    fetched = datetime.fromtimestamp(catalog.fetched_at, UTC).isoformat(timespec="seconds")
    return {
        "models": [info.to_dict() for info in models],
        "catalog": {"source": catalog.source, "fetched_at": fetched, "snapshot_date": catalog.snapshot_date},
    }


def fallback_line(ids: Sequence[str]) -> str:
    """Write the code that makes a fallback of models, for either framework.

    >>> fallback_line(["acme/one", "acme/two"])
    'ChutesFallback(["acme/one", "acme/two"])'
    """
    return f"ChutesFallback({json.dumps(list(ids))})"


def changes(before: Sequence[ModelInfo], after: Sequence[ModelInfo]) -> list[str]:
    """Say what a new list of models changed.

    >>> one, two = ModelInfo(id="acme/one", price_out=1.0), ModelInfo(id="acme/two")
    >>> changes([one, two], [ModelInfo(id="acme/one", price_out=0.5), ModelInfo(id="acme/new")])
    ['new     acme/new', 'gone    acme/two', 'price   acme/one: ? and 1.00 before, ? and 0.50 now']
    """
    old, new = ({info.id: info for info in each} for each in (before, after))
    told = [f"new     {name}" for name in new if name not in old]
    told += [f"gone    {name}" for name in old if name not in new]
    for name, info in new.items():
        earlier = old.get(name, info)
        if (info.price_in, info.price_out) != (earlier.price_in, earlier.price_out):
            told.append(f"price   {name}: {_both(earlier)} before, {_both(info)} now")
    return told


def _both(info: ModelInfo) -> str:
    return f"{price(info.price_in)} and {price(info.price_out)}"


def summary(models: Sequence[ModelInfo], catalog: Catalog) -> str:
    """Say how many models there are, and how old the list is.

    >>> summary((), Catalog.bundled(now=lambda: 0.0))
    '0 of 15 models; the snapshot of 2026-08-22 that ships with the library'
    """
    if catalog.source == "bundled":
        age = f"the snapshot of {catalog.snapshot_date} that ships with the library"
    else:
        old = catalog.now() - catalog.fetched_at
        age = f"fetched {seconds(old)} ago" if old >= _NEW else "just fetched"
    return f"{len(models)} of {plural(len(catalog), 'model')}; {age}"
