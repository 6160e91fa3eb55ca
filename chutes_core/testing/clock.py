"""A clock for tests."""

from __future__ import annotations

import asyncio

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock that moves only when somebody waits on it, or when you say so.

    >>> clock = VirtualClock()
    >>> clock.sleep(5); clock.advance(1); clock.now()
    6.0
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.sleeps: list[float] = []
        """Every wait that was asked for."""

    def now(self) -> float:
        """The time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.sleeps.append(seconds)
        self.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        """Let the time pass at once, and give other tasks a turn."""
        self.sleep(seconds)
        await asyncio.sleep(0)
