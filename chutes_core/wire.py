"""The two hands that perform the effects of a call: :class:`SyncWire` blocks, :class:`AsyncWire` awaits.

Everything that could hold a key stays inside the few lines that send a request: exceptions raised here carry neither
the HTTP client's exceptions nor their frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Protocol, cast

from chutes_core.auth import Credential
from chutes_core.clock import Clock
from chutes_core.effects import Authorize, Effect, Inline, Open, Read, Sleep, StatusFailure, WireFailure
from chutes_core.errors import redact
from chutes_core.images import ainline_images, inline_images
from chutes_core.watchdog import Watch, watchdog

__all__ = ["AsyncWire", "SyncWire"]


_MOST_SAID = 1024 * 1024
"""The most bytes read of an error body: far more than one has, far less than fills memory."""


class _Body(Protocol):
    """The part of a response used here, of httpx or httpx2, blocking or async."""

    status_code: int
    is_success: bool
    headers: Mapping[str, str]
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


class _NetworkStream(Protocol):
    def get_extra_info(self, info: str) -> object: ...


def _problem(error: Exception) -> Exception | None:
    """Convert an exception of the HTTP client to our own; None if it is not one of the client's."""
    if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
        return None
    name = type(error).__name__
    said = redact(f"{name}: {error}" if str(error) else name)
    if name in ("ConnectTimeout", "PoolTimeout"):
        return WireFailure("connect_timeout", said)
    return WireFailure("timeout" if "Timeout" in name else "connect", said)


def _transport_errors(response: object) -> tuple[type[Exception], ...]:
    """Return the exceptions that reading this response may raise: those of its package."""
    package = sys.modules[type(response).__module__.partition(".")[0]]
    return (package.HTTPError, package.StreamError)


def _is_plain(body: _Body) -> bool:
    """Return whether the raw bytes can be read as they are: no content encoding, and not consumed yet."""
    return "content-encoding" not in body.headers and not body.is_stream_consumed


def _read_failure(error: Exception, late: bool) -> WireFailure:
    name = type(error).__name__
    said = redact(f"{name}: {error}" if str(error) else name)
    return WireFailure("timeout" if late or "Timeout" in name else "broken", said)


def _take_limits(response: object) -> dict[str, object]:
    """Disable the client's read timeout for the body; return the dict that announces our limits to a test's transport.

    The HTTP client reads its timeout once, when the body begins; ours was meant for the headers.
    """
    limits = cast("_Body", response).request.extensions.get("timeout")
    if not isinstance(limits, dict):
        return {}
    limits["read"] = None
    return limits


class SyncWire:
    """Performs the effects of one call, blocking."""

    def __init__(self, send: Callable[[Open], object], credential: Credential | None = None, *, clock: Clock) -> None:
        self._send = send
        self._credential = credential
        self._clock = clock
        self._response: object = None
        self._blocks: Iterator[bytes] = iter(())
        self._watch: Watch | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self._limits: dict[str, object] = {}

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
            case Inline(messages, policy):
                return inline_images(messages, policy)
            case Authorize(refused):
                return self._credential.secret(refused) if self._credential else None
            case _:
                raise AssertionError(effect)

    def close(self) -> None:
        """Return the connection to the pool, or close it if the reply was not read to its end."""
        if self._watch is not None:
            self._watch.end()
            self._watch = None
        response, self._response = self._response, None
        if response is not None:
            cast("_Body", response).close()

    def _open(self, effect: Open) -> Mapping[str, str]:
        self.close()
        started = self._clock.now()
        problem: Exception | None = None
        try:
            response = self._send(effect)
        except Exception as error:
            if (problem := _problem(error)) is None:
                raise
        if problem is not None:
            raise problem
        self._response, body = response, cast("_Body", response)
        self._errors = _transport_errors(response)
        self._blocks = body.iter_raw() if _is_plain(body) else body.iter_bytes()
        self._limits = _take_limits(response)
        self._watch = _watch(response)
        if not body.is_success:
            raise self._refusal(body, started, effect.headers_within)
        _check_late(self._clock.now() - started, effect.headers_within)
        return body.headers

    def _refusal(self, body: _Body, started: float, within: float | None) -> StatusFailure:
        """Read the body of an error reply, as far as it arrives in time: the status alone is enough."""
        said = bytearray()
        with contextlib.suppress(WireFailure):
            while (
                len(said) < _MOST_SAID and (block := self._read(_rest(within, self._clock.now() - started))) is not None
            ):
                said += block
        self.close()
        return StatusFailure(body.status_code, dict(body.headers), bytes(said))

    def _read(self, within: float | None) -> bytes | None:
        started, watch = self._clock.now(), self._watch
        self._limits["wait"] = within
        if watch is None:
            # HTTP/2: the connection is shared, so it is not shut down; the client checks this timeout at every read.
            self._limits["read"] = within
        elif within is not None:
            watch.arm(max(within, 0.0))
        problem: Exception | None = None
        try:
            block = next(self._blocks, None)
        except self._errors as error:
            problem = _read_failure(error, late=watch is not None and watch.fired)
        if problem is not None:
            raise problem
        if watch is not None:
            watch.disarm()
            if watch.fired:  # a body without a stated length seems to end when its socket is shut down
                raise WireFailure("timeout", "the time limit passed")
        _check_late(self._clock.now() - started, within)
        return block


