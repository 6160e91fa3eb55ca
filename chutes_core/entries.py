"""Where a client enters what a call uses, and what a request is held to before it is sent.

>>> budget = Budget(tokens=100)
>>> account = Account(budget, Catalog.bundled)
>>> held = account.hold({"model": "acme/embed", "input": ["Hello there!"]})
>>> budget.reserved.tokens
4
>>> held.release(); account("acme/embed", Usage(3, 0, 3)); budget
<Budget: 3 of 100 tokens spent>
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from chutes_core.budget import Budget, Hold, most, prompt_tokens
from chutes_core.catalog import Catalog
from chutes_core.meter import Meter, OpenCall, Watcher, watching
from chutes_core.request import model_infos
from chutes_core.usage import Ledger, Usage, cost

__all__ = ["Account", "Holds"]

_LIMITS = ("max_tokens", "max_completion_tokens")


class Account:
    """Where a client enters what one call uses: into its ledger, and with whoever watches the call.

    Args:
        ledger: The client's ledger; where it is a budget, each request is held to it.
        catalog: Prices and limits.
    """

    __slots__ = ("_catalog", "_ledger", "_watcher")

    def __init__(self, ledger: Ledger, catalog: Callable[[], Catalog]) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._watcher = watching()

    def __call__(self, model: str | None, usage: Usage | None) -> None:
        """Enter what a request used, whether it succeeded or broke in the middle."""
        info = self._catalog().get(model) if model else None
        price = cost(usage, info) if usage is not None and info is not None else None
        self._ledger.add(model or "unknown", usage, price)
        if self._watcher is not None:
            self._watcher.used(model or "unknown", usage, price, self._ledger)

    def left(self) -> None:
        """The call was left in the middle, cancelled say, of which no framework tells its handlers."""
        if isinstance(self._watcher, OpenCall):
            self._watcher.left()

    def hold(self, body: Mapping[str, object] | None) -> Holds | None:
        """Set aside what a request may use, in every budget that it is held to; None where nothing limits it.

        Raises:
            BudgetExceededError: It does not fit; nothing is to be sent.
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
        infos = model_infos(self._catalog(), model)
        held = Holds()
        try:
            for budget, meter in limits:
                known = infos if meter is None else meter.known(model, infos)
                wanted = most([budget.estimate(prompt, info, max_tokens=longest, answers=count) for info in known])
                if wanted is not None:
                    held.append(budget.reserve(model, wanted))
        except BaseException:
            held.release()  # it fits into one budget and not into the next
            raise
        return held

    def _limits(self, *, embeds: bool) -> Iterable[tuple[Budget, Meter | None]]:
        """Every budget that a request is held to, once; not those in which a handler has set aside the whole call."""
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
    """What a request has reserved, in one budget or in several."""

    def release(self) -> None:
        """Give it back."""
        for hold in self:
            hold.release()


def _counting(watcher: Watcher | None, *, embeds: bool) -> Iterator[tuple[Meter, bool]]:
    """Yield the meters that count a request, and whether its call has been set aside with each.

    No framework tells its handlers what is embedded, so that never is.
    """
    for member in getattr(watcher, "members", ()):
        yield member.meter, False
    while isinstance(watcher, OpenCall):
        yield watcher.meter, watcher.hold is not None and not embeds
        before = watcher.before  # two meters may count the same call
        watcher = before if isinstance(before, OpenCall) and before.id == watcher.id else None
