"""A lock for state that finalizers may need to change.

Python may collect garbage at any moment in any thread, even one that holds the lock. So a change made when a stream
is dropped (releasing a reservation or a place in a pool, adding to the ledger) must not wait for the lock, or the
thread deadlocks. Such a change is made at once if the lock is free, and otherwise by the lock's holder.

The theory of operation: a change is put into a queue first, and only then is the lock tried. If that fails, somebody
has it, and whoever has it looks into the queue after letting go. There is no moment in which a change can be put in and
be seen by neither: it is there before the lock is tried, and the holder looks after the lock is free. So when all
threads have left the gate, the queue is empty. Who enters makes what is waiting first, so what a block reads is up to
date; what comes while it reads waits, so it does not move either.

A change may run in any thread, inside any other code, and must be small for that: it adds, removes or sets, takes no
other lock and does not raise. What would break it: an ``RLock`` instead (the finalizer would change what its own thread
is reading); looking into the queue before letting go (a change that comes between is left there until somebody else
comes); waiting inside the block for something that a change brings, since changes wait for the block.

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
