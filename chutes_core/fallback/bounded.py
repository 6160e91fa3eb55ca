"""Other providers' models as iterators of parts, blocking or async: timeouts, threads, contexts, and an end at once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from chutes_core.calls.stopping import Stopped, stopping
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure
from chutes_core.settings import TimeLimits

__all__ = ["abounded", "bounded", "ending", "inside", "threaded"]

P = TypeVar("P")
V = TypeVar("V")


class _Timer:
    """Tracks which timeout comes next, and when."""

    def __init__(self, limits: TimeLimits, model: str) -> None:
        self._limits = limits
        self._model = model
        self._started = self._last = time.monotonic()
        self._shown = False
        self._kind = Kind.FIRST_TOKEN_TIMEOUT

    def left(self) -> float | None:
        """Return the seconds until the next timeout; None if there is none."""
        now = time.monotonic()
        own = self._limits.gap if self._shown else self._limits.first_token
        choices: list[tuple[float, Kind]] = []
        if own is not None:
            choices.append((own - (now - self._last), Kind.STALL if self._shown else Kind.FIRST_TOKEN_TIMEOUT))
        if self._limits.total is not None:
            choices.append((self._limits.total - (now - self._started), Kind.TOTAL_TIMEOUT))
        if not choices:
            return None
        seconds, self._kind = min(choices)
        return max(seconds, 0.0)

    def took(self, shows: bool) -> None:
        """Record that a part was taken; the reader's time after it does not count."""
        self._shown = self._shown or shows
        if shows:
            self._last = time.monotonic()

    def late(self) -> APIError:
        """Return the error for the timeout that passed."""
        return failure(self._kind, model=self._model)


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


def bounded(
    parts: Callable[[], Iterator[P]], limits: TimeLimits, *, shows: Callable[[P], bool], model: str
) -> Generator[P, None, None]:
    """Yield the parts of a blocking iterator; raise if one is late.

    A blocking read cannot be interrupted from outside, so it runs in a thread. A late thread is abandoned: it ends when
    its own client times out, or with the next part, which is discarded.

    >>> list(bounded(lambda: iter("ab"), TimeLimits(total=5), shows=bool, model="other/model"))
    ['a', 'b']
    """
    box: queue.SimpleQueue[P | _End] = queue.SimpleQueue()
    left_alone = _fetching(parts, box.put)
    timer = _Timer(limits, model)
    try:
        while True:
            try:
                part = _taken(box, timer.left())
            except queue.Empty:
                raise timer.late() from None
            if isinstance(part, _End):
                if part.error is not None:
                    raise part.error
                return
            yield part
            timer.took(shows(part))
    finally:
        left_alone.set()


def _taken(box: queue.SimpleQueue[P | _End], within: float | None) -> P | _End:
    """Take the next part from a box, unless this thread is stopped meanwhile."""
    stop = stopping.get()
    if stop is None:
        return box.get(timeout=within)
    stop.begin(lambda: box.put(_End(Stopped())))
    try:
        return box.get(timeout=within)
    finally:
        stop.over()


async def threaded(parts: Callable[[], Iterator[P]]) -> AsyncGenerator[P, None]:
    """Yield the parts of a blocking iterator, which has a thread of its own.

    It does not run in the event loop's executor, whose few threads one silent member would take from all the others.

    >>> async def main() -> list[str]:
    ...     return [part async for part in threaded(lambda: iter("ab"))]
    >>> asyncio.run(main())
    ['a', 'b']
    """
    loop = asyncio.get_running_loop()
    box: asyncio.Queue[P | _End] = asyncio.Queue()

    def put(part: P | _End) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody is waiting
            loop.call_soon_threadsafe(box.put_nowait, part)

    left_alone = _fetching(parts, put)
    try:
        while not isinstance(part := await box.get(), _End):
            yield part
        if part.error is not None:
            raise part.error
    finally:
        left_alone.set()


def _fetching(parts: Callable[[], Iterator[P]], put: Callable[[P | _End], object]) -> threading.Event:
    """Fetch parts in a thread, and hand each over; return the event that ends it with the next one."""
    left_alone = threading.Event()

    def fetch() -> None:
        source = None
        try:
            source = parts()
            for part in source:
                if left_alone.is_set():
                    return
                put(part)
        except BaseException as error:
            put(_End(error))
        else:
            put(_End())
        finally:
            close = getattr(source, "close", None)
            if callable(close):
                close()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(fetch,), name="chutes-member", daemon=True).start()
    return left_alone


async def abounded(
    parts: Callable[[], AsyncIterator[P]], limits: TimeLimits, *, shows: Callable[[P], bool], model: str
) -> AsyncGenerator[P, None]:
    """Yield the parts of an async iterator; raise if one is late."""
    timer = _Timer(limits, model)
    async with ending(parts()) as source:
        while True:
            try:
                async with asyncio.timeout(timer.left()) as limit:
                    part = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if limit.expired():
                    raise timer.late() from None
                raise  # the model's own
            yield part
            timer.took(shows(part))


@contextlib.asynccontextmanager
async def ending(source: AsyncIterator[P]) -> AsyncIterator[AsyncIterator[P]]:
    """End an async iterator with the block that reads it, if it can be ended."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if callable(close):
            await close()


async def inside(variable: contextvars.ContextVar[V], value: V, parts: AsyncIterator[P]) -> AsyncGenerator[P, None]:
    """Take every part with a context variable set, and yield it with the variable as it was.

    >>> variable = contextvars.ContextVar("variable", default=0)
    >>> async def parts():
    ...     yield variable.get()
    >>> async def main() -> list[tuple[int, int]]:
    ...     return [(part, variable.get()) async for part in inside(variable, 1, parts())]
    >>> asyncio.run(main())
    [(1, 0)]
    """
    async with ending(parts):
        while True:
            token = variable.set(value)
            try:
                part = await anext(parts)
            except StopAsyncIteration:
                return
            finally:
                variable.reset(token)
            yield part
