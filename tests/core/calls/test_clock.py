"""The system's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

from chutes_core.calls.clock import Clock, SystemClock


async def test_waiting_is_left_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking wait blocks the thread for so long, an async one asks the event loop for it."""
    waits: list[tuple[str, float]] = []

    async def asleep(seconds: float) -> None:
        waits.append(("loop", seconds))

    monkeypatch.setattr(time, "sleep", lambda seconds: waits.append(("thread", seconds)))
    monkeypatch.setattr(asyncio, "sleep", asleep)
    clock: Clock = SystemClock()
    clock.sleep(3)
    await clock.asleep(4)
    assert waits == [("thread", 3), ("loop", 4)]


def test_the_clock_on_the_wall_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the computer's clock back does not turn the library's time back."""
    clock = SystemClock()
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert clock.now() >= before
