"""Track what a program's calls use and cost, by model and by run, in any framework.

A framework's handler tells a :class:`Meter` when runs and calls begin and end. The Chutes clients also report every
request through :func:`watching`, so that failed attempts, abandoned streams and embeddings are counted, which
frameworks do not report to their handlers.

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

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import model_infos
from chutes_core.errors import ConfigurationError
from chutes_core.locks import Gate
from chutes_core.settings import Settings
from chutes_core.spending.budget import Budget, Estimate, Hold, most
from chutes_core.usage import Ledger, Totals, Usage, cost

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog

__all__ = ["Meter", "OpenCall", "Run", "Unbegun", "Watcher", "watch", "watching"]

Used = tuple[str, Usage | None, float | None]
Prices = Mapping[str, tuple[float, float] | ModelInfo]
KEPT_RUNS = 1_000


class Watcher(Protocol):
    """Receives the usage of every client request.

    One that combines several handlers has them in ``members``, each with its ``meter``: requests outside their calls,
    such as embeddings, must fit each one's budget.
    """

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None) -> None:
        """Record a request; ``ledger`` is the client's own, which already has it."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("chutes_watcher", default=None)


def watching() -> Watcher | None:
    """Return the watcher for a call that begins now in this context."""
    found = _WATCHER.get()
    while isinstance(found, OpenCall) and found.over:
        found = found.before
    return found


def watch(watcher: Watcher | None) -> None:
    """Set the watcher for calls that begin in this context from now on."""
    _WATCHER.set(watcher)


class Run(Ledger):
    """Usage of one run: an agent, a chain, or a single call.

    Attributes:
        id: The framework's id.
        name: The framework's name for it.
    """

    def __init__(self, run_id: Hashable, name: str = "") -> None:
        super().__init__()
        self.id = run_id
        self.name = name

    def __repr__(self) -> str:
        return super().__repr__().replace("<Ledger: ", f"Run({self.name or str(self.id)!r}, ", 1)[:-1] + ")"


class OpenCall:
    """A call in progress, which watches its own requests.

    Attributes:
        id: The framework's id.
        model: The model called.
        run: The run it belongs to.
        hold: Its reservation.
        deaf: Count only what the framework reports.
        mute: Ignore what the framework reports.
        parts: Nested calls have been opened: they count, and this one does not.
        told: A client has reported usage.
        counted: The framework has reported usage.
        base_url: The gateway that is asked; None for the service's, or another provider's.
        over: It has ended.
        before: The previous watcher.
        meter: The meter that opened it.
    """

    def __init__(
        self,
        meter: Meter,
        call: Hashable,
        model: str,
        run: Run,
        hold: Hold | None,
        *,
        base_url: str | None = None,
        deaf: bool = False,
        mute: bool = False,
    ) -> None:
        self.id = call
        self.model = model
        self.run = run
        self.hold = hold
        self.base_url = base_url
        self.deaf = deaf
        self.mute = mute
        self.parts = self.told = self.counted = self.over = False
        self.before = watching()
        self.meter = meter

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None = None) -> None:
        """Record a request, unless the framework has already reported the whole call."""
        if isinstance(self.before, OpenCall) and self.before.id == self.id:
            self.before.used(model, usage, cost, ledger)  # two meters count the same call
        if not (self.deaf or self.parts or self.counted):
            self.told = True
            self.meter.enter(self.run, model, usage, cost, ledger)

    def left(self) -> None:
        """End the call because a client abandoned its request, which nothing else will report."""
        if not self.deaf:
            self.end()

    def end(self) -> None:
        """End the call without further usage."""
        if isinstance(self.before, OpenCall) and self.before.id == self.id:
            self.before.end()
        self.meter.close(self.id)


