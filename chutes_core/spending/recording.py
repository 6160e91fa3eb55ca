"""Where clients record usage, and how requests reserve from budgets before they are sent.

>>> budget = Budget(tokens=100)
>>> account = Account(budget, Catalog.bundled)
>>> held = account.hold({"model": "acme/embed", "input": ["Hello there!"]})
>>> budget.reserved.tokens
4
>>> held.release(); account("acme/embed", Usage(3, 0, 3)); budget
<Budget: 3 of 100 tokens spent>
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import model_infos
from chutes_core.spending.budget import Budget, Hold, most, prompt_tokens
from chutes_core.spending.meter import Meter, OpenCall, Watcher, watching
from chutes_core.usage import Ledger, Usage, cost

__all__ = ["Account", "Holds"]

_LIMITS = ("max_tokens", "max_completion_tokens")


class Account:
    """Records the usage of one call, in the client's ledger and with the call's watcher.

    Args:
        ledger: The client's ledger; if it is a budget, every request must fit it.
        catalog: Prices and limits.
        infos: What was looked up of the models that may answer, when the request was built.

    Attributes:
        infos: What is known of the models that may answer.
        spent: What was recorded last cost, in US dollars, if that is known.
    """

    __slots__ = ("_catalog", "_ledger", "_watcher", "infos", "spent")

    def __init__(self, ledger: Ledger, catalog: Callable[[], Catalog], infos: Sequence[ModelInfo] = ()) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self.infos = infos
        self._watcher = watching()
        self.spent: float | None = None

    def __call__(self, model: str | None, usage: Usage | None) -> float | None:
        """Record what a request used, whether it succeeded or broke midway; return what that cost, if known."""
        info = self._info(model) if model else None
        price = self.spent = cost(usage, info) if usage is not None and info is not None else None
        self._ledger.add(model or "unknown", usage, price)
        if self._watcher is not None:
            self._watcher.used(model or "unknown", usage, price, self._ledger)
        return price

    def _info(self, model: str) -> ModelInfo | None:
        return next((each for each in self.infos if each.id == model), None) or self._catalog().get(model)

    def left(self) -> None:
        """Note that the call was abandoned (for example, cancelled), which frameworks do not report."""
        if isinstance(self._watcher, OpenCall):
            self._watcher.left()

    def hold(self, body: Mapping[str, object] | None) -> Holds | None:
        """Reserve what a request may use in every budget that applies; None if none does.

        Raises:
            BudgetExceededError: The request does not fit and must not be sent.
        """
        if body is None or (self._watcher is None and not isinstance(self._ledger, Budget)):
            return None
        limits = self._limits(embeds="input" in body)
        if not limits:
            return None
        model, answers = str(body["model"]), body.get("n")
        given = [limit for name in _LIMITS if isinstance(limit := body.get(name), int)]
        prompt = prompt_tokens([body.get(name) for name in ("messages", "tools", "response_format", "input")])
        longest = 0 if "input" in body else max(given, default=None)
        count = answers if isinstance(answers, int) else 1
        infos = self.infos = self.infos or model_infos(self._catalog(), model)
        held = Holds()
        try:
            for budget, meter in limits:
                known = infos if meter is None else meter.known(model, infos)
                wanted = most([budget.estimate(prompt, info, max_tokens=longest, answers=count) for info in known])
                if wanted is not None:
                    held.append(budget.reserve(model, wanted))
        except BaseException:
            held.release()  # it fits one budget but not the next
            raise
        return held

    @property
    def limited(self) -> bool:
        """Whether a limit in dollars holds for the call."""
        if self._watcher is None and not isinstance(self._ledger, Budget):
            return False
        return any(budget.usd is not None for budget, _ in self._limits(embeds=False))

    def _limits(self, *, embeds: bool) -> Iterable[tuple[Budget, Meter | None]]:
        """Return each budget that applies to a request, except where a handler has reserved for the whole call."""
        limits: dict[int, tuple[Budget, Meter | None]] = {}
        if isinstance(self._ledger, Budget):
            limits[id(self._ledger)] = (self._ledger, None)
        for meter, set_aside in _counting(self._watcher, embeds=embeds):
            if set_aside:
                limits.pop(id(meter.budget), None)
            elif meter.budget is not None:
                limits[id(meter.budget)] = (meter.budget, meter)
        return limits.values()


class Holds(list[Hold]):
    """A request's reservations in one or more budgets."""

    def release(self) -> None:
        """Release all reservations."""
        for hold in self:
            hold.release()


def _counting(watcher: Watcher | None, *, embeds: bool) -> Iterator[tuple[Meter, bool]]:
    """Yield the meters that count a request, and whether its call has a reservation with each.

    Embeddings never do, because frameworks do not report them to handlers beforehand.
    """
    for member in getattr(watcher, "members", ()):
        yield member.meter, False
    while isinstance(watcher, OpenCall):
        yield watcher.meter, watcher.hold is not None and not embeds
        before = watcher.before  # two meters may count the same call
        watcher = before if isinstance(before, OpenCall) and before.id == watcher.id else None
