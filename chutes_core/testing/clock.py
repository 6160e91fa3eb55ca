"""A virtual clock for tests."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import TypeVar

from chutes_core.calls.racing import Tasks, Threads
from chutes_core.calls.stopping import stopping

__all__ = ["VirtualClock"]

T = TypeVar("T")


class VirtualClock:
    """A clock that advances only when something sleeps on it, or through :meth:`advance`.

    Where several run at once, as when a fallback asks two members, it advances once all of them wait, to the next one
    that is due.

    >>> clock = VirtualClock()
    >>> clock.sleep(5); clock.advance(1); clock.now()
    6.0
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.sleeps: list[float] = []
        """The length of every sleep, in order."""

    def now(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance the time."""
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Advance the time instead of waiting."""
        self.sleeps.append(seconds)
        among = _AMONG.get()
        if among is None:
            self.advance(seconds)
        else:
            among.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """Advance the time instead of waiting, and yield to other tasks."""
        self.sleeps.append(seconds)
        among = _AMONG.get()
        if among is None:
            self.advance(seconds)
        else:
            await among.asleep(seconds)
        await asyncio.sleep(0)

    def threads(self) -> Threads[T]:
        """Return what runs threads in this clock's time."""
        return _Threads(self)

    def tasks(self) -> Tasks[T]:
        """Return what runs tasks in this clock's time."""
        return _Tasks(self)


_Wait = tuple[float, int, Callable[[], None]]


class _Among:
    """Those that run at once, and whoever waits for them. The time moves on once all of them wait."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._at_work = 1
        self._waits: list[_Wait] = []
        self._numbers = itertools.count()

    def wait(self, seconds: float, wake: Callable[[], None]) -> _Wait:
        """Begin to wait; ``wake`` is called when the time has come."""
        with self._lock:
            wait = (self._clock.now() + seconds, next(self._numbers), wake)
            heapq.heappush(self._waits, wait)
            self.ended()
        return wait

    def wake(self, wait: _Wait) -> None:
        """End a wait before its time, if it has not ended."""
        with self._lock:
            if wait in self._waits:
                self._waits.remove(wait)
                heapq.heapify(self._waits)
                self._at_work += 1
                wait[2]()

    def began(self) -> None:
        """One more is at work."""
        with self._lock:
            self._at_work += 1

    def ended(self) -> None:
        """One less is at work."""
        with self._lock:
            self._at_work -= 1
            if self._at_work == 0 and self._waits and self._waits[0][0] != float("inf"):
                due, _, wake = heapq.heappop(self._waits)
                self._clock.advance(max(due - self._clock.now(), 0.0))
                self._at_work += 1
                wake()

    def sleep(self, seconds: float) -> None:
        woken, stop = threading.Event(), stopping.get()
        wait = self.wait(seconds, woken.set)
        if stop is None:
            woken.wait()
            return
        try:
            stop.begin(lambda: self.wake(wait))
            woken.wait()
        finally:
            self.wake(wait)
            stop.over()

    async def asleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        wait = self.wait(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            self.wake(wait)


_AMONG: ContextVar[_Among | None] = ContextVar("chutes_among", default=None)


class _Threads(Threads[T]):
    """Threads whose sleeps on the clock are at the same time."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._among = _Among(clock)
        self._waits: _Wait | None = None

    def start(self, run: Callable[[], T]) -> threading.Thread:
        self._among.began()
        context = copy_context()
        context.run(_AMONG.set, self._among)
        return context.run(super().start, run)

    def _run(self, run: Callable[[], T]) -> None:
        super()._run(run)
        with self._among._lock:
            if self._waits is not None:
                self._among.wake(self._waits)
            self._among.ended()

    def next(self, within: float | None) -> T | None:
        woken = threading.Event()
        with self._among._lock:
            if self._ended.empty():
                self._waits = self._among.wait(float("inf") if within is None else within, woken.set)
            else:
                woken.set()
        woken.wait()
        self._waits = None
        return super().next(0)


class _Tasks(Tasks[T]):
    """Tasks whose sleeps on the clock are at the same time."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._among = _Among(clock)
        self._waits: _Wait | None = None

    def start(self, run: Coroutine[object, object, T]) -> asyncio.Task[T]:
        self._among.began()
        token = _AMONG.set(self._among)
        try:
            task = super().start(run)
        finally:
            _AMONG.reset(token)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[T]) -> None:
        if self._waits is not None:
            self._among.wake(self._waits)
        self._among.ended()

    async def next(self, within: float | None) -> T | None:
        if not any(task.done() for task in self._under_way):
            woken = asyncio.get_running_loop().create_future()
            self._waits = self._among.wait(
                float("inf") if within is None else within, lambda: None if woken.done() else woken.set_result(None)
            )
            try:
                await woken
            finally:
                self._among.wake(self._waits)
                self._waits = None
        return await super().next(0)
