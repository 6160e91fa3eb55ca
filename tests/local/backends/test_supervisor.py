"""An engine that dies is started again, within bounds, and whoever asks meanwhile waits or learns why not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chutes_local.backends.backend import BackendError
from chutes_local.backends.supervisor import Restarts, Supervisor


class Fake:
    """An engine that dies when it is told to."""

    def __init__(self) -> None:
        self.dead = asyncio.Event()
        self.closed = False

    async def ended(self) -> str:
        await self.dead.wait()
        return "It ended."

    async def close(self) -> None:
        self.closed = True


class Machine:
    """Starts engines, as often as it can, on a clock that stands still."""

    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.broken = False
        self.now = 0.0
        self.slept: list[float] = []
        self.held = asyncio.Event()
        self.held.set()
        self.supervisor = Supervisor(self.start, restarts=Restarts(most=3), clock=lambda: self.now, sleep=self.sleep)

    async def start(self) -> Fake:
        await self.held.wait()
        if self.broken:
            raise BackendError("It does not start.")
        self.made.append(Fake())
        return self.made[-1]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def kill(self) -> None:
        """Kill the engine, and let that be noticed."""
        self.made[-1].dead.set()
        for _ in range(5):
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def machine() -> AsyncIterator[Machine]:
    made = Machine()
    await made.supervisor.start()
    yield made
    await made.supervisor.stop()
    assert all(engine.closed for engine in made.made)


async def test_a_dead_engine_is_replaced(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The next caller gets a new one; the old one is cleaned up, and both events are in the log."""
    first = await machine.supervisor.engine()
    assert machine.supervisor.health.state == "running"
    await machine.kill()
    assert await machine.supervisor.engine() is machine.made[1] is not first
    assert first.closed
    assert (machine.supervisor.health.state, machine.supervisor.health.restarts) == ("running", 1)
    assert machine.supervisor.health.last_problem == "It ended."
    assert [record.message for record in caplog.records] == [
        "It ended. It is started again.",
        "The model engine runs again.",
    ]


async def test_who_asks_meanwhile_waits(machine: Machine) -> None:
    """A request between the death and the return is answered late rather than refused."""
    machine.held.clear()
    await machine.kill()
    asking = asyncio.create_task(machine.supervisor.engine())
    await asyncio.sleep(0)
    assert machine.supervisor.health.state == "restarting"
    assert not asking.done()
    machine.held.set()
    assert await asking is machine.made[1]


async def test_it_gives_up_after_some_deaths(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """Each try comes later than the one before; then callers are told, at once, and so is the log."""
    machine.broken = True
    await machine.kill()
    for _ in range(2):
        with pytest.raises(BackendError, match=r"does not start\. It was started again 3 times within 10 minutes"):
            await machine.supervisor.engine()
    assert machine.slept == [0, 1, 2]
    assert machine.supervisor.health.state == "down"
    assert "left alone for a while" in caplog.records[-1].message


async def test_it_is_tried_again_when_time_has_passed(machine: Machine) -> None:
    """What was broken in the morning and is mended works in the evening."""
    machine.broken = True
    await machine.kill()
    with pytest.raises(BackendError):
        await machine.supervisor.engine()
    machine.broken, machine.now = False, 600.0
    assert await machine.supervisor.engine() is machine.made[-1]
    assert machine.supervisor.health.state == "running"


async def test_deaths_that_are_far_apart_do_not_add_up(machine: Machine) -> None:
    """Once a quarter of an hour, all day: each time at once."""
    for count in range(1, 8):
        machine.now += 900
        await machine.kill()
        assert await machine.supervisor.engine() is machine.made[count]
    assert set(machine.slept) == {0}


async def test_a_restart_can_be_cut_short() -> None:
    """Stopping while an engine is being started ends that too."""
    machine = Machine()
    await machine.supervisor.start()
    machine.held.clear()
    await machine.kill()
    await machine.supervisor.stop()
    assert len(machine.made) == 1
    assert machine.made[0].closed


async def test_a_start_that_fails_is_the_callers() -> None:
    """At the very beginning nothing is tried again."""
    machine = Machine()
    machine.broken = True
    with pytest.raises(BackendError, match="does not start"):
        await machine.supervisor.start()
    await machine.supervisor.stop()
    assert machine.slept == []
