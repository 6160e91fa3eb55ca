"""Many small connection pools instead of one large one.

The HTTP package scans all connections of a pool on every request, so the cost of a request grows with the number of
open ones. With a few per lane it does not: with 256 at once, a call costs a quarter to a tenth.

The theory of operation: a lane is a pool that takes :data:`SIZE` connections, and ``busy`` counts the requests that may
have one. As long as ``busy`` never exceeds the size, no request waits inside a pool, where a deadline would count
against an answer that was not even asked for. A request takes the first lane with room. So load gathers in front, where
connections are warm, and what a rush has opened empties from the back: only the last lane is ever retired, when it has
been empty for as long as its connections live.

- A place is given back exactly once, after the connection is back in its pool: when the reply is closed, or when
  sending failed or was cancelled. ``leaver`` sees to the once, since a reply may be closed twice.
- A lane that is retired is empty, and leaves the list under the lock by which lanes are entered, so nobody can be in
  it.
- Giving back waits for no lock (:mod:`chutes_core.locks`), since a dropped reply is closed by the garbage collector.

What would break it: giving the place back before the stream is closed; a pool with a limit below the size; looking for
a lane under the lock and counting outside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from chutes_core.locks import Gate

__all__ = ["KEEP_ALIVE", "SIZE", "Lanes"]

T = TypeVar("T")
KEEP_ALIVE = 60.0
SIZE = 4


class Lane(Generic[T]):
    """A small pool, and how many requests are in flight in it."""

    __slots__ = ("busy", "pool", "since")

    def __init__(self, pool: T) -> None:
        self.pool = pool
        self.busy = 0
        self.since = 0.0


class Lanes(Generic[T]):
    """Assigns each request to the first lane with room, so that few stay open when few are needed.

    Args:
        make: Creates a pool.
        size: The most concurrent requests in a lane.
        now: The clock.

    >>> lanes = Lanes(object, size=1)
    >>> first, second = lanes.enter(), lanes.enter()
    >>> lanes.leave(first); lanes.enter() is first
    True
    """

    def __init__(self, make: Callable[[], T], *, size: int = SIZE, now: Callable[[], float] = time.monotonic) -> None:
        self._make = make
        self._size = size
        self._now = now
        self._gate = Gate()
        self._lanes: list[Lane[T]] = []

    def enter(self) -> Lane[T]:
        """Reserve a place in a lane."""
        with self._gate:
            for lane in self._lanes:
                if lane.busy < self._size:
                    break
            else:
                lane = Lane(self._make())
                self._lanes.append(lane)
            lane.busy += 1
            return lane

    def leave(self, lane: Lane[T]) -> None:
        """Release the place."""
        self._gate.change(partial(self._left, lane))

    def leaver(self, lane: Lane[T]) -> Callable[[], None]:
        """Return a function that releases the place once, however often it is called."""
        left = [lane]
        return lambda: self.leave(left.pop()) if left else None

    def _left(self, lane: Lane[T]) -> None:
        lane.busy -= 1
        lane.since = self._now()

    def retired(self) -> T | None:
        """Remove and return the last lane's pool once it has been idle so long that its connections have expired."""
        with self._gate:
            if len(self._lanes) < 2 or (last := self._lanes[-1]).busy or self._now() - last.since < KEEP_ALIVE:
                return None
            return self._lanes.pop().pool

    def all(self) -> list[T]:
        """Remove and return all pools, to be closed."""
        with self._gate:
            lanes, self._lanes = self._lanes, []
        return [lane.pool for lane in lanes]
