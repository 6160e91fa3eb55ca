"""What the calls of a program used and cost, by model and by run, whichever framework makes them.

A framework's handler tells a :class:`Meter` when runs and calls begin and end. A call of ours is also told by the
client that makes it, request for request, through :func:`watching`: so tries that failed, streams that were left
early and embeddings are in the sum, of which a framework tells its handlers nothing.

>>> meter = Meter(prices={"other/model": (1.0, 2.0)})
>>> call = meter.open("call 1", model="other/model", run="run 1")
>>> meter.close("call 1", [("other/model", Usage(1_000, 500, 1_500), None)])
>>> meter.ledger
<Ledger: 1 call, 1,500 tokens, $0.002>
>>> meter.runs
[Run('run 1', 1 call, 1,500 tokens, $0.002)]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Protocol

from chutes_core.budget import Budget, Estimate, Hold, most
from chutes_core.errors import ConfigurationError
from chutes_core.gate import Gate
from chutes_core.model_info import ModelInfo
from chutes_core.request import model_infos
from chutes_core.usage import Ledger, Totals, Usage, cost

if TYPE_CHECKING:
    from chutes_core.catalog import Catalog

__all__ = ["Meter", "OpenCall", "Run", "Unbegun", "Watcher", "watch", "watching"]

Used = tuple[str, Usage | None, float | None]
Prices = Mapping[str, tuple[float, float] | ModelInfo]
KEPT_RUNS = 1_000


class Watcher(Protocol):
    """Is told what every request of a client used.

    One that stands for several handlers has them in ``members``, each with its ``meter``: what is asked outside of
    their calls, an embedding say, is held to the budget of each.
    """

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None) -> None:
        """A request has ended; ``ledger`` is the client's own, which has it by now."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("chutes_watcher", default=None)


def watching() -> Watcher | None:
    """Who is to be told of the requests of a call that begins now, in this context."""
    found = _WATCHER.get()
    while isinstance(found, OpenCall) and found.over:
        found = found.before
    return found


def watch(watcher: Watcher | None) -> None:
    """Have somebody told of the calls that begin in this context from now on."""
    _WATCHER.set(watcher)


class Run(Ledger):
    """What one run of a program used: an agent's, a chain's, or that of a single call.

    Attributes:
        id: The framework's id.
        name: What it calls it.
    """

    def __init__(self, run_id: Hashable, name: str = "") -> None:
        super().__init__()
        self.id = run_id
        self.name = name

    def __repr__(self) -> str:
        return super().__repr__().replace("<Ledger: ", f"Run({self.name or str(self.id)!r}, ", 1)[:-1] + ")"


class OpenCall:
    """A call under way, as whoever is told of its requests.

    Attributes:
        id: The framework's id.
        model: The model that was asked.
        run: The run that it belongs to.
        hold: What it has reserved.
        deaf: Only what the framework says of it counts.
        mute: The framework says nothing of it that counts.
        parts: Calls that were made for this one have been opened: they count, and this one does not.
        told: A client has said what it used.
        counted: The framework has.
        over: It has ended.
        before: Who was told of the calls before this one.
        meter: Who opened it.
    """

    def __init__(
        self,
        meter: Meter,
        call: Hashable,
        model: str,
        run: Run,
        hold: Hold | None,
        *,
        deaf: bool = False,
        mute: bool = False,
    ) -> None:
        self.id = call
        self.model = model
        self.run = run
        self.hold = hold
        self.deaf = deaf
        self.mute = mute
        self.parts = self.told = self.counted = self.over = False
        self.before = watching()
        self.meter = meter

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None = None) -> None:
        """Enter a request, unless the framework has told of the whole call by now."""
        if isinstance(self.before, OpenCall) and self.before.id == self.id:
            self.before.used(model, usage, cost, ledger)  # two meters count the same call
        if not (self.deaf or self.parts or self.counted):
            self.told = True
            self.meter.enter(self.run, model, usage, cost, ledger)

    def left(self) -> None:
        """A client has left a request of it, and nobody else will say that it is over."""
        if not self.deaf:
            self.end()

    def end(self) -> None:
        """It is over, and nothing more is to be said of it."""
        if isinstance(self.before, OpenCall) and self.before.id == self.id:
            self.before.end()
        self.meter.close(self.id)


