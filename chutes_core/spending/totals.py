"""The common interface of the frameworks' cost handlers.

>>> class Handler(Tally):
...     def __init__(self) -> None:
...         self.meter, self.quota = Meter(), {}
>>> Handler().total_cost
0.0
>>> Handler()
<Handler: 0 calls, 0 tokens, $0>
"""

from __future__ import annotations

from typing import Self

from chutes_core.spending.budget import Budget
from chutes_core.spending.meter import Meter, Run
from chutes_core.usage import Totals

__all__ = ["QUOTA", "Tally"]

QUOTA = ("quota_total", "quota_used", "quota_remaining")


class Tally:
    """The totals of a ``meter``, by model and by run; a mixin for each framework's handler.

    Attributes:
        meter: The meter that counts.
        quota: The account's daily quota, as of the latest answer.
    """

    meter: Meter
    quota: dict[str, int]

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

    def reset(self) -> None:
        """Clear the totals. A budget is left as it is."""
        self.meter.reset()

    def __repr__(self) -> str:
        return repr(self.meter.ledger).replace("Ledger", type(self).__name__, 1)

    def __getstate__(self) -> None:
        name = type(self).__name__
        raise TypeError(f"A {name} cannot be pickled, because it counts in its own process; its ledger can.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # a copied model still counts here
