"""Tokens and money: what a call used, what it cost, and totals over many calls.

>>> ledger = Ledger()
>>> ledger.add("acme/one", Usage(1_000, 500, 1_500), cost=0.0003)
>>> ledger.add("acme/two", Usage(10, 5, 15))
>>> ledger
<Ledger: 2 calls, 1,515 tokens, $0.0003 and 1 call of unknown price>
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from chutes_core.door import count, mapping
from chutes_core.locks import Gate

if TYPE_CHECKING:
    from chutes_core.catalog.model_info import ModelInfo

__all__ = ["Ledger", "Totals", "Usage", "cost"]

_OTHER_NAMES = {
    "prompt_tokens": ("input_tokens", "prompt_token_count"),
    "completion_tokens": ("output_tokens", "candidates_token_count"),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one call. A count the service did not report is None.

    >>> Usage.parse({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 2})
    Usage(prompt_tokens=9, completion_tokens=5, total_tokens=14, reasoning_tokens=2, cached_tokens=None)
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None

    @classmethod
    def parse(cls, raw: object) -> Usage | None:
        """Read a ``usage`` object in either engine's format; None if there is none.

        Engines put ``reasoning_tokens`` at the top or under ``completion_tokens_details``, and
        ``cached_tokens`` at the top or under ``prompt_tokens_details``.

        Raises:
            ValueError: It is not an object, or a count is not a whole number of a possible size.
        """
        raw = mapping(raw, "usage")
        if raw is None:
            return None
        prompt, completion = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
        if prompt is None and completion is None:
            return None
        prompt, completion = prompt or 0, completion or 0
        total = _count(raw, "total_tokens")
        return cls(
            prompt,
            completion,
            prompt + completion if total is None else total,
            _nested(raw, "completion_tokens_details", "reasoning_tokens"),
            _nested(raw, "prompt_tokens_details", "cached_tokens"),
        )

    @classmethod
    def of_any(cls, raw: object) -> Usage | None:
        """Read what a model of any provider reports, whatever it calls its prompt and answer tokens.

        >>> Usage.of_any({"input_tokens": 9, "output_tokens": 5}).total_tokens
        14
        """
        dump = getattr(raw, "model_dump", None)
        told = dump() if callable(dump) else raw
        if not isinstance(told, Mapping):
            return None
        counts = {
            name: next((told[each] for each in (name, *others) if isinstance(told.get(each), int | float)), None)
            for name, others in _OTHER_NAMES.items()
        }
        return cls.parse({**told, **counts})

    def __add__(self, other: Usage) -> Usage:
        """Add two usages; a count unknown to both stays None."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.total_tokens + other.total_tokens,
            _sum(self.reasoning_tokens, other.reasoning_tokens),
            _sum(self.cached_tokens, other.cached_tokens),
        )


