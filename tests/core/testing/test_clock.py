"""The clock that only moves when told or waited on."""

from __future__ import annotations

import asyncio

import pytest

from chutes_core.calls.stopping import Stop, Stopped, stopping
from chutes_core.testing import VirtualClock


def test_the_clock_moves_only_when_told_or_waited_on() -> None:
    """Sleeping and advancing move it; the sleeps are remembered."""
    clock = VirtualClock()
    clock.sleep(2)
    clock.advance(3)
    assert (clock.now(), clock.sleeps) == (5, [2])


def test_threads_sleep_at_the_same_time() -> None:
    """The time moves to whatever is due next, once everybody waits; whoever waits for them may be the next."""
    clock = VirtualClock()
    threads = clock.threads()

    def sleeper(*naps: float) -> object:
        for nap in naps:
            clock.sleep(nap)
        return naps, clock.now()

    started = [threads.start(lambda naps=naps: sleeper(*naps)) for naps in ((5.0,), (1.0, 2.0), (4.5,))]  # type: ignore[misc]
    assert threads.next(2) is None
    assert clock.now() == 2
    assert [threads.next(None) for _ in started] == [((1.0, 2.0), 3.0), ((4.5,), 4.5), ((5.0,), 5.0)]
    for thread in started:
        thread.join(60)
    clock.sleep(1)
    assert clock.now() == 6, "and by oneself it moves at once"


async def test_tasks_sleep_at_the_same_time() -> None:
    """The same on the event loop; one that is cancelled is waited for no longer."""
    clock = VirtualClock()
    tasks = clock.tasks()

    async def sleeper(*naps: float) -> object:
        for nap in naps:
            await clock.asleep(nap)
        return naps, clock.now()

    for naps in ((5.0,), (1.0, 2.0)):
        tasks.start(sleeper(*naps))
    gone = tasks.start(sleeper(2.5))
    assert await tasks.next(2) is None
    tasks._under_way.remove(gone)
    gone.cancel()
    await asyncio.wait([gone])
    assert [await tasks.next(None) for _ in range(2)] == [((1.0, 2.0), 3.0), ((5.0,), 5.0)]


def test_a_sleep_among_others_can_be_stopped() -> None:
    """Like a wait for a socket: it ends at once, without time having passed, and the others go on."""
    clock, stop = VirtualClock(), Stop()
    threads = clock.threads()

    def stopped() -> object:
        stopping.set(stop)
        with pytest.raises(Stopped):
            clock.sleep(50)
        return clock.now()

    def other() -> object:
        clock.sleep(9)
        return clock.now()

    started = [threads.start(stopped), threads.start(other)]
    assert threads.next(2) is None
    stop.stop()
    started[0].join(60)
    assert [threads.next(None), threads.next(None)] == [2, 9]
    started[1].join(60)
