"""A lock for state that finalizers may need to change.

Python may collect garbage at any moment in any thread, even one that holds the lock. So a change made when a stream
is dropped (releasing a reservation or a place in a pool, adding to the ledger) must not wait for the lock, or the
thread deadlocks. Such a change is made at once if the lock is free, and otherwise by the lock's holder.

>>> gate, seen = Gate(), []
>>> with gate:
...     gate.change(lambda: seen.append("late"))
...     seen.append("first")
>>> seen
['first', 'late']
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Gate"]


class Gate:
    """A lock, as a context manager, with changes that never wait for it."""

    __slots__ = ("_late", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._make()  # so that the block sees every earlier change

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._settle()

    def change(self, change: Callable[[], object]) -> None:
        """Make a change under the lock, now or when its holder releases it. It must not raise."""
        self._late.append(change)
        self._settle()

    def _settle(self) -> None:
        # If the lock is taken, its holder makes the change: it calls this after releasing.
        while self._late and self._lock.acquire(blocking=False):
            try:
                self._make()
            finally:
                self._lock.release()

    def _make(self) -> None:
        while self._late:
            self._late.popleft()()