def _watch(response: object) -> Watch | None:
    """Watch a reply's socket, unless it is shared or absent."""
    stream = cast("_Body", response).extensions.get("network_stream")
    socket = cast("_NetworkStream", stream).get_extra_info("socket") if stream is not None else None
    if socket is None or cast("_Body", response).extensions.get("http_version") == b"HTTP/2":
        return None

    def abort() -> None:
        # The plain socket's shutdown: a TLS socket's would drop the session while the reader uses it.
        with contextlib.suppress(OSError):  # it may have closed already
            sockets.socket.shutdown(cast("sockets.socket", socket), sockets.SHUT_RDWR)

    return watchdog().watch(abort)


def _rest(within: float | None, took: float) -> float | None:
    """Return what is left of a timeout."""
    return None if within is None else max(within - took, 0.0)


def _check_late(took: float, within: float | None) -> None:
    """Enforce a timeout even if nothing could interrupt the wait."""
    if within is not None and took > within:
        raise WireFailure("timeout", "the time limit passed")


class AsyncWire:
    """Performs the effects of one call on the event loop."""

    def __init__(
        self, send: Callable[[Open], Awaitable[object]], credential: Credential | None = None, *, clock: Clock
    ) -> None:
        self._send = send
        self._credential = credential
        self._clock = clock
        self._response: object = None
        self._blocks: AsyncIterator[bytes] | None = None
        self._errors: tuple[type[Exception], ...] = ()
        self._limits: dict[str, object] = {}

    async def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""
        match effect:
            case Read(within):
                return await self._read(within)
            case Open():
                return await self._open(effect)
            case Sleep(seconds):
                await self._clock.asleep(seconds)
                return None
            case Inline(messages, policy):
                return await ainline_images(messages, policy)
            case Authorize(refused):
                return await self._credential.asecret(refused) if self._credential else None
            case _:
                raise AssertionError(effect)

    async def close(self) -> None:
        """Return the connection to the pool, or close it if the reply was not read to its end."""
        response, self._response = self._response, None
        if response is not None:
            await cast("_Body", response).aclose()

    async def _open(self, effect: Open) -> Mapping[str, str]:
        await self.close()
        started = self._clock.now()
        problem: Exception | None = None
        try:
            async with asyncio.timeout(effect.headers_within):
                response = await self._send(effect)
        except TimeoutError:
            problem = WireFailure("timeout", "the time limit passed")
        except Exception as error:
            if (problem := _problem(error)) is None:
                raise
        if problem is not None:
            raise problem
        self._response, body = response, cast("_Body", response)
        self._errors = _transport_errors(response)
        self._blocks = body.aiter_raw() if _is_plain(body) else body.aiter_bytes()
        self._limits = _take_limits(response)
        if not body.is_success:
            raise await self._refusal(body, started, effect.headers_within)
        _check_late(self._clock.now() - started, effect.headers_within)
        return body.headers

    async def _refusal(self, body: _Body, started: float, within: float | None) -> StatusFailure:
        said = bytearray()
        with contextlib.suppress(WireFailure):
            while (
                len(said) < _MOST_SAID
                and (block := await self._read(_rest(within, self._clock.now() - started))) is not None
            ):
                said += block
        await self.close()
        return StatusFailure(body.status_code, dict(body.headers), bytes(said))

    async def _read(self, within: float | None) -> bytes | None:
        assert self._blocks is not None, "a flow opens before it reads"
        started = self._clock.now()
        self._limits["wait"] = within
        problem: Exception | None = None
        try:
            async with asyncio.timeout(within):
                block = await anext(self._blocks, None)
        except TimeoutError:
            problem = WireFailure("timeout", "the time limit passed")
        except self._errors as error:
            problem = _read_failure(error, late=False)
        if problem is not None:
            raise problem
        _check_late(self._clock.now() - started, within)
        return block
