"""Filtering, ordering and fuzzy matching of models. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import ConfigurationError
from chutes_core.warned import warn

__all__ = ["OrderBy", "as_words", "at_least", "at_most", "nearest", "one_of", "ordered"]

OrderBy = Literal["price", "context", "ttft", "tps"]


def as_words(
    words: Iterable[str] | str, *, what: str = "", known: Iterable[frozenset[str] | None] = ()
) -> frozenset[str]:
    """Return one word or several as a set; with ``what``, warn about a word that no model has.

    >>> sorted(as_words("tools")), sorted(as_words(["tools", "reasoning"]))
    (['tools'], ['reasoning', 'tools'])
    """
    wanted = frozenset([words] if isinstance(words, str) else words)
    if what and wanted:
        met = frozenset[str]().union(*(group for group in known if group is not None))
        for word in sorted(wanted - met):
            pictures = " For models that take pictures say modalities='image'." if word in ("vision", "image") else ""
            warn(f"No model in this catalogue has the {what} {word!r}; known are {', '.join(sorted(met))}.{pictures}")
    return wanted


def one_of(value: str | None, choices: Iterable[str], what: str) -> None:
    """Raise for a value that is neither None nor one of the choices."""
    if value is not None and value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ConfigurationError(f"{what} must be one of {listed} or None, not {value!r}.")


def at_least(value: float | None, bound: float | None) -> bool:
    """Return whether a value meets a lower bound; None as a value meets no bound, None as a bound is always met."""
    return bound is None or (value is not None and value >= bound)


def at_most(value: float | None, bound: float | None) -> bool:
    """Return whether a value meets an upper bound; None as in :func:`at_least`."""
    return bound is None or (value is not None and value <= bound)


def ordered(models: Iterable[ModelInfo], order_by: OrderBy | None) -> list[ModelInfo]:
    """Sort models, best first and unknown last; the sort is stable."""
    return list(models) if order_by is None else sorted(models, key=lambda info: _rank(info, order_by))


def _rank(info: ModelInfo, order_by: OrderBy) -> tuple[tuple[bool, float], ...]:
    if order_by == "price":
        values = (info.price_out, info.price_in)
    elif order_by == "ttft":
        values = (info.ttft, None)
    else:
        largest = info.context_length if order_by == "context" else info.tps
        values = (None if largest is None else -largest, None)
    return tuple((value is None, value or 0) for value in values)


def nearest(asked: str, models: Iterable[ModelInfo], *, limit: int = 3) -> tuple[str, ...]:
    """Return the ids that a mistyped name probably means, likeliest first.

    >>> nearest("kimi-k3", [ModelInfo(id="moonshotai/Kimi-K3-TEE"), ModelInfo(id="acme/other")])
    ('moonshotai/Kimi-K3-TEE',)
    """
    # Imported here because only a mistyped name needs it.
    from difflib import get_close_matches

    forms: dict[str, list[str]] = {}
    for info in models:
        for name in (info.id, info.root or ""):
            for form in {name.lower(), _bare(name)} - {""}:
                forms.setdefault(form, []).append(info.id)
    full, bare = asked.strip().lower(), _bare(asked.strip())
    held = [form for form in forms if len(bare) >= 3 and bare in form]
    # Cut to a length no name has, because the comparison takes quadratic time.
    alike = [*get_close_matches(bare[:200], forms, n=6), *get_close_matches(full[:200], forms, n=6)]
    ids = (info_id for form in [*held, *alike] for info_id in forms[form])
    return tuple(dict.fromkeys(ids))[:limit]


def _bare(name: str) -> str:
    """Return the part of a name that people remember: no owner, no ``-TEE``."""
    return name.lower().rpartition("/")[2].removesuffix("-tee")
