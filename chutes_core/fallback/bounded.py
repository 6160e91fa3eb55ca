"""Time limits for models that know nothing of ours: any iterator of parts, blocking or async."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

from chutes_core.errors import APIError, Kind
from chutes_core.failures import failure
from chutes_core.settings import TimeLimits

__all__ = ["abounded", "bounded"]

P = TypeVar("P")


class _Timer:
    """Which limit comes up next, and how long it is until then."""

    def __init__(self, limits: TimeLimits, model: str) -> None:
        self._limits = limits
        self._model = model
        self._started = self._last = time.monotonic()
        self._shown = False
        self._kind = Kind.FIRST_TOKEN_TIMEOUT

    def left(self) -> float | None:
        """Seconds until the next limit; None when there is none."""
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
        """A part has been taken, and what came after it was the reader's own time."""
        self._shown = self._shown or shows
        if shows:
            self._last = time.monotonic()

    def late(self) -> APIError:
        """The limit passed."""
        return failure(self._kind, model=self._model)


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


def bounded(
    parts: Callable[[], Iterator[P]], limits: TimeLimits, *, shows: Callable[[P], bool], model: str
) -> Generator[P, None, None]:
    """Give out the parts of a blocking iterator, or fail when one is late.

    A blocking read cannot be interrupted from outside, so it happens in a thread. A thread that is late is left
    behind: it ends when its own client gives up, or with the next part, and what it brings is not looked at.

    >>> list(bounded(lambda: iter("ab"), TimeLimits(total=5), shows=bool, model="other/model"))
    ['a', 'b']
    """
    box: queue.SimpleQueue[P | _End] = queue.SimpleQueue()
    left_alone = threading.Event()

    def fetch() -> None:
        source = None
        try:
            source = parts()
            for part in source:
                if left_alone.is_set():
                    return
                box.put(part)
        except BaseException as error:
            box.put(_End(error))
        else:
            box.put(_End())
        finally:
            close = getattr(source, "close", None)
            if callable(close):
                close()

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(fetch,), name="chutes-member", daemon=True).start()
    timer = _Timer(limits, model)
    try:
        while True:
            try:
                part = box.get(timeout=timer.left())
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


async def abounded(
    parts: Callable[[], AsyncIterator[P]], limits: TimeLimits, *, shows: Callable[[P], bool], model: str
) -> AsyncGenerator[P, None]:
    """Give out the parts of an async iterator, or fail when one is late."""
    source = parts()
    timer = _Timer(limits, model)
    try:
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
    finally:
        close = getattr(source, "aclose", None)
        if callable(close):
            await close()
