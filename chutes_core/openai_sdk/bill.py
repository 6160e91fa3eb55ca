"""Accounting for one request of the openai SDK: reserved before it is sent, entered once usage is known."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from chutes_core.spending.recording import Account

__all__ = ["Bill"]


class Bill:
    """The account of one request, with its reservation if the ledger is a budget.

    A context manager: on exit the reservation is released.

    Args:
        account: Where usage is entered.
        body: The request body; None if the request costs nothing.

    Raises:
        BudgetExceededError: It does not fit the budget; nothing must be sent.

    >>> from chutes_core import Budget, Catalog, Usage
    >>> budget = Budget(tokens=1_000)
    >>> body = {"model": "acme/one", "messages": [], "max_tokens": 100}
    >>> with Bill(Account(budget, Catalog.load), body) as bill:
    ...     print(budget.reserved.tokens)
    ...     bill.account("acme/one", Usage(5, 5, 10))
    100
    >>> budget, budget.reserved.tokens
    (<Budget: 10 of 1,000 tokens spent>, 0)
    """

    def __init__(self, account: Account, body: Mapping[str, object] | None) -> None:
        self.account = account
        hold = account.hold(body)
        # A finalizer: a stream that is dropped without being closed releases its reservation too.
        self._release = weakref.finalize(self, hold.release) if hold is not None else None

    def close(self) -> None:
        """Release the reservation; safe to call twice."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
