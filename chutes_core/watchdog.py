"""Time limits for blocking reads.

An HTTP client takes its read timeout once, before the body begins, but the limits of an answer change as
it goes: long before the first token, short between tokens, less and less towards the end of the whole call.
One daemon thread per process watches all open answers and shuts the connection of one that is late, which
ends its blocking read at once. Moving a limit is one attribute write; the thread looks at the clock only
when the earliest limit it knows of comes up.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

__all__ = ["Watch", "Watchdog", "watchdog"]

_NEVER = float("inf")


class Watch:
    """The limit of one open answer."""

    __slots__ = ("_dog", "abort", "deadline", "fired")

    def __init__(self, dog: Watchdog, abort: Callable[[], None]) -> None:
        self._dog = dog
        self.abort = abort
        self.deadline = _NEVER
        self.fired = False

    def arm(self, seconds: float) -> None:
        """Allow so many seconds from now."""
        self.deadline = self._dog.now() + seconds
        self._dog.expect(self.deadline)

    def disarm(self) -> None:
        """Allow any time."""
        self.deadline = _NEVER

    def end(self) -> None:
        """Watch no longer."""
        self.deadline = _NEVER
        self._dog.forget(self)


class Watchdog:
    """Watches answers and aborts the late ones.

    Args:
        now: The clock.
        threaded: Run the thread; without it :meth:`check` is called by hand.

    >>> time_now, aborted = [0.0], []
    >>> dog = Watchdog(now=lambda: time_now[0], threaded=False)
    >>> watch = dog.watch(lambda: aborted.append("late"))
    >>> watch.arm(5); dog.check(); aborted
    5.0
    []
    >>> time_now[0] = 6.0; dog.check(), aborted, watch.fired
    (inf, ['late'], True)
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic, threaded: bool = True) -> None:
        self.now = now
        self._threaded = threaded
        self._wake = threading.Condition()
        self._watches: set[Watch] = set()
        self._next = _NEVER
        self._thread: threading.Thread | None = None

    def watch(self, abort: Callable[[], None]) -> Watch:
        """Begin to watch; ``abort`` is called, from another thread, when a limit passes."""
        watch = Watch(self, abort)
        with self._wake:
            self._watches.add(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop watching."""
        with self._wake:
            self._watches.discard(watch)

    def expect(self, deadline: float) -> None:
        """Be awake at this time at the latest."""
        if deadline >= self._next:
            return
        with self._wake:
            self._next = min(self._next, deadline)
            if self._threaded and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="chutes-watchdog", daemon=True)
                self._thread.start()
            self._wake.notify()

    def check(self) -> float:
        """Abort what is late and return when to look again."""
        with self._wake:
            self._next = _NEVER  # before looking: a limit that is set meanwhile then waits for the lock
            now = self.now()
            # A copy: a stream that is collected as garbage in this very thread ends its watch in between.
            for watch in [watch for watch in self._watches.copy() if watch.deadline <= now]:
                watch.fired = True
                watch.deadline = _NEVER
                # Under the lock, so that nobody ends the watch and hands the connection on in between.
                with contextlib.suppress(Exception):  # one that cannot be aborted is no reason to forget the others
                    watch.abort()
            self._next = min((watch.deadline for watch in self._watches.copy()), default=_NEVER)
            return self._next

    def _run(self) -> None:
        while True:
            self.check()
            with self._wake:
                self._wake.wait(None if self._next == _NEVER else max(self._next - self.now(), 0.0))


class _Shared:
    dog: Watchdog | None = None


def watchdog() -> Watchdog:
    """Return the one of this process."""
    if _Shared.dog is None:
        _Shared.dog = Watchdog()
    return _Shared.dog


def _forget_after_fork() -> None:  # pragma: no cover (runs in the child alone)
    _Shared.dog = None  # its thread stayed in the parent


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_forget_after_fork)
