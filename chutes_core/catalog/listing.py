"""Models as a table, and the list of models that shows itself as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias, overload

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.shown.numbers import plural, price, size
from chutes_core.shown.table import Cell, Column, Table
from chutes_core.shown.tabular import Tabular

if TYPE_CHECKING:
    _Slice: TypeAlias = slice[SupportsIndex | None, SupportsIndex | None, SupportsIndex | None]

__all__ = ["CAN", "Models", "listed"]

CAN = "can"
"""The title of the column with what a model can do."""
_SHORT = {"tools": "tools", "json_mode": "json", "structured_outputs": "struct", "reasoning": "think"}
_INPUTS = {"image": "vision", "video": "video"}
_LETTERS = {"tools": "T", "json_mode": "J", "structured_outputs": "S", "reasoning": "R", "image": "V", "video": "M"}


class Models(list[ModelInfo], Tabular):
    """A list of models that shows itself as a table, in a notebook, to rich and as text.

    >>> print(Models([ModelInfo(id="acme/one", price_in=0.1, price_out=0.4, context_length=8192)]).as_text(50))
    model     hot  $ in  $ out  window  can  TEE
    acme/one  ?    0.10   0.40      8k  ?    ?
    """

    __slots__ = ()

    @overload
    def __getitem__(self, place: SupportsIndex) -> ModelInfo: ...
    @overload
    def __getitem__(self, place: _Slice) -> Models: ...
    def __getitem__(self, place: SupportsIndex | _Slice) -> ModelInfo | Models:
        """Return a model, or some of them."""
        return Models(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def _title(self) -> str:
        return plural(len(self), "model")

    def _table(self) -> Table:
        return listed(self)


def listed(models: Sequence[ModelInfo], *, letters: bool = False) -> Table:
    """Return models as a table.

    Args:
        models: The models.
        letters: Write what they can do as letters, for which there is more room than for words.
    """
    columns = [
        Column("model"),
        Column("hot", drop=3),
        Column("$ in", right=True),
        Column("$ out", right=True),
        Column("cached", right=True, drop=7),
        Column("window", right=True),
        Column(CAN, drop=1),
        Column("TEE", drop=2),
        Column("TTFT s", right=True, drop=5),
        Column("tok/s", right=True, drop=6),
    ]
    return Table.of(columns, (_row(info, _letters(info) if letters else _words(info)) for info in models))


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