class Unbegun:
    """Ends the call of a stream that is dropped before it begins, which frameworks do not report.

    The stream's generator owns this and calls :meth:`begin` first; a generator that never runs cannot clean up after
    itself.

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
        """Note that the generator has started and will report its own end."""
        self._call = None

    def __del__(self) -> None:
        if self._call is not None:
            self._call.end()


class Meter:
    """Tracks usage by model and by run, and enforces a budget. Thread-safe.

    Args:
        budget: Limits; a call that could exceed them is refused.
        prices: US dollars per million prompt and answer tokens, for other providers' models.
        catalog: Prices and limits of Chutes models; by default the newest available.
        keep_runs: Number of recent runs to keep.
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
        self._catalogs: dict[str, Catalog] = {}
        self._keep = keep_runs
        self._gate = Gate()
        self._roots: dict[Hashable, Run] = {}
        self._runs: dict[Hashable, Run] = {}
        self._open: dict[Hashable, OpenCall] = {}

    # --- steps and calls --------------------------------------------------------------------------

    def begin(self, step: Hashable, parent: Hashable | None, name: str = "") -> None:
        """Record that a step has begun; one without a known parent is a run of its own."""
        with self._gate:
            self._roots[step] = self._root(step, parent, name)

    def end(self, step: Hashable) -> None:
        """Record that a step has ended."""
        self._roots.pop(step, None)  # atomic, so it needs no lock: a finalizer may call this

    def _root(self, step: Hashable, parent: Hashable | None, name: str) -> Run:
        known = self._roots.get(parent) if parent is not None else None
        root = step if parent is None else parent  # an unknown parent still groups its calls
        return known or self._runs.get(root) or Run(root, name)

    def open(
        self,
        call: Hashable,
        *,
        model: str,
        run: Hashable | None = None,
        name: str = "",
        wanted: Estimate | None = None,
        base_url: str | None = None,
        deaf: bool = False,
        mute: bool = False,
    ) -> OpenCall:
        """Open a call, which from now on watches the requests made in this context.

        Args:
            call: Its id; a call that is already open is not opened again.
            model: The model called.
            run: The step it is part of.
            name: The name of its run, if it is one by itself.
            wanted: The most it may use.
            base_url: The gateway that is asked, as the model was told.
            deaf: Count what the framework reports, not what clients report.
            mute: Count what clients report, not what the framework reports.

        Raises:
            BudgetExceededError: The call does not fit the budget.
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
                above.hold.release()  # nested calls make their own reservations
        hold = self.budget.reserve(model, wanted) if self.budget is not None and wanted is not None else None
        opened = OpenCall(self, call, model, root, hold, base_url=base_url, deaf=deaf, mute=mute)
        self._open[call] = opened
        watch(opened)
        return opened

    def close(self, call: Hashable, uses: Iterable[Used] = ()) -> None:
        """Close a call. ``uses`` is what the framework reports; what a client reported takes precedence."""
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
        """Close all open calls, if their end will not be reported."""
        self._roots.clear()
        for call in self._open.copy():
            self.close(call)

    # --- usage -------------------------------------------------------------------------------------

    def enter(
        self, run: Run | None, model: str, usage: Usage | None, price: float | None, ledger: Ledger | None = None
    ) -> None:
        """Record usage; ``ledger`` is one that already has it."""
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
        self._runs[run.id] = run  # keep the latest last
        while len(self._runs) > self._keep:
            del self._runs[next(iter(self._runs))]

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None = None) -> None:
        """Record a request that belongs to no run."""
        self.enter(None, model, usage, cost, ledger)

    # --- what is known -----------------------------------------------------------------------------

    def _infos(self, model: str, *, ours: bool, base_url: str | None) -> list[ModelInfo]:
        """Return limits and prices of the models that may answer: those given, or the catalogue's for Chutes models."""
        if model in self._prices or not ours:
            return [self._prices.get(model) or ModelInfo(id=model)]
        return model_infos(self._catalog or self._catalog_of(Settings.resolve(base_url=base_url)), model)

    def _catalog_of(self, settings: Settings) -> Catalog:
        if settings.base_url not in self._catalogs:
            from chutes_core.catalog.catalog import Catalog

            self._catalogs[settings.base_url] = Catalog.load(base_url=settings.base_url)
        return self._catalogs[settings.base_url]

    def known(self, model: str, infos: Sequence[ModelInfo]) -> Sequence[ModelInfo]:
        """Return a model's limits and prices: those given here, or else a client's."""
        if model not in self._prices and self._catalog is not None:
            return model_infos(self._catalog, model)
        return [self._prices[model]] if model in self._prices else infos

    def leaves(self, model: str, base_url: str | None) -> bool:
        """Return whether the client reserves for a call of one of our models, which knows the list of its own gateway.

        What such a gateway charges is in no catalogue here. Where prices or a catalogue were given, those hold.
        """
        given = model in self._prices or self._catalog is not None
        return not given and Settings.resolve(base_url=base_url).foreign

    def estimate(
        self,
        model: str,
        prompt: int,
        *,
        ours: bool,
        max_tokens: int | None = None,
        answers: int = 1,
        base_url: str | None = None,
    ) -> Estimate | None:
        """Return the most a call may use, whichever model of a list answers. None without a budget."""
        if self.budget is None:
            return None
        estimate = partial(self.budget.estimate, prompt, max_tokens=max_tokens, answers=answers)
        return most([estimate(info) for info in self._infos(model, ours=ours, base_url=base_url)])

    def price(self, model: str, usage: Usage | None, *, ours: bool, call: Hashable = None) -> float | None:
        """Return the cost of a call, by the prices of the gateway that it was opened for; None if unknown."""
        if usage is None or not model:
            return None
        opened = self._open.get(call)
        base_url = opened.base_url if opened is not None else None
        infos = self._infos(model, ours=ours, base_url=base_url)
        return cost(usage, infos[0]) if len(infos) == 1 else None

    @property
    def runs(self) -> list[Run]:
        """The recent runs that used something, latest last."""
        with self._gate:
            return list(self._runs.values())

    def totals(self) -> Totals:
        """The overall totals."""
        return self.ledger.totals()

    def reset(self) -> None:
        """Forget all usage. A budget is left unchanged."""
        self.ledger.reset()
        with self._gate:
            self._runs.clear()


def _priced(model: str, price: object) -> ModelInfo:
    if isinstance(price, ModelInfo):
        return price
    if isinstance(price, tuple) and len(price) == 2 and all(isinstance(each, int | float) for each in price):
        return ModelInfo(id=model, price_in=float(price[0]), price_out=float(price[1]))
    raise ConfigurationError(f"The price of {model!r} must be (prompt, answer) in US dollars per million tokens.")
