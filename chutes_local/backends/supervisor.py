"""Keep an engine running: when it dies it is started again, a few times in a while.

A request that comes meanwhile waits. When there were too many deaths, requests fail with the reason, until enough time
has passed for another try. Each death and each return is a line of the log, which ends on the terminal.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from chutes_local.backends.backend import BackendError, Health

RESTARTS = 5
WITHIN_SECONDS = 600.0

_log = logging.getLogger("chutes_local")


class Child(Protocol):
    """What a supervisor needs of an engine."""

    async def ended(self) -> str:
        """Wait until it has ended by itself, and say how."""

    async def close(self) -> None:
        """End it."""


Engine = TypeVar("Engine", bound=Child)


class Restarts:
    """How often a dead engine is started again: ``most`` times ``within`` seconds, each time after a longer pause.

    >>> restarts = Restarts(most=3)
    >>> [restarts.take(now) for now in (0, 1, 2, 3, 601)]
    [0.0, 1.0, 2.0, None, 1.0]
    """

    def __init__(self, most: int = RESTARTS, within: float = WITHIN_SECONDS) -> None:
        self.most, self.within = most, within
        self._taken: deque[float] = deque()

    def possible(self, now: float) -> bool:
        """Return whether one more start is allowed."""
        while self._taken and now - self._taken[0] >= self.within:
            self._taken.popleft()
        return len(self._taken) < self.most

    def take(self, now: float) -> float | None:
        """Note one more start and return how long to wait before it; ``None`` if there were too many."""
        if not self.possible(now):
            return None
        pause = 2.0 ** (len(self._taken) - 1) if self._taken else 0.0
        self._taken.append(now)
        return pause


class Supervisor(Generic[Engine]):
    """Starts an engine with ``start``, which returns it ready, and starts it again when it dies."""

    def __init__(
        self,
        start: Callable[[], Awaitable[Engine]],
        *,
        restarts: Restarts | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._start, self._clock, self._sleep = start, clock, sleep
        self._restarts = restarts or Restarts()
        self._engine: Engine | None = None
        self._settled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._count, self._why = 0, ""

    @property
    def health(self) -> Health:
        """What has become of the engine."""
        if self._engine is not None:
            return Health("running", self._count, self._why)
        return Health("down" if self._settled.is_set() else "restarting", self._count, self._why)

    async def start(self) -> None:
        """Start the engine; if it cannot be, the error is that of its start."""
        self._engine = await self._start()
        self._settled.set()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """End the engine."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def engine(self) -> Engine:
        """Return the running engine, once it is up.

        Raises:
            BackendError: it died too often.
        """
        assert self._keeper is not None  # start() has returned
        if self._keeper.done() and self._restarts.possible(self._clock()):
            self._settled.clear()
            self._keeper = asyncio.create_task(self._keep())
        await self._settled.wait()
        if self._engine is None:
            raise BackendError(self._why)
        return self._engine

    async def _keep(self) -> None:
        try:
            running = True
            while running:
                dead = self._engine
                if dead is not None:
                    self._why = await dead.ended()
                    self._settled.clear()
                    self._engine = None
                try:
                    running = await self._again()
                finally:
                    if dead is not None:
                        await dead.close()
        finally:
            self._settled.set()  # whoever waits is not to wait for ever

    async def _again(self) -> bool:
        """Start the engine once more, as often as it takes and is allowed; return whether it runs."""
        while (pause := self._restarts.take(self._clock())) is not None:
            _log.warning("%s It is started again%s.", self._why, f" in {pause:.0f} s" if pause else "")
            await self._sleep(pause)
            try:
                self._engine = await self._start()
            except (BackendError, OSError) as error:
                self._why = str(error)
                continue
            self._count += 1
            self._settled.set()
            _log.warning("The model engine runs again.")
            return True
        self._why += (
            f" It was started again {self._restarts.most} times within {self._restarts.within / 60:.0f} minutes, and is"
            " left alone for a while: start the embedded Chutes anew, or try again in some minutes."
        )
        _log.error("%s", self._why)
        return False
