"""A lock for state that the garbage collector may ask to change.

Python collects garbage at any moment, in whichever thread: also in one that holds a lock just then. What is given
back when a stream is dropped (a reservation, a place in a pool, a line of the ledger) must not wait for that lock, or
the thread waits for itself. So such a change is made at once where the lock is free, and by whoever holds it where it
is not.

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
    """A lock, as a context, and changes that never wait for it."""

    __slots__ = ("_late", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._late: deque[Callable[[], object]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._make()  # whoever reads after a change sees it

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._settle()

    def change(self, change: Callable[[], object]) -> None:
        """Make a change under the lock, now or when whoever holds it lets go. It must not raise."""
        self._late.append(change)
        self._settle()

    def _settle(self) -> None:
        # Whoever cannot have the lock leaves it to its holder, who comes by here after letting go.
        while self._late and self._lock.acquire(blocking=False):
            try:
                self._make()
            finally:
                self._lock.release()

    def _make(self) -> None:
        while self._late:
            self._late.popleft()()
