"""What holds whichever of several models answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.usage import cost

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.response import Reply

__all__ = ["Method", "echoes_reasoning", "every", "least", "price", "structured_method"]

Method = Literal["json_schema", "function_calling", "json_mode"]
_METHODS: dict[str, Method] = {
    "structured_outputs": "json_schema", "tools": "function_calling", "json_mode": "json_mode",
}  # fmt: skip
"""What a model has to support for each way to ask for structured output, the most reliable first."""


def least(values: Sequence[int | None]) -> int | None:
    """Return the least of several numbers; None if one is unknown.

    >>> least([2, 1]), least([2, None])
    (1, None)
    """
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def every(values: Sequence[bool | None]) -> bool | None:
    """Return whether something holds for all; None if that is unknown.

    >>> every([True, True]), every([True, None]), every([False, None])
    (True, None, False)
    """
    return False if False in values else None if None in values else True


def echoes_reasoning(infos: Sequence[ModelInfo]) -> bool:
    """Return whether any model that may answer wants the reasoning of its earlier turns."""
    return any(info.traits.echo_reasoning is True for info in infos)


def structured_method(infos: Sequence[ModelInfo], *, by_schema: bool = True) -> Method:
    """Return the most reliable way to ask for structured output that every model that may answer supports.

    All inference engines can enforce a schema, so that is tried if nothing is known; with ``by_schema=False`` never.
    """
    for feature, method in _METHODS.items():
        if (by_schema or method != "json_schema") and all(info.supports(feature) is True for info in infos):
            return method
    unknown = any(info.features is None for info in infos)
    return "json_schema" if unknown and by_schema else "function_calling"


def price(catalogs: Iterable[Catalog], reply: Reply) -> float | None:
    """Return what an answer cost, by the catalogues of the members; None if it is not known.

    If members shared a request, only the answer says whose price it has.
    """
    if reply.model is None or reply.usage is None:
        return None
    info = next((info for each in catalogs if (info := each.get(reply.model)) is not None), None)
    return cost(reply.usage, info) if info is not None else None
