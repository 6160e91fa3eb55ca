"""An event loop whose clock jumps to the next thing that happens, so that hours of waiting take no time."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from typing import Any, TypeVar
from unittest import mock

import anyio.to_thread

T = TypeVar("T")
EPOCH = 1_800_000_000.0
_PATIENCE = 60.0  # real seconds for threads to finish, when the loop has nothing to do


class Stuck(RuntimeError):
    """Everything waits, and nothing is left that could happen."""


class _Jumps(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Waits for nothing: where the loop would sleep, the time moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:  # only another thread can wake the loop now
            ready = super().select(_PATIENCE)
            if not ready:
                raise Stuck("the loop waits for ever")
            return ready
        self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop. What is handed to its executor runs at once: threads would not be the same twice."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now

    def advance(self, seconds: float) -> None:
        self._jumps.now += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class LoopClock:
    """The loop's time, for our own clients."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    def sleep(self, seconds: float) -> None:
        self._loop.advance(seconds)

    async def asleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@contextlib.contextmanager
def _patched(loop: VirtualLoop) -> Iterator[None]:
    """Let the time module tell the loop's time to whoever asks it by name, such as cooldowns; and start no threads."""
    owner, really_sleep = threading.get_ident(), time.sleep

    def sleep(seconds: float) -> None:
        if threading.get_ident() == owner:
            loop.advance(seconds)
        else:
            really_sleep(seconds)

    async def at_once(func: Callable[..., T], *args: object, **options: object) -> T:
        return copy_context().run(func, *args)

    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(anyio.to_thread, "run_sync", at_once))
        for name, told in {
            "monotonic": loop.time,
            "perf_counter": loop.time,
            "time": lambda: EPOCH + loop.time(),
            "sleep": sleep,
        }.items():
            patches.enter_context(mock.patch.object(time, name, told))
        yield


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], context: Context | None = None) -> T:
    """Run a coroutine in virtual time, from 0 on."""
    loop = VirtualLoop()
    with _patched(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main(loop), context=context)
        except Stuck:
            for task in asyncio.all_tasks(loop):  # nobody waits for what waits for ever
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            raise
