"""What runs at the same time: in threads, or as tasks of an event loop.

A clock may have its own, with methods of these names, so that in tests time stands still while anything is at work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar, cast

from chutes_core.calls.clock import Clock

__all__ = ["Tasks", "Threads", "tasks_on", "threads_on"]

T = TypeVar("T")


class Threads(Generic[T]):
    """Runs functions in threads of their own, in copies of the context. None of them may raise.

    >>> threads = Threads()
    >>> thread = threads.start(lambda: "done")
    >>> threads.next(5), threads.next(0)
    ('done', None)
    """

    def __init__(self) -> None:
        self._ended: SimpleQueue[T] = SimpleQueue()

    def start(self, run: Callable[[], T]) -> threading.Thread:
        """Run one more."""
        thread = threading.Thread(target=copy_context().run, args=(self._run, run), name="chutes-hedge", daemon=True)
        thread.start()
        return thread

    def _run(self, run: Callable[[], T]) -> None:
        self._ended.put(run())

    def next(self, within: float | None) -> T | None:
        """Return what the next one came to; None if none has ended in so many seconds."""
        try:
            return self._ended.get(timeout=within)
        except Empty:
            return None


class Tasks(Generic[T]):
    """Runs coroutines as tasks. None of them may raise, unless it is cancelled.

    >>> async def main() -> tuple[object, ...]:
    ...     tasks = Tasks()
    ...     task = tasks.start(asyncio.sleep(0, "done"))
    ...     return await tasks.next(5), await tasks.next(0)
    >>> asyncio.run(main())
    ('done', None)
    """

    def __init__(self) -> None:
        self._under_way: list[asyncio.Task[T]] = []

    def start(self, run: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run one more."""
        task = asyncio.create_task(run)
        self._under_way.append(task)
        return task

    async def next(self, within: float | None) -> T | None:
        """Return what the next one came to; None if none has ended in so many seconds."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        ended = next((task for task in self._under_way if task.done()), None)
        if ended is None:
            return None
        self._under_way.remove(ended)
        return ended.result()


def threads_on(clock: Clock) -> Threads[T]:
    """Return what runs threads in a clock's time."""
    return cast("Threads[T]", getattr(clock, "threads", Threads)())


def tasks_on(clock: Clock) -> Tasks[T]:
    """Return what runs tasks in a clock's time."""
    return cast("Tasks[T]", getattr(clock, "tasks", Tasks)())