class Unbegun:
    """Ends the call of a stream that is dropped before it begins: no framework tells its handlers of that.

    The generator that gives the stream owns this and calls :meth:`begin` first of all; one that never runs cannot
    tidy up after itself.

    >>> meter = Meter(Budget(tokens=100))
    >>> call = meter.open("call", model="acme/one", wanted=Estimate(60, None))
    >>> unbegun = Unbegun()
    >>> del unbegun
    >>> call.over
    True
    """

    __slots__ = ("_call",)

    def __init__(self) -> None:
        found = watching()
        self._call = found if isinstance(found, OpenCall) else None

    def begin(self) -> None:
        """From now on the generator's own end is seen."""
        self._call = None

    def __del__(self) -> None:
        if self._call is not None:
            self._call.end()


class Meter:
    """Adds up by model and by run, and holds calls to a budget. Any number of threads may share one.

    Args:
        budget: Limits; a call that would pass them is refused.
        prices: US dollars per million tokens of prompt and of answer, for models of other providers.
        catalog: The prices and limits of models on Chutes; by default the newest at hand.
        keep_runs: How many of the latest runs to keep.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        prices: Prices | None = None,
        catalog: Catalog | None = None,
        keep_runs: int = KEPT_RUNS,
    ) -> None:
        if budget is not None and not isinstance(budget, Budget):
            raise ConfigurationError(f"budget must be a Budget(usd=, tokens=), not a {type(budget).__name__}.")
        self.budget = budget
        self.ledger = Ledger()
        self._prices = {model: _priced(model, price) for model, price in (prices or {}).items()}
        self._catalog = catalog
        self._keep = keep_runs
        self._gate = Gate()
        self._roots: dict[Hashable, Run] = {}
        self._runs: dict[Hashable, Run] = {}
        self._open: dict[Hashable, OpenCall] = {}

    # --- what begins and ends ----------------------------------------------------------------------

    def begin(self, step: Hashable, parent: Hashable | None, name: str = "") -> None:
        """A step of a program has begun: one without a known parent is a run of its own."""
        with self._gate:
            self._roots[step] = self._root(step, parent, name)

    def end(self, step: Hashable) -> None:
        """A step has ended."""
        self._roots.pop(step, None)  # one step, which needs no lock: it may be a finaliser's

    def _root(self, step: Hashable, parent: Hashable | None, name: str) -> Run:
        known = self._roots.get(parent) if parent is not None else None
        root = step if parent is None else parent  # a parent that nobody told of holds its calls together too
        return known or self._runs.get(root) or Run(root, name)

    def open(
        self,
        call: Hashable,
        *,
        model: str,
        run: Hashable | None = None,
        name: str = "",
        wanted: Estimate | None = None,
        deaf: bool = False,
        mute: bool = False,
    ) -> OpenCall:
        """A call begins, and from now on it is told of the requests that are made for it in this context.

        Args:
            call: Its id; a call that is open already is not opened twice.
            model: The model that is asked.
            run: The step that it is a part of.
            name: What its run is called, where it is one by itself.
            wanted: What it may use at most.
            deaf: Count what the framework says of it, and not what clients say.
            mute: Count what clients say of it, and not what the framework says.

        Raises:
            BudgetExceededError: That does not fit.
        """
        with self._gate:
            known = self._open.get(call)
            if known is not None:
                return known
            above = self._open.get(run) if run is not None else None
            root = above.run if above is not None else self._root(call, run, name)
        if above is not None:
            above.parts = True
            if above.hold is not None:
                above.hold.release()  # what is made for a call reserves for itself
        hold = self.budget.reserve(model, wanted) if self.budget is not None and wanted is not None else None
        opened = OpenCall(self, call, model, root, hold, deaf=deaf, mute=mute)
        self._open[call] = opened
        watch(opened)
        return opened

    def close(self, call: Hashable, uses: Iterable[Used] = ()) -> None:
        """A call is over. ``uses`` is what the framework says of it; what the client said goes before that."""
        opened = self._open.pop(call, None)
        if opened is None:
            return
        if not (opened.told or opened.parts or opened.mute):
            for model, usage, price in uses:
                opened.counted = True
                self.enter(opened.run, model or opened.model, usage, price)
        opened.over = True
        if opened.hold is not None:
            opened.hold.release()

    def abandon(self) -> None:
        """Close the calls that are open, when nobody will tell of their end."""
        self._roots.clear()
        for call in self._open.copy():
            self.close(call)

    # --- what was used -----------------------------------------------------------------------------

    def enter(
        self, run: Run | None, model: str, usage: Usage | None, price: float | None, ledger: Ledger | None = None
    ) -> None:
        """Enter what was used; ``ledger`` is one that has it already."""
        if price is None and usage is not None and model in self._prices:
            price = cost(usage, self._prices[model])
        self.ledger.add(model, usage, price)
        if self.budget is not None and ledger is not self.budget:
            self.budget.add(model, usage, price)
        if run is None:
            return
        run.add(model, usage, price)
        self._gate.change(partial(self._keep_run, run))

    def _keep_run(self, run: Run) -> None:
        self._runs.pop(run.id, None)
        self._runs[run.id] = run  # the latest is last
        while len(self._runs) > self._keep:
            del self._runs[next(iter(self._runs))]

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None = None) -> None:
        """Enter a request that belongs to no run."""
        self.enter(None, model, usage, cost, ledger)

    # --- what is known -----------------------------------------------------------------------------

    def _infos(self, model: str, *, ours: bool) -> list[ModelInfo]:
        """Limits and prices of whoever may answer: those that were given, or the catalogue's of models on Chutes."""
        if model in self._prices or not ours:
            return [self._prices.get(model) or ModelInfo(id=model)]
        if self._catalog is None:
            from chutes_core.catalog import Catalog

            self._catalog = Catalog.load()
        return model_infos(self._catalog, model)

    def known(self, model: str, infos: Sequence[ModelInfo]) -> Sequence[ModelInfo]:
        """Limits and prices of a model: those that were given here, or else those that a client knows."""
        return [self._prices[model]] if model in self._prices else infos

    def estimate(
        self, model: str, prompt: int, *, ours: bool, max_tokens: int | None = None, answers: int = 1
    ) -> Estimate | None:
        """Bound a call; of a list of models, by the most that one of them may use. None without a budget."""
        if self.budget is None:
            return None
        estimate = partial(self.budget.estimate, prompt, max_tokens=max_tokens, answers=answers)
        return most([estimate(info) for info in self._infos(model, ours=ours)])

    def price(self, model: str, usage: Usage | None, *, ours: bool) -> float | None:
        """What a call cost; None where that is not known."""
        if usage is None or not model:
            return None
        infos = self._infos(model, ours=ours)
        return cost(usage, infos[0]) if len(infos) == 1 else None

    @property
    def runs(self) -> list[Run]:
        """The latest runs that used something, the latest last."""
        with self._gate:
            return list(self._runs.values())

    def totals(self) -> Totals:
        """The sum of everything."""
        return self.ledger.totals()

    def reset(self) -> None:
        """Forget what was used. A budget stays as it is."""
        self.ledger.reset()
        with self._gate:
            self._runs.clear()


def _priced(model: str, price: object) -> ModelInfo:
    if isinstance(price, ModelInfo):
        return price
    if isinstance(price, tuple) and len(price) == 2 and all(isinstance(each, int | float) for each in price):
        return ModelInfo(id=model, price_in=float(price[0]), price_out=float(price[1]))
    raise ConfigurationError(f"The price of {model!r} must be (prompt, answer) in US dollars per million tokens.")
