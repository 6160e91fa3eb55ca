"""The connections of the shared pools: network backends of httpcore, blocking and on the event loop.

They do what httpcore's own do, and keep a reply's body back for whoever reads it without the package
(:mod:`chutes_core.wire.framing`). A request's headers are held until its body comes, so that both are one write. On
the event loop a connection is its own ``asyncio.Protocol`` and has one timer, which is moved by arithmetic: a chunk
costs no task, no scope and no timer. See docs/decisions/0016.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

from chutes_core.wire.deadline import addressed, go_on, hold
from chutes_core.wire.framing import Inbox
from chutes_core.wire.tls import Tls

if TYPE_CHECKING:
    import httpcore

__all__ = ["AsyncBackend", "AsyncStream", "Backend", "Stream"]

T = TypeVar("T")
_READ = 64 * 1024
_HIGH = 256 * 1024
"""The most bytes that wait for a reader before the other side has to."""
_STAGGER = 0.25
"""Seconds between attempts to connect to two addresses of a host, as RFC 8305 has it."""


class _Framed:
    """What a connection keeps: what has come, and the headers of a request that are not sent yet."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._inbox, self._held = Inbox(package.RemoteProtocolError), b""

    def _to_send(self, buffer: bytes) -> bytes:
        """Return what is to be sent now: the headers of a request go with its body."""
        if not self._inbox.expects:
            self._inbox.expect()
            self._held = buffer
            return b""
        held, self._held = self._held, b""
        return held + buffer

    def bound(self, length: int) -> None:
        """Note how long the body is that the package reads."""
        self._inbox.bound(length)

    def take_over(self) -> bool:
        """Have the contents of a body in chunks read by ``contents``; return whether that is possible."""
        return self._inbox.take_over()

    def _unfinished(self) -> Exception:
        said = "the connection was closed before the body had ended"
        return cast("Exception", self._package.RemoteProtocolError(said))


