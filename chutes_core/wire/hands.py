"""The two hands that perform the effects of a call: :class:`SyncWire` blocks, :class:`AsyncWire` awaits.

Everything that could hold a key stays inside the few lines that send a request: exceptions raised here carry neither
the HTTP client's exceptions nor their frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from chutes_core.auth import Credential
from chutes_core.calls.bodies import (
    ENCODINGS,
    JSON,
    BodyError,
    Gauge,
    TooLargeError,
    Unpacker,
    aunpacked,
    unpacked,
    unpacker_for,
)
from chutes_core.calls.clock import Clock
from chutes_core.calls.effects import (
    Arrived,
    Authorize,
    Effect,
    Inline,
    Open,
    Read,
    Resolve,
    Sleep,
    StatusFailure,
    WireFailure,
)
from chutes_core.errors import redact
from chutes_core.wire.deadline import Deadline, hold, until
from chutes_core.wire.direct import AsyncReply, Reply
from chutes_core.wire.images import ainline_images, inline_images

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncWire", "SyncWire"]

_PACKAGES = ("httpx", "httpx2", "httpcore", "httpcore2")
_MOST_SAID = 1024 * 1024
"""The most bytes read of an error body: far more than one has, far less than fills memory."""


class _Body(Protocol):
    """The part of a response used here, of httpx or httpx2, blocking or async."""

    status_code: int
    is_success: bool
    headers: httpx.Headers
    extensions: Mapping[str, object]
    is_stream_consumed: bool
    request: _Sent

    def iter_bytes(self) -> Iterator[bytes]: ...
    def iter_raw(self) -> Iterator[bytes]: ...
    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    def aiter_raw(self) -> AsyncIterator[bytes]: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...


class _Sent(Protocol):
    extensions: Mapping[str, object]


def _unopened(error: Exception) -> Exception | None:
    """Convert an exception of the HTTP client, or of its time, to our own; None if it is another one."""
    if isinstance(error, TimeoutError):
        return _late()
    if isinstance(error, UnicodeError):  # such as a cookie that the service has set in your own client
        return WireFailure("connect", "a header of the request cannot be encoded")
    if type(error).__module__.partition(".")[0] not in _PACKAGES:
        return None
    name, said = type(error).__name__, _said(error)
    if name in ("ConnectTimeout", "PoolTimeout"):
        return WireFailure("connect_timeout", said)
    return WireFailure("timeout" if "Timeout" in name else "connect", said)


def _broken(error: Exception) -> WireFailure:
    """Convert an exception that was raised while reading."""
    if isinstance(error, BodyError):
        return WireFailure("too_large" if isinstance(error, TooLargeError) else "invalid", str(error))
    if isinstance(error, TimeoutError):
        return _late()
    return WireFailure("timeout" if "Timeout" in type(error).__name__ else "broken", _said(error))


def _said(error: Exception) -> str:
    name, said = type(error).__name__, str(error)
    if name == "ProxyError" and said[:1].isdigit():
        said = said.partition(" ")[0]  # its status: a proxy may write back the password that it was sent
    return redact(f"{name}: {said}" if said else name)


def _late() -> WireFailure:
    return WireFailure("timeout", "the time limit passed")


class _Wire:
    """What both hands have in common: the reply that is open, and how much of it may still come."""

    def __init__(self, credential: Credential | None, clock: Clock, encodings: Collection[str]) -> None:
        self._credential = credential
        self._clock = clock
        self._encodings = encodings
        self._body: _Body | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self._limits: dict[str, object] = {}
        self._gauge = Gauge(JSON)
        self._unpacker: Unpacker | None = None
        self._held = True
        self._unreadable: WireFailure | None = None

    def _arrived(self, response: object, effect: Open) -> _Body:
        """Take a reply whose headers are there, and choose how its body is unpacked."""
        self._body = body = cast("_Body", response)
        self._errors = (*_errors_of(response), TimeoutError, BodyError)
        self._limits = _take_limits(body)
        self._unpacker, self._unreadable = None, None
        if not body.is_stream_consumed:  # else a transport has it in memory, unpacked
            try:
                self._unpacker = unpacker_for(body.headers, self._encodings)
            except BodyError as error:
                self._unreadable = _broken(error)
        self._gauge = Gauge(effect.most, packed=self._unpacker is not None)
        return body

    def _taken(self, block: bytes) -> bytes:
        """Unpack and measure what was read from the connection; a compressed block may hold nothing yet."""
        if self._unpacker is None:
            self._gauge.take(block)
            return block
        parts = []
        for part in self._unpacker.feed(block):
            self._gauge.take(part)
            parts.append(part)
        return b"".join(parts)

    def _headers(self, body: _Body, within: float | None, started: float) -> Arrived:
        if within is not None and self._clock.now() - started > within:
            raise _late()
        if self._unreadable is not None:
            raise self._unreadable
        return Arrived(body.headers, body.status_code, body.headers.raw)


def _errors_of(response: object) -> tuple[type[Exception], ...]:
    """Return what reading the body of a reply may raise."""
    if isinstance(response, Reply | AsyncReply):
        return response.errors
    package = sys.modules[type(response).__module__.partition(".")[0]]
    return package.HTTPError, package.StreamError


def _take_limits(body: _Body) -> dict[str, object]:
    """Disable the client's read timeout for the body; return the dict that announces our limits to a test's transport.

    The HTTP client reads its timeout once, when the body begins; ours was meant for the headers.
    """
    limits = body.request.extensions.get("timeout")
    if not isinstance(limits, dict):
        return {}
    limits["read"] = None
    return limits


def _rest(within: float | None, took: float) -> float | None:
    """Return what is left of a timeout."""
    return None if within is None else max(within - took, 0.0)


class SyncWire(_Wire):
    """Performs the effects of one call, blocking."""

    def __init__(
        self,
        send: Callable[[Open], object],
        credential: Credential | None = None,
        *,
        clock: Clock,
        encodings: Collection[str] = ENCODINGS,
    ) -> None:
        super().__init__(credential, clock, encodings)
        self._send = send
        self._blocks: Iterator[bytes] = iter(())
        self._contents: Callable[[float | None], bytes] | None = None

    def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""
        match effect:
            case Read(within):
                return self._read(within)
            case Open():
                return self._open(effect)
            case Sleep(seconds):
                self._clock.sleep(seconds)
                return None
            case Inline(messages, policy, within):
                return inline_images(messages, policy, within, self._clock)
            case Resolve(host, port, _):
                return self._resolve(host, port)
            case Authorize(refused):
                return self._credential.secret(refused) if self._credential else None
            case _:
                raise AssertionError(effect)

    def close(self) -> None:
        """Return the connection to the pool, or close it if the reply was not read to its end."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _open(self, effect: Open) -> Arrived:
        self.close()
        started, within = self._clock.now(), effect.headers_within
        problem: Exception | None = None
        try:
            with Deadline(within):
                response = self._send(effect)
        except Exception as error:
            if (problem := _unopened(error)) is None:
                raise
        if problem is not None:
            raise problem
        self._held = hold(cast("_Body", response).extensions.get("network_stream")) is not None
        body = self._arrived(response, effect)
        blocks = body.iter_bytes() if body.is_stream_consumed else body.iter_raw()
        self._blocks = blocks if self._unpacker is None else unpacked(blocks, self._unpacker)
        self._contents = None
        if isinstance(response, Reply) and self._unreadable is None:
            self._contents = response.contents()
        if not body.is_success:
            raise self._refusal(body, started, within)
        return self._headers(body, within, started)

    def _refusal(self, body: _Body, started: float, within: float | None) -> StatusFailure:
        """Read the body of an error reply, as far as it arrives in time: the status alone is enough."""
        said = bytearray()
        with contextlib.suppress(WireFailure):
            while (
                len(said) < _MOST_SAID and (block := self._read(_rest(within, self._clock.now() - started))) is not None
            ):
                said += block
        self.close()
        return StatusFailure(body.status_code, dict(body.headers), bytes(said[:_MOST_SAID]))

    def _read(self, within: float | None) -> bytes | None:
        if self._contents is not None:
            return self._read_contents(self._contents, within)
        started, problem = self._clock.now(), self._unreadable
        self._limits["wait"] = within
        if not self._held:  # a transport that has no socket of ours reads its timeout itself
            self._limits["read"] = within
        token = until.set(None if within is None else time.monotonic() + within)
        try:
            if problem is None and (block := next(self._blocks, None)) is not None:
                self._gauge.take(block)
        except self._errors as error:
            problem = _broken(error)
        finally:
            until.reset(token)
        if within is not None and self._clock.now() - started > within:  # nothing could interrupt the wait
            problem = problem or _late()
        if problem is not None:
            raise problem
        return block

    def _read_contents(self, contents: Callable[[float | None], bytes], within: float | None) -> bytes | None:
        started, left = self._clock.now(), within
        try:
            while block := contents(left):
                if taken := self._taken(block):
                    return taken
                left = _rest(within, self._clock.now() - started)
        except self._errors as error:
            problem = _broken(error)
        else:
            self._contents = None  # what is left is the end, which the package reads
            return self._read(_rest(within, self._clock.now() - started))
        raise problem

    @staticmethod
    def _resolve(host: str, port: int) -> list[str]:
        """Look up a host. Nothing can interrupt the system's resolver, which has limits of its own."""
        try:
            return _addresses(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            problem = WireFailure("connect", type(error).__name__)
        raise problem


class AsyncWire(_Wire):
    """Performs the effects of one call on the event loop."""

    def __init__(
        self,
        send: Callable[[Open], Awaitable[object]],
        credential: Credential | None = None,
        *,
        clock: Clock,
        encodings: Collection[str] = ENCODINGS,
    ) -> None:
        super().__init__(credential, clock, encodings)
        self._send = send
        self._blocks: AsyncIterator[bytes] | None = None
        self._contents: Callable[[float | None], Awaitable[bytes]] | None = None

    def perform(self, effect: Effect) -> Awaitable[object]:
        """Perform one effect of a flow."""
        if type(effect) is Read:  # of which there are thousands: without a coroutine around it
            return self._read(effect.within)
        return self._perform(effect)

    async def _perform(self, effect: Effect) -> object:
        match effect:
            case Open():
                return await self._open(effect)
            case Sleep(seconds):
                await self._clock.asleep(seconds)
                return None
            case Inline(messages, policy, within):
                return await ainline_images(messages, policy, within, self._clock)
            case Resolve(host, port, within):
                return await self._resolve(host, port, within)
            case Authorize(refused):
                return await self._credential.asecret(refused) if self._credential else None
            case _:
                raise AssertionError(effect)

    async def close(self) -> None:
        """Return the connection to the pool, or close it if the reply was not read to its end."""
        body, self._body = self._body, None
        if body is not None:
            await body.aclose()

    async def _open(self, effect: Open) -> Arrived:
        await self.close()
        started, within = self._clock.now(), effect.headers_within
        problem: Exception | None = None
        try:
            async with asyncio.timeout(within):
                response = await self._send(effect)
        except Exception as error:
            if (problem := _unopened(error)) is None:
                raise
        if problem is not None:
            raise problem
        body = self._arrived(response, effect)
        blocks = body.aiter_bytes() if body.is_stream_consumed else body.aiter_raw()
        self._blocks = blocks if self._unpacker is None else aunpacked(blocks, self._unpacker)
        self._contents = None
        if isinstance(response, AsyncReply) and self._unreadable is None:
            self._contents = response.contents()
        if not body.is_success:
            raise await self._refusal(body, started, within)
        return self._headers(body, within, started)

    async def _refusal(self, body: _Body, started: float, within: float | None) -> StatusFailure:
        said = bytearray()
        with contextlib.suppress(WireFailure):
            while (
                len(said) < _MOST_SAID
                and (block := await self._read(_rest(within, self._clock.now() - started))) is not None
            ):
                said += block
        await self.close()
        return StatusFailure(body.status_code, dict(body.headers), bytes(said[:_MOST_SAID]))

    def _read(self, within: float | None) -> Awaitable[bytes | None]:
        if self._contents is not None:
            return self._read_contents(self._contents, within)
        return self._read_blocks(within)

    async def _read_blocks(self, within: float | None) -> bytes | None:
        assert self._blocks is not None, "a flow opens before it reads"
        started, problem = self._clock.now(), self._unreadable
        self._limits["wait"] = within
        try:
            if problem is None and (block := await self._next(self._blocks, within)) is not None:
                self._gauge.take(block)
        except self._errors as error:
            problem = _broken(error)
        if within is not None and self._clock.now() - started > within:
            problem = problem or _late()
        if problem is not None:
            raise problem
        return block

    async def _read_contents(
        self, contents: Callable[[float | None], Awaitable[bytes]], within: float | None
    ) -> bytes | None:
        started, left = self._clock.now(), within
        try:
            while block := await contents(left):
                if taken := self._taken(block):
                    return taken
                left = _rest(within, self._clock.now() - started)
        except self._errors as error:
            problem = _broken(error)
        else:
            self._contents = None
            return await self._read_blocks(_rest(within, self._clock.now() - started))
        raise problem

    async def _next(self, blocks: AsyncIterator[bytes], within: float | None) -> bytes | None:
        if isinstance(self._body, AsyncReply):
            self._body.limit(within)  # without a scope and a timer for each read
            return await anext(blocks, None)
        async with asyncio.timeout(within):
            return await anext(blocks, None)

    @staticmethod
    async def _resolve(host: str, port: int, within: float | None) -> list[str]:
        try:
            async with asyncio.timeout(within):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return _addresses(found)
        except TimeoutError:
            problem = _late()
        except (OSError, UnicodeError) as error:
            problem = WireFailure("connect", type(error).__name__)
        raise problem


def _addresses(found: Iterable[tuple[object, object, object, object, tuple[object, ...]]]) -> list[str]:
    return [str(address[0]) for *_, address in found]
