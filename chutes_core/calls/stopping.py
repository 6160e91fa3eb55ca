"""How a blocking wait in another thread is ended.

A thread that waits for a socket cannot be cancelled. So whoever may be stopped waits between :meth:`Stop.begin`, which
says how that wait is ended, and :meth:`Stop.over`; only in between can another thread end it, so a connection that was
given back is never touched. Tasks of an event loop are cancelled, and have a :class:`Stop` for its ``outrun`` alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["Stop", "Stopped", "outrun", "stopping"]


class Stopped(Exception):
    """Nobody needs any more what this thread waits for."""


class Stop:
    """Ends what a thread waits for, and all that it would wait for later.

    Attributes:
        stopped: Whether it was stopped.
        outrun: Whether the reason is that another one was first: its call goes on.
        shares: Whether it waits on behalf of others too, as on a connection of HTTP/2: such a wait is left alone.

    >>> stop, ended = Stop(), []
    >>> stop.begin(lambda: ended.append("the wait"))
    >>> stop.stop(); ended
    ['the wait']
    >>> stop.over()
    Traceback (most recent call last):
    chutes_core.calls.stopping.Stopped
    """

    __slots__ = ("_end", "_lock", "outrun", "shares", "stopped")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end: Callable[[], object] | None = None
        self.stopped = self.outrun = self.shares = False

    def stop(self, *, outrun: bool = False) -> None:
        """End the wait, from any thread."""
        with self._lock:
            self.stopped, self.outrun = True, outrun
            if self._end is not None:
                self._end()

    def begin(self, end: Callable[[], object]) -> None:
        """Say how the wait that begins now is ended."""
        if self.shares:
            return
        with self._lock:
            if self.stopped:
                raise Stopped
            self._end = end

    def over(self) -> None:
        """The wait is over: raise if that is because it was stopped."""
        if self.shares:
            return
        with self._lock:
            self._end = None
            if self.stopped:
                raise Stopped


stopping: ContextVar[Stop | None] = ContextVar("chutes_stop", default=None)
"""By what the current thread or task may be stopped, if by anything."""


def outrun() -> bool:
    """Return whether what runs here was stopped because another one was first.

    >>> outrun()
    False
    """
    stop = stopping.get()
    return stop is not None and stop.outrun