def cost(usage: Usage, info: ModelInfo) -> float | None:
    """Return the cost of a call in US dollars, from the model's prices per million tokens; None if unknown.

    Cached prompt tokens cost ``price_cached``, or the full price if that is unknown. A call without answer tokens,
    such as an embedding, needs no price for them.

    >>> from chutes_core.catalog.model_info import ModelInfo
    >>> info = ModelInfo(id="acme/one", price_in=0.4, price_out=3.0, price_cached=0.04)
    >>> cost(Usage(1_000_000, 100_000, 1_100_000, cached_tokens=500_000), info)
    0.52
    >>> cost(Usage(10, 5, 15), ModelInfo(id="acme/two")) is None
    True
    """
    if info.price_in is None or (info.price_out is None and usage.completion_tokens):
        return None
    # An engine that reports more cached than prompt tokens must not make the rest negative.
    cached = min(max(usage.cached_tokens or 0, 0), usage.prompt_tokens)
    cached_price = info.price_in if info.price_cached is None else info.price_cached
    fresh = (usage.prompt_tokens - cached) * info.price_in
    return (fresh + cached * cached_price + usage.completion_tokens * (info.price_out or 0.0)) / 1_000_000


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals over calls.

    Attributes:
        calls: The number of calls.
        usage: Their tokens.
        cost: US dollars, for the calls whose price is known.
        unpriced_calls: How many calls are missing from ``cost``; unless 0, ``cost`` is a lower bound.
    """

    calls: int = 0
    usage: Usage = Usage(0, 0, 0)
    cost: float = 0.0
    unpriced_calls: int = 0

    def __add__(self, other: Totals) -> Totals:
        """Add two totals."""
        return Totals(
            self.calls + other.calls,
            self.usage + other.usage,
            self.cost + other.cost,
            self.unpriced_calls + other.unpriced_calls,
        )

    def __sub__(self, before: Totals) -> Totals:
        """Return what was added since earlier totals of the same ledger; counts that may be unknown stay None."""
        now, then = self.usage, before.usage
        return Totals(
            self.calls - before.calls,
            Usage(
                now.prompt_tokens - then.prompt_tokens,
                now.completion_tokens - then.completion_tokens,
                now.total_tokens - then.total_tokens,
            ),
            self.cost - before.cost,
            self.unpriced_calls - before.unpriced_calls,
        )


class Ledger:
    """Adds up usage and cost by model. Thread-safe.

    >>> ledger = Ledger()
    >>> ledger.add("acme/one", Usage(10, 5, 15), cost=0.25)
    >>> ledger.add("acme/one", Usage(20, 5, 25), cost=0.5)
    >>> ledger.totals("acme/one").cost, ledger.totals().usage.total_tokens
    (0.75, 40)
    """

    def __init__(self) -> None:
        self._gate = Gate()
        self._totals: dict[str, Totals] = {}

    def add(self, model: str, usage: Usage | None, cost: float | None = None) -> None:
        """Add one call; None means that usage was not reported, or that the cost is unknown."""
        self._gate.change(partial(self._add, model, Totals(1, usage or Usage(0, 0, 0), cost or 0.0, int(cost is None))))

    def _add(self, model: str, entry: Totals) -> None:
        self._totals[model] = self._totals.get(model, Totals()) + entry

    def totals(self, model: str | None = None) -> Totals:
        """Return the totals of one model, or of all together."""
        entries = self.by_model()
        if model is not None:
            return entries.get(model, Totals())
        return sum(entries.values(), Totals())

    def by_model(self) -> dict[str, Totals]:
        """Return the current totals of each model."""
        with self._gate:
            return dict(self._totals)

    def reset(self) -> None:
        """Clear all totals."""
        with self._gate:
            self._totals.clear()

    def __repr__(self) -> str:
        total = self.totals()
        unpriced = f" and {_calls(total.unpriced_calls)} of unknown price" if total.unpriced_calls else ""
        tokens = f"{total.usage.total_tokens:,} tokens"
        return f"<Ledger: {_calls(total.calls)}, {tokens}, ${total.cost:.6g}{unpriced}>"

    def __getstate__(self) -> dict[str, Totals]:
        # The lock belongs to this process.
        return self.by_model()

    def __setstate__(self, state: dict[str, Totals]) -> None:
        self._gate = Gate()
        self._totals = dict(state)


def _calls(number: int) -> str:
    return f"{number:,} call{'' if number == 1 else 's'}"


def _count(raw: Mapping[str, object], key: str, place: str = "usage") -> int | None:
    return count(raw.get(key), f"{place}.{key}")


def _nested(raw: Mapping[str, object], group: str, key: str) -> int | None:
    details = mapping(raw.get(group), f"usage.{group}")
    found = _count(details, key, f"usage.{group}") if details is not None else None
    return _count(raw, key) if found is None else found


def _sum(left: int | None, right: int | None) -> int | None:
    return None if left is None and right is None else (left or 0) + (right or 0)
