"""How models are shown: a table that fits its line, a list of ids, a line of code. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from chutes_cli.numbers import plural, price, seconds, size
from chutes_cli.table import Cell, Column, Table, fitted, width_of
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo

__all__ = ["LEGEND", "changes", "fallback_line", "models_json", "models_table", "summary"]

_SHORT = {"tools": "tools", "json_mode": "json", "structured_outputs": "struct", "reasoning": "think"}
_INPUTS = {"image": "vision", "video": "video"}
_LETTERS = {"tools": "T", "json_mode": "J", "structured_outputs": "S", "reasoning": "R", "image": "V", "video": "M"}
_NEW = 60.0
_CAN = "can"
LEGEND = "T tools  J JSON  S structured  R reasoning  V vision  M video  ? unknown"


def models_table(models: Sequence[ModelInfo], width: int | None) -> tuple[Table, str]:
    """Make the table, with words for the features where there is room; and what explains it otherwise.

    >>> table, legend = models_table([ModelInfo(id="acme/one", price_in=0.1, price_out=0.4)], 60)
    >>> [column.title for column in table.columns][:4], legend == LEGEND
    (['model', 'hot', '$ in', '$ out'], True)
    """
    wide = _table(models, compact=False)
    if width is None or width_of(wide) <= width:
        return wide, ""
    table = fitted(_table(models, compact=True), width)
    return table, LEGEND if any(column.title == _CAN for column in table.columns) else ""


def _table(models: Sequence[ModelInfo], *, compact: bool) -> Table:
    columns = [
        Column("model"),
        Column("hot", drop=3),
        Column("$ in", right=True),
        Column("$ out", right=True),
        Column("cached", right=True, drop=7),
        Column("window", right=True),
        Column(_CAN, drop=1),
        Column("TEE", drop=2),
        Column("TTFT s", right=True, drop=5),
        Column("tok/s", right=True, drop=6),
    ]
    return Table.of(columns, (_row(info, _letters(info) if compact else _words(info)) for info in models))


def _row(info: ModelInfo, features: str) -> list[Cell | str]:
    return [
        info.id,
        _hot(info.hot),
        price(info.price_in),
        price(info.price_out),
        price(info.price_cached),
        size(info.context_length),
        features,
        _yes(info.confidential),
        "?" if info.ttft is None else f"{info.ttft:.2f}",
        "?" if info.tps is None else f"{info.tps:.0f}",
    ]


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def _hot(value: bool | None) -> Cell:
    return Cell(_yes(value), "" if value is None else "green" if value else "yellow")


def _words(info: ModelInfo) -> str:
    if info.paths and info.kind != "chat":
        return f"{info.kind}: {' '.join(sorted(info.paths))}"
    if info.features is None and info.input_modalities is None:
        return "?" if info.dimensions is None else f"{info.dimensions:,} dimensions"
    words = [word for name, word in _SHORT.items() if info.supports(name)]
    words += [word for name, word in _INPUTS.items() if info.takes(name)]
    return " ".join(words) or ("-" if info.dimensions is None else f"{info.dimensions:,} dimensions")


def _letters(info: ModelInfo) -> str:
    if info.kind != "chat":
        return info.kind
    if info.features is None and info.input_modalities is None:
        return "?"
    return "".join(letter if info.supports(name) or info.takes(name) else "-" for name, letter in _LETTERS.items())


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
