"""What one request of the openai SDK uses: set aside before it is sent, entered once it is known."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from chutes_core.meter import Account

__all__ = ["Bill"]


class Bill:
    """The account of one request, with its reservation where the ledger is a budget.

    A context: at its end the reservation is given back, unless a stream has taken it over.

    Args:
        account: Where it is entered.
        body: What is asked; None where it costs nothing.

    Raises:
        BudgetExceededError: It does not fit; nothing is to be sent.

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
        self._streams = False
        hold = account.hold(body)
        # Whoever drops a stream without a word gives back what it held, too.
        self._release = weakref.finalize(self, hold.release) if hold is not None else None

    def until_read(self) -> Self:
        """Leave the reservation to the stream, which calls :meth:`close`."""
        self._streams = True
        return self

    def close(self) -> None:
        """Give the reservation back; again does no harm."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None or not self._streams:
            self.close()
