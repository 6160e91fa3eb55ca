"""What runs at the same time, in threads and in tasks, on the system's clock and on a virtual one."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.calls.racing import Tasks, Threads, tasks_on, threads_on
from chutes_core.testing import VirtualClock

KNOWN: contextvars.ContextVar[str] = contextvars.ContextVar("known", default="")


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()], ids=["system", "virtual"])
def test_threads_have_the_callers_context(clock: Clock) -> None:
    """Each runs in a copy: what it sets there is its own."""

    def run() -> str:
        before = KNOWN.get()
        KNOWN.set("changed")
        return before

    KNOWN.set("mine")
    threads: Threads[str] = threads_on(clock)
    started = threads.start(run)
    assert threads.next(60) == "mine"
    assert KNOWN.get() == "mine"
    started.join(60)


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()], ids=["system", "virtual"])
async def test_tasks_have_the_callers_context(clock: Clock) -> None:
    """The same on the event loop."""

    async def run() -> str:
        before = KNOWN.get()
        KNOWN.set("changed")
        return before

    KNOWN.set("mine")
    tasks: Tasks[str] = tasks_on(clock)
    tasks.start(run())
    assert await tasks.next(60) == "mine"
    assert KNOWN.get() == "mine"


def test_whoever_ends_first_comes_first() -> None:
    """A thread that goes on does not keep the other one's result."""
    go = threading.Event()
    threads: Threads[str] = Threads()
    slow = threads.start(lambda: str(go.wait(60)))
    threads.start(lambda: "quick")
    assert threads.next(60) == "quick"
    assert threads.next(0) is None
    go.set()
    assert threads.next(60) == "True"
    slow.join(60)


async def test_a_task_that_goes_on_is_waited_for_later() -> None:
    """The same on the event loop; with nothing under way nothing is waited for."""
    go = asyncio.Event()
    tasks: Tasks[bool] = Tasks()
    assert await tasks.next(None) is None
    tasks.start(go.wait())
    assert await tasks.next(0) is None
    go.set()
    assert await tasks.next(None) is True
