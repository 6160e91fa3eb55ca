"""What the frameworks' cost handlers have in common.

>>> class Handler(Tally): ...
>>> Handler().total_cost
0.0
>>> Handler()
<Handler: 0 calls, 0 tokens, $0>
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

from chutes_core.errors import APIError
from chutes_core.shown.tabular import Tabular
from chutes_core.spending.budget import Budget
from chutes_core.spending.meter import KEPT_RUNS, Meter, Prices, Run, Used
from chutes_core.usage import Totals, Usage

if TYPE_CHECKING:
    from chutes_core.attempt import Attempt
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.shown.table import Table

__all__ = ["Tally", "limit_of"]

_QUOTA = ("quota_total", "quota_used", "quota_remaining")
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample")


class Tally(Tabular):
    """The totals of a meter, by model and by run; a mixin for each framework's handler.

    Args:
        budget: Limits. A call that could exceed them is refused.
        prices: US dollars per million prompt and answer tokens, for other providers' models.
        catalog: Prices of Chutes models; by default the newest available.
        keep_runs: Number of recent runs to keep.

    Attributes:
        meter: The meter that counts.
        quota: The account's daily quota, as of the latest answer.
        rate_limit_user: The account's limit of requests, as of the latest answer: a number, or "inf"; None if no answer
            said.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        prices: Prices | None = None,
        catalog: Catalog | None = None,
        keep_runs: int = KEPT_RUNS,
    ) -> None:
        self.meter = Meter(budget, prices=prices, catalog=catalog, keep_runs=keep_runs)
        self.quota: dict[str, int] = {}
        self.rate_limit_user: str | None = None
        self._set_up()

    def _set_up(self) -> None:
        """Prepare what a framework needs beside the meter."""

    @property
    def budget(self) -> Budget | None:
        """The budget, if there is one."""
        return self.meter.budget

    @property
    def totals(self) -> Totals:
        """The totals of everything: ``calls``, ``usage``, ``cost``, ``unpriced_calls``."""
        return self.meter.totals()

    def by_model(self) -> dict[str, Totals]:
        """Return the totals of each model that answered."""
        return self.meter.ledger.by_model()

    @property
    def runs(self) -> list[Run]:
        """The latest runs, each with ``id``, ``name``, ``totals()`` and ``by_model()``.

        A run is one outermost call: an agent with all its calls, a chain, a query, or a model by itself.
        """
        return self.meter.runs

    @property
    def total_cost(self) -> float:
        """US dollars, for the calls whose price is known; ``totals.unpriced_calls`` counts the others."""
        return self.totals.cost

    @property
    def total_tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return self.totals.usage.total_tokens

    @property
    def quota_remaining(self) -> int | None:
        """What is left of the account's daily quota, as of the latest answer; None if no answer said.

        ``quota`` has the other figures.
        """
        return self.quota.get("quota_remaining")

    def _title(self) -> str:
        from chutes_core.shown.numbers import dollars, plural

        totals = self.totals
        unpriced = f" and {plural(totals.unpriced_calls, 'call')} of unknown price" if totals.unpriced_calls else ""
        counted = f"{plural(totals.calls, 'call')}, {plural(totals.usage.total_tokens, 'token')}"
        return f"{counted}, {dollars(totals.cost)}{unpriced}"

    def _table(self) -> Table:
        from chutes_core.shown.numbers import dollars
        from chutes_core.shown.table import Cell, Column, Table

        rows: list[list[Cell | str]] = []
        for model, each in sorted(self.by_model().items(), key=lambda item: -item[1].cost):
            unpriced = f" and {each.unpriced_calls:,} without a price" if each.unpriced_calls else ""
            price = Cell(f"{dollars(each.cost)}{unpriced}", "yellow" if unpriced else "")
            usage = each.usage
            rows.append([model, *(f"{n:,}" for n in (each.calls, usage.prompt_tokens, usage.completion_tokens)), price])
        counts = [Column(title, right=True) for title in ("calls", "prompt tokens", "answer tokens", "cost")]
        return Table.of([Column("model"), *counts], rows)

    def reset(self) -> None:
        """Clear the totals. A budget is left as it is."""
        self.meter.reset()

    def _answered(
        self,
        told: Mapping[str, object],
        model: str,
        usage: Usage | None,
        *,
        meta: Mapping[str, object],
        ours: bool,
        call: Hashable,
        price: object = None,
    ) -> Iterator[Used]:
        """Yield what a framework reports of an answer: one entry, or one per fallback member that was called.

        Args:
            told: What is told of the answer.
            model: The model that answered.
            usage: What it used.
            meta: The service's own headers.
            ours: Whether it is a Chutes model.
            call: The framework's id of the call.
            price: What it cost, if that is told too.
        """
        self.quota = {name: count for name in _QUOTA if isinstance(count := meta.get(name), int)} or self.quota
        limit = meta.get("rate_limit_user")
        self.rate_limit_user = limit if isinstance(limit, str) else self.rate_limit_user
        for each in cast("Sequence[Mapping[str, object]]", told.get("chutes_attempts") or ()):
            if each["outcome"] == "answered":
                ours, price = False, each["cost"]  # the member knows its gateway's prices
            elif each["usage"]:
                used = Usage(**cast("Mapping[str, int]", each["usage"]))
                yield str(each["model"]), used, cast("float | None", each["cost"])
        yield (
            model,
            usage,
            price if isinstance(price, int | float) else self.meter.price(model, usage, ours=ours, call=call),
        )

    def _failed(self, error: BaseException, call: Hashable) -> list[Used]:
        """Return what a failed call used, as far as its error tells."""
        attempts: Sequence[Attempt] = getattr(error, "attempts", ())
        if attempts:
            return [(each.model, each.usage, each.cost) for each in attempts if each.usage is not None]
        partial = error.partial_reply if isinstance(error, APIError) else None
        if partial is None or partial.usage is None:
            return []
        model = partial.model or ""
        return [(model, partial.usage, self.meter.price(model, partial.usage, ours=True, call=call))]

    def __repr__(self) -> str:
        return repr(self.meter.ledger).replace("Ledger", type(self).__name__, 1)

    def __getstate__(self) -> None:
        name = type(self).__name__
        raise TypeError(f"A {name} cannot be pickled, because it counts in its own process; its ledger can.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a copied model still counts here


def limit_of(params: Mapping[str, object]) -> int | None:
    """Return the longest answer that a call asks for, under whichever name; None if it sets no limit.

    >>> limit_of({"max_completion_tokens": 100})
    100
    """
    return next((limit for name in _LIMITS if isinstance(limit := params.get(name), int)), None)
