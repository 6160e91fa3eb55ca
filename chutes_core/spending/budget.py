"""Limits on what calls may cost, enforced before anything is sent.

A :class:`Budget` is a ledger with limits. A call first reserves the most it may use; if that no longer fits alongside
what was spent and what other calls have reserved, it is refused and nothing is sent. When the call ends, its actual
usage replaces the reservation.

>>> budget = Budget(usd=0.01)
>>> with budget.reserve("acme/one", Estimate(1_500, 0.006)) as hold:
...     hold.settle(Usage(500, 400, 900), cost=0.004)
>>> budget
<Budget: $0.004 of $0.01 spent>
>>> budget.reserve("acme/one", Estimate(2_000, 0.008))
Traceback (most recent call last):
chutes_core.errors.BudgetExceededError: Nothing was sent to acme/one: this call may cost up to $0.008, with $0.006 \
of $0.01 left ($0.004 spent, $0 reserved by calls under way). ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, cast, get_args

from chutes_core.errors import BudgetExceededError, ConfigurationError
from chutes_core.locks import Gate
from chutes_core.usage import Ledger, Totals, Usage, cost

if TYPE_CHECKING:
    from chutes_core.catalog.model_info import ModelInfo

__all__ = ["Budget", "Estimate", "Hold", "estimate", "most", "prompt_tokens"]

# Assumed answer length if neither the call nor the catalogue limits it.
REPLY_TOKENS = 4_096
# The gateway downscales images to 1,024 pixels; one of that size takes about this many tokens.
_PER_MEDIUM = 1_200
_PER_ITEM = 4
# Keys and values that every message has: already counted in the four. Those in tools and schemas are the caller's.
_FRAME = ("role", "type", "content", "text")
_WORDS = ("role", "type")
_MEDIA = ("image", "video", "audio", "file")
Unpriced = Literal["refuse", "allow"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """The most a call may use; ``usd`` is None if the model's price is unknown."""

    tokens: int
    usd: float | None


def prompt_tokens(value: object) -> int:
    """Estimate the tokens in a prompt given as plain data, erring on the high side.

    Three English letters, one digit, or one letter of any other script count as a token; an image counts as 1,200.

    >>> prompt_tokens([{"role": "user", "content": "Hello there!"}])
    8
    >>> prompt_tokens("这是多少个词元")
    7
    """
    if isinstance(value, str):
        plain, digits = len(value.encode("ascii", "ignore")), sum(map(value.count, "0123456789"))
        return math.ceil((plain - digits) / 3) + digits + len(value) - plain
    if isinstance(value, Mapping):
        if str(value.get("type", "")).removeprefix("input_").startswith(_MEDIA):
            return _PER_MEDIUM
        return _PER_ITEM + sum(
            prompt_tokens(part) + (0 if name in _FRAME else prompt_tokens(name))
            for name, part in value.items()
            if not (name in _WORDS and isinstance(part, str))
        )
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return sum(map(prompt_tokens, value))
    return int(isinstance(value, int | float))  # token ids, or a number in a schema


def estimate(
    prompt: int,
    info: ModelInfo | None = None,
    *,
    max_tokens: int | None = None,
    reply_tokens: int | None = None,
    answers: int = 1,
) -> Estimate:
    """Return the most a call may use: its prompt plus the longest answer it may get.

    Args:
        prompt: Tokens in the prompt.
        info: The model, if known.
        max_tokens: The call's limit on the answer; 0 for a call without one, such as an embedding.
        reply_tokens: Assumed answer length if the call sets no limit; None uses the model's maximum.
        answers: Number of answers requested.

    >>> from chutes_core.catalog.model_info import ModelInfo
    >>> info = ModelInfo(id="acme/one", price_in=1.0, price_out=4.0, max_output=2_000)
    >>> estimate(1_000, info, max_tokens=500)
    Estimate(tokens=1500, usd=0.003)
    >>> estimate(1_000, info), estimate(1_000)
    (Estimate(tokens=3000, usd=0.009), Estimate(tokens=5096, usd=None))
    """
    reply = next((each for each in (max_tokens, reply_tokens) if each is not None), None)
    if reply is None:
        reply = _longest(prompt, info)
    usage = Usage(prompt, reply * answers, prompt + reply * answers)
    return Estimate(usage.total_tokens, cost(usage, info) if info is not None else None)