class Stream(_Framed):
    """A blocking connection, over one of httpcore's own."""

    def __init__(self, package: ModuleType, inner: httpcore.NetworkStream) -> None:
        super().__init__(package)
        self._inner = inner
        self._socket = hold(self)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        self._inner.write(self._to_send(buffer), timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes for the package."""
        inbox = self._inbox
        while not (taken := inbox.take(max_bytes)):
            if not (block := self._inner.read(_READ, timeout)):
                return inbox.take(max_bytes, all_came=True)
            inbox.put(block)
        return taken

    def contents(self, within: float | None) -> bytes:
        """Return the next contents, which have to come within so many seconds; none if they have ended."""
        inbox, until = self._inbox, None if within is None else time.monotonic() + within
        while not (contents := inbox.contents()) and not inbox.ended:
            if not (block := self._receive(until)):
                raise self._unfinished()
            inbox.put(block)
        return contents

    def _receive(self, until: float | None) -> bytes:
        if self._socket is None:
            return self._inner.read(_READ, None if until is None else max(until - time.monotonic(), 0.001))
        try:
            return self._socket.receive(_READ, until)
        except TimeoutError:
            raise
        except OSError as error:
            problem = self._package.ReadError(str(error))
        raise problem

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        """Encrypt the connection."""
        return Stream(self._package, self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        """Return what is known of the connection."""
        return True if info == "is_readable" and len(self._inbox) else self._inner.get_extra_info(info)


class Backend:
    """Makes blocking connections."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package
        self._inner: httpcore.NetworkBackend = package.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> Stream:
        """Connect to a host."""
        go_on()
        host, timeout = addressed(host, port, timeout)
        stream = Stream(self._package, self._inner.connect_tcp(host, port, timeout, local_address, socket_options))
        go_on()
        return stream

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._inner.sleep(seconds)


class AsyncStream(_Framed, asyncio.Protocol):
    """A connection on the event loop, and its protocol."""

    def __init__(self, package: ModuleType) -> None:
        super().__init__(package)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._tls: Tls | None = None
        self._shaking = False
        self._waiter: asyncio.Future[None] | None = None
        self._full = self._over = False
        self._error: Exception | None = None
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep what has come, and wake who waits for it."""
        waits = self._inbox.put(data) if self._tls is None else self._decrypt(self._tls, data)
        if waits > _HIGH and not self._full:
            self._full = True
            self._transport.pause_reading()
        if self._waiter is not None:
            self._wake()

    def _decrypt(self, tls: Tls, data: bytes) -> int:
        tls.take(data)
        waits = 0
        if self._shaking:
            return waits
        try:
            waits = self._inbox.put(tls.said())
        except ssl.SSLError as error:
            self._over, self._error = True, error
        self._over = self._over or tls.ended
        if answer := tls.to_send():
            self._transport.write(answer)
        return waits

    def eof_received(self) -> None:
        """Note that nothing more will come."""
        self._over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more will come, and why."""
        self._over, self._error = True, self._error or exc
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """Have writers wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    def _wake(self, error: Exception | None = None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    async def _more(self) -> bool:
        """Wait until something has come; return whether more may come."""
        if self._full:
            self._full = False
            self._transport.resume_reading()
        if self._over:
            if self._error is not None:
                raise self._package.ReadError(str(self._error))
            return False
        if self._until is not None and self._timer is None:  # it rang between two waits
            self.limit(self._until - self._loop.time())
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return True

    def limit(self, seconds: float | None) -> None:
        """Let waiting for a body end in so many seconds, with a ``TimeoutError``; None sets no limit."""
        if seconds is None:
            self._until = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        self._until = until = self._loop.time() + seconds
        if self._timer is None or self._rings > until:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(until)

    def _set_timer(self, rings: float) -> None:
        self._rings = rings
        self._timer = self._loop.call_at(rings, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._until is None or self._waiter is None:
            return  # nobody waits; who does next has it set again
        if self._loop.time() < self._until:
            self._set_timer(self._until)
        else:
            self._wake(TimeoutError())

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send bytes."""
        if not (data := self._to_send(buffer)):
            return
        if self._over:
            raise self._package.WriteError("the connection is closed")
        if self._tls is not None:
            self._tls.say(data)
            data = self._tls.to_send()
        self._transport.write(data)
        if not self._writable.is_set():
            await _limited(self._writable.wait(), timeout, self._package.WriteTimeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes for the package. Who waits for a reply has a limit of time for all of it (:meth:`limit`)."""
        inbox = self._inbox
        while not (taken := inbox.take(max_bytes)):
            if not await self._more():
                return inbox.take(max_bytes, all_came=True)
        return taken

    async def contents(self, within: float | None) -> bytes:
        """Return the next contents, which have to come within so many seconds; none if they have ended."""
        self.limit(within)
        inbox = self._inbox
        while not (contents := inbox.contents()) and not inbox.ended:
            if not await self._more():
                raise self._unfinished()
        return contents

    async def aclose(self) -> None:
        """Close the connection."""
        # Nothing is waited for: who is cancelled here would leave the request in the package's pool for ever.
        self.limit(None)
        self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncStream:
        """Encrypt the connection."""
        try:
            await _limited(self._shake_hands(ssl_context, server_hostname), timeout, self._package.ConnectTimeout)
        except OSError as error:
            problem = self._package.ConnectError(str(error))
        except BaseException:
            self._transport.abort()
            raise
        else:
            return self
        self._transport.abort()
        raise problem

    async def _shake_hands(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._tls = tls = Tls(context, server_hostname)
        self._shaking = True
        try:
            while not tls.shake_hands():
                self._transport.write(tls.to_send())
                if not await self._more():
                    raise ConnectionError("the connection was closed during the handshake")
        finally:
            self._shaking = False
            self._transport.write(tls.to_send())
        self._decrypt(tls, b"")  # what came together with the end of the handshake

    def get_extra_info(self, info: str) -> object:
        """Return what is known of the connection."""
        if info == "is_readable":
            return self._over or len(self._inbox) > 0 or _readable(self._transport.get_extra_info("socket"))
        if info == "ssl_object":
            return None if self._tls is None else self._tls.object
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self._transport.get_extra_info(name)


class AsyncBackend:
    """Makes connections on the event loop."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> AsyncStream:
        """Connect to a host."""
        try:
            return await _limited(self._dial(host, port, timeout), timeout, self._package.ConnectTimeout)
        except (OSError, UnicodeError) as error:
            problem = self._package.ConnectError(str(error))
        raise problem

    async def _dial(self, host: str, port: int, timeout: float | None) -> AsyncStream:
        loop, make = asyncio.get_running_loop(), partial(AsyncStream, self._package)
        with contextlib.suppress(TypeError):  # uvloop tries one address after the other
            return (await loop.create_connection(make, host, port, happy_eyeballs_delay=_STAGGER))[1]
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
        for address in addresses[:-1]:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(None if timeout is None else timeout / len(addresses)):
                    return (await loop.create_connection(make, address, port))[1]
        return (await loop.create_connection(make, addresses[-1], port))[1]

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def _limited(step: Awaitable[T], timeout: float | None, late: Callable[[], Exception]) -> T:
    try:
        async with asyncio.timeout(timeout):
            return await step
    except TimeoutError:
        problem = late()
    raise problem


def _readable(connection: socket.socket) -> bool:
    """Return whether something has come on an idle connection, which is its end."""
    if connection.fileno() < 0:
        return True
    if sys.platform == "win32":
        return bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
