"""Deadlines of blocking calls.

An HTTP client gives each operation on a socket a timeout of its own, so a server that sends one byte before each runs
out is waited for without end. Here a thread has one deadline for whatever it waits for: :class:`Deadline` sets it, and
the sockets of our requests compute the timeout of every operation from it. Nothing watches from outside, so no thread
is needed, and what a call costs does not depend on how many others are open.

The HTTP client tells of new connections through its ``trace`` extension, and of one it uses again through the reply's
``network_stream``: see docs/decisions/0003 for what that leaves open.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Hashable, Iterator, MutableMapping
from contextvars import ContextVar, Token
from functools import lru_cache, partial
from typing import cast

from chutes_core.calls.stopping import Stop, Stopped, stopping

__all__ = ["Deadline", "Keeps", "addressed", "go_on", "hold", "left", "trace", "until"]

until: ContextVar[float | None] = ContextVar("chutes_deadline", default=None)
"""The deadline, by the monotonic clock. :class:`Deadline` sets it; a read, of which there are many, does so itself."""
_ENOUGH = 1.0
"""Seconds in which a host on the other side of the world answers, if it does."""
_ASKED = (".connect_tcp.started",)
_SHARED = "http2.send_request_headers.started"
_MADE = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")


class Deadline:
    """A block whose network operations must all end within so many seconds; None sets no limit.

    >>> with Deadline(10):
    ...     left(3), round(left(60))
    (3, 10)
    >>> left(60)
    60
    """

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        at = None if self._seconds is None else time.monotonic() + self._seconds
        self._token: Token[float | None] = until.set(at)

    def __exit__(self, *error: object) -> None:
        until.reset(self._token)


def left(timeout: float | None) -> float | None:
    """Return a timeout that ends no later than the current deadline.

    Raises:
        TimeoutError: It has passed.
    """
    at = until.get()
    if at is None:
        return timeout
    rest = at - time.monotonic()
    if rest <= 0:
        raise TimeoutError("the time limit passed")
    return rest if timeout is None or timeout > rest else timeout


def trace(event: str, info: MutableMapping[str, object]) -> None:
    """Follow how a connection is made; for the ``trace`` extension of a blocking request."""
    if event.endswith(_MADE):
        hold(info["return_value"])
        go_on()
    elif event.endswith(_ASKED):
        go_on()
        host, port = cast("str", info["host"]), cast("int", info["port"])
        info["host"], info["timeout"] = addressed(host, port, cast("float | None", info["timeout"]))
    elif event == _SHARED:
        go_on()
        _leave_alone()


def go_on() -> None:
    """Raise if nobody needs the connection any more: it takes its time to be made, and then nothing is sent."""
    stop = stopping.get()
    if stop is not None and stop.stopped:
        raise Stopped


def _leave_alone() -> None:
    """Let nobody end a wait for a connection of HTTP/2: answers of others come on it, and would end with it."""
    stop = stopping.get()
    if stop is not None:
        stop.shares = True


def addressed(host: str, port: int, timeout: float | None) -> tuple[str, float | None]:
    """Return which host to connect to, and for how long each of its addresses may be tried.

    They are tried one after the other, each with the same timeout, so they share the time. Where that would be too
    little for any of them, the first one has all of it.
    """
    whole = left(timeout)
    if whole is None:
        return host, None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return host, whole  # what cannot be resolved fails when it is connected to
    whole = cast("float", left(whole))
    if len(found) > 1 and whole < _ENOUGH * len(found):
        return str(found[0][4][0]), whole
    return host, whole / max(len(found), 1)


class Keeps:
    """A socket that keeps deadlines."""

    __slots__ = ()

    def receive(self, size: int, by: float | None) -> bytes:
        """Wait for bytes by a time of the monotonic clock, whatever timeout or deadline was set before."""
        raise NotImplementedError


def hold(stream: object) -> Keeps | None:
    """Make a connection keep deadlines from now on; return its socket, or None if it cannot."""
    about = getattr(stream, "get_extra_info", None)
    found = about("socket") if callable(about) else None
    if isinstance(found, socket.socket):
        with contextlib.suppress(TypeError):  # a class of another form, such as one written in C
            found.__class__ = _keeping(cast("Hashable", type(found)))
    return found if isinstance(found, Keeps) else None


def _shut(connection: socket.socket) -> None:
    """Close a connection that another thread waits for, which wakes it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # that of TLS would change what the other thread uses


@contextlib.contextmanager
def _waiting(stop: Stop, connection: socket.socket) -> Iterator[None]:
    """Let the wait of a block be ended, by closing the connection that it is for."""
    stop.begin(partial(_shut, connection))
    try:
        yield
    finally:
        stop.over()


@lru_cache(maxsize=16)
def _keeping(kind: type[socket.socket]) -> type[socket.socket]:
    """Return the class of sockets that keep deadlines and are otherwise of this kind."""
    if issubclass(kind, Keeps):
        return kind

    class Socket(kind, Keeps):  # type: ignore[valid-type, misc]
        __slots__ = ()  # the same layout, so that a socket can become one

        def settimeout(self, value: float | None) -> None:
            super().settimeout(left(value))

        def recv(self, size: int, flags: int = 0) -> bytes:
            # TLS within TLS sets a timeout once and then reads as often as it likes.
            super().settimeout(left(self.gettimeout()))
            if (stop := stopping.get()) is None:
                return cast("bytes", super().recv(size, flags))
            with _waiting(stop, self):
                return cast("bytes", super().recv(size, flags))

        def receive(self, size: int, by: float | None) -> bytes:
            while True:
                timeout = self.gettimeout()
                rest = None if by is None else by - time.monotonic()
                if rest is not None and rest <= 0:
                    raise TimeoutError("the time limit passed")
                if rest is None or timeout is None:
                    if rest is not timeout:
                        super().settimeout(rest)
                elif not rest / 2 <= timeout <= rest:  # a shorter one is waited for again: to set it is a system call
                    super().settimeout(rest)
                try:
                    if (stop := stopping.get()) is None:
                        return cast("bytes", super().recv(size))
                    with _waiting(stop, self):
                        return cast("bytes", super().recv(size))
                except TimeoutError:
                    continue

        def send(self, data: bytes, flags: int = 0) -> int:
            if (stop := stopping.get()) is None:
                return cast("int", super().send(data, flags))
            with _waiting(stop, self):
                return cast("int", super().send(data, flags))

    Socket.__name__, Socket.__qualname__ = kind.__name__, kind.__qualname__
    return Socket
