"""A virtual clock for tests."""

from __future__ import annotations

import asyncio

__all__ = ["VirtualClock"]


class VirtualClock:
    """A clock that advances only when something sleeps on it, or through :meth:`advance`.

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
        self.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        """Advance the time instead of waiting, and yield to other tasks."""
        self.sleep(seconds)
        await asyncio.sleep(0)
