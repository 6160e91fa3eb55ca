"""Timeouts for blocking reads.

An HTTP client takes its read timeout once, before the body begins, but the limits of an answer change as it arrives:
long before the first token, short between tokens, shrinking towards the end of the whole call. One daemon thread per
process watches all open answers and shuts down the connection of a late one, which ends its blocking read at once.
Changing a deadline is one attribute write; the thread checks the clock only at the earliest deadline it knows of.
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
    """The deadline of one open answer."""

    __slots__ = ("_dog", "abort", "deadline", "fired")

    def __init__(self, dog: Watchdog, abort: Callable[[], None]) -> None:
        self._dog = dog
        self.abort = abort
        self.deadline = _NEVER
        self.fired = False

    def arm(self, seconds: float) -> None:
        """Set the deadline to ``seconds`` from now."""
        self.deadline = self._dog.now() + seconds
        self._dog.expect(self.deadline)

    def disarm(self) -> None:
        """Remove the deadline."""
        self.deadline = _NEVER

    def end(self) -> None:
        """Stop watching."""
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
        """Start watching; ``abort`` is called from another thread when a deadline passes."""
        watch = Watch(self, abort)
        with self._wake:
            self._watches.add(watch)
        return watch

    def forget(self, watch: Watch) -> None:
        """Stop watching."""
        with self._wake:
            self._watches.discard(watch)

    def expect(self, deadline: float) -> None:
        """Ensure a check at ``deadline`` at the latest."""
        if deadline >= self._next:
            return
        with self._wake:
            self._next = min(self._next, deadline)
            if self._threaded and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="chutes-watchdog", daemon=True)
                self._thread.start()
            self._wake.notify()

    def check(self) -> float:
        """Abort late answers and return when to check again."""
        with self._wake:
            self._next = _NEVER  # before checking, so that a deadline set meanwhile waits for the lock
            now = self.now()
            # A copy: a stream garbage-collected in this thread may end its watch during the loop.
            for watch in [watch for watch in self._watches.copy() if watch.deadline <= now]:
                watch.fired = True
                watch.deadline = _NEVER
                # Under the lock, so that the watch cannot end and its connection be reused in between.
                with contextlib.suppress(Exception):  # a failed abort must not stop the others
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
    """Return the watchdog of this process."""
    if _Shared.dog is None:
        _Shared.dog = Watchdog()
    return _Shared.dog


def _forget_after_fork() -> None:  # pragma: no cover (runs in the child alone)
    _Shared.dog = None  # its thread exists only in the parent


if hasattr(os, "register_at_fork"):  # pragma: no branch
    os.register_at_fork(after_in_child=_forget_after_fork)