def _longest(prompt: int, info: ModelInfo | None) -> int:
    if info is None:
        return REPLY_TOKENS
    window = None if info.context_length is None else max(info.context_length - prompt, 1)
    known = [limit for limit in (info.max_output, window) if limit is not None]
    return min(known, default=REPLY_TOKENS)


def most(estimates: Sequence[Estimate]) -> Estimate | None:
    """Return the most that any of several possible calls may use; None if there are none.

    >>> most([Estimate(100, 0.5), Estimate(200, 0.1)])
    Estimate(tokens=200, usd=0.5)
    """
    if not estimates:
        return None
    prices = [each.usd for each in estimates if each.usd is not None]
    known = len(prices) == len(estimates)
    return Estimate(max(each.tokens for each in estimates), max(prices) if known else None)


class Budget(Ledger):
    """A limit on the total cost of calls. Thread-safe.

    Args:
        usd: Maximum cost in US dollars.
        tokens: Maximum number of tokens, prompts and answers together.
        reply_tokens: Assumed answer length for calls without ``max_tokens``, instead of the catalogue's maximum.
        unpriced: With a dollar limit, "refuse" calls whose price is unknown, or "allow" them: they then count as free,
            and ``totals().unpriced_calls`` counts them.

    Shallow copies and unpickled budgets are independent, a deep copy is the same budget; use :meth:`split` to share
    one between processes.

    >>> Budget(usd=5, tokens=1_000_000)
    <Budget: $0 of $5, 0 of 1,000,000 tokens spent>
    """

    def __init__(
        self,
        usd: float | None = None,
        tokens: int | None = None,
        *,
        reply_tokens: int | None = None,
        unpriced: Unpriced = "refuse",
    ) -> None:
        super().__init__()
        for name, limit in (("usd", usd), ("tokens", tokens), ("reply_tokens", reply_tokens)):
            if limit is not None and (isinstance(limit, bool) or not _is_positive(limit)):
                raise ConfigurationError(f"{name} must be a positive number, not {limit!r}.")
        if usd is None and tokens is None:
            raise ConfigurationError("A budget needs a limit: usd=, tokens=, or both. To only add up, use a Ledger.")
        if unpriced not in get_args(Unpriced):
            raise ConfigurationError(f"unpriced must be 'refuse' or 'allow', not {unpriced!r}.")
        self.usd = usd
        self.tokens = tokens
        self.reply_tokens = reply_tokens
        self.unpriced = unpriced
        self._reserving = Gate()
        self._holds: set[Hold] = set()

    @property
    def reserved(self) -> Estimate:
        """What calls in progress may still use."""
        with self._reserving:
            return self._reserved()

    def _reserved(self) -> Estimate:
        holds = [hold.estimate for hold in self._holds]
        return Estimate(sum(each.tokens for each in holds), math.fsum(each.usd or 0.0 for each in holds))

    def estimate(
        self, prompt: int, info: ModelInfo | None = None, *, max_tokens: int | None = None, answers: int = 1
    ) -> Estimate:
        """Call :func:`estimate` with this budget's ``reply_tokens``."""
        return estimate(prompt, info, max_tokens=max_tokens, reply_tokens=self.reply_tokens, answers=answers)

    def reserve(self, model: str, wanted: Estimate) -> Hold:
        """Reserve what a call may use, or refuse it.

        Raises:
            BudgetExceededError: The call does not fit; nothing was reserved.
        """
        hold = Hold(self, model, wanted)
        with self._reserving:
            # A call settled in between is counted twice, as spent and as reserved, but never missed.
            held, spent = self._reserved(), self.totals()
            self._check(model, wanted, held, spent)
            self._holds.add(hold)
        return hold

    def _check(self, model: str, wanted: Estimate, held: Estimate, spent: Totals) -> None:
        if self.usd is not None and wanted.usd is None and self.unpriced == "refuse":
            raise BudgetExceededError(
                f"Nothing was sent to {model}: its price is not known, so a limit in dollars cannot hold. Give the "
                "price to the handler (prices=), limit tokens instead, or allow such calls: unpriced='allow'.",
                model=model,
                budget=self,
            )
        usd, used = wanted.usd or 0.0, spent.usage.total_tokens
        for limit, asked, done, kept, show, whole, verb in (
            (self.usd, usd, spent.cost, held.usd or 0.0, _dollars, _dollars, "cost"),
            (self.tokens, float(wanted.tokens), float(used), float(held.tokens), _count, _tokens, "use"),
        ):
            if limit is None or done + kept + asked <= limit * (1 + 1e-12):
                continue
            left = max(limit - done - kept, 0.0)
            raise BudgetExceededError(
                f"Nothing was sent to {model}: this call may {verb} up to {whole(asked)}, with {show(left)} of "
                f"{whole(limit)} left ({show(done)} spent, {show(kept)} reserved by calls under way). Lower max_tokens "
                "to make the call smaller, raise the limit, or call budget.reset() to start over.",
                model=model,
                budget=self,
            )

    def _end(self, hold: Hold) -> None:
        self._reserving.change(partial(self._holds.discard, hold))

    def split(self, parts: int) -> list[Budget]:
        """Divide what is left into equal budgets, one for each process.

        >>> Budget(usd=1.0, tokens=1_000).split(4)[0]
        <Budget: $0 of $0.25, 0 of 250 tokens spent>
        """
        if parts < 1:
            raise ConfigurationError(f"A budget is split into 1 part or more, not {parts}.")
        with self._reserving:
            held, spent = self._reserved(), self.totals()
        usd = None if self.usd is None else (self.usd - spent.cost - (held.usd or 0.0)) / parts
        tokens = None if self.tokens is None else (self.tokens - spent.usage.total_tokens - held.tokens) // parts
        if (usd is not None and usd <= 0) or (tokens is not None and tokens <= 0):
            raise BudgetExceededError(f"Nothing is left to split of {self!r}.", budget=self)
        kept = {"reply_tokens": self.reply_tokens, "unpriced": self.unpriced}
        return [Budget(usd, tokens, **kept) for _ in range(parts)]  # type: ignore[arg-type]

    def __repr__(self) -> str:
        spent = self.totals()
        told = [
            f"{show(done)} of {show(limit)}{unit}"
            for limit, done, show, unit in (
                (self.usd, spent.cost, _dollars, ""),
                (self.tokens, float(spent.usage.total_tokens), _count, " tokens"),
            )
            if limit is not None
        ]
        return f"<Budget: {', '.join(told)} spent>"

    def __getstate__(self) -> dict[str, object]:  # type: ignore[override]
        limits = {name: getattr(self, name) for name in ("usd", "tokens", "reply_tokens", "unpriced")}
        return {"limits": limits, "spent": self.by_model()}

    def __setstate__(self, state: Mapping[str, object]) -> None:
        Budget.__init__(self, **cast("Mapping[str, float]", state["limits"]))  # type: ignore[arg-type]
        self._totals = dict(cast("Mapping[str, Totals]", state["spent"]))

    def __deepcopy__(self, memo: object) -> Budget:
        return self  # shared on purpose: a copied model spends from the same budget


class Hold:
    """One call's reservation. As a context manager, it is released at the end of the block."""

    def __init__(self, budget: Budget, model: str, estimate: Estimate) -> None:
        self.model = model
        self.estimate = estimate
        self.budget = budget

    def settle(self, usage: Usage | None, cost: float | None = None, *, model: str | None = None) -> None:
        """Record what the call actually used and release the reservation."""
        self.budget.add(model or self.model, usage, cost)
        self.release()

    def release(self) -> None:
        """Release the reservation."""
        self.budget._end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _is_positive(limit: object) -> bool:
    return isinstance(limit, int | float) and math.isfinite(limit) and limit > 0


def _dollars(amount: float) -> str:
    return f"${amount:.6g}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _tokens(number: float) -> str:
    return f"{_count(number)} token{'' if number == 1 else 's'}"
