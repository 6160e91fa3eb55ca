"""The transport under the openai SDK's ``http_client``: adds key and host to requests, guards replies.

It works with ``httpx`` or ``httpx2``, whichever the SDK is built on, and sends through a client of either. It raises
new exceptions of the SDK's types: those of the HTTP client have frames that hold the key.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

from chutes_core.calls.effects import WireFailure, adrive, drive
from chutes_core.errors import ChutesError, Kind
from chutes_core.failures.reading import failure
from chutes_core.openai_sdk.errors import as_openai
from chutes_core.openai_sdk.exchange import Exchange, Head
from chutes_core.wire import pools
from chutes_core.wire.direct import AsyncPool
from chutes_core.wire.hands import AsyncWire, SyncWire
from chutes_core.wire.sending import asender, sender
from chutes_core.wire.through import AsyncThrough, Through

if TYPE_CHECKING:
    import httpx

    from chutes_core.openai_sdk.door import AsyncDoor, Door

__all__ = ["AsyncTransport", "Transport"]

T = TypeVar("T")
Steps = Generator[object, None, None]
AsyncSteps = AsyncGenerator[object, None]
_DROPPED = frozenset({b"content-encoding", b"content-length", b"transfer-encoding", b"location", b"set-cookie"})
"""Headers that are not true of the reply as the SDK gets it, and those that its own client would act upon."""
_ERRORS = {"connect": "ConnectError", "connect_timeout": "ConnectTimeout", "timeout": "ReadTimeout"}


class Transport:
    """Blocking transport for the SDK's requests.

    Args:
        door: Where requests go.
        asked: Answers a request in place of the door, or returns None.
    """

    def __init__(self, door: Door, asked: Callable[[httpx.Request], Steps | None] = lambda request: None) -> None:
        self._door = door
        self._asked = asked

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and check its reply."""
        request.read()
        steps = _clean(request, lambda: self._asked(request)) or self._sent(request)
        head = cast("Head", _clean(request, lambda: next(steps)))
        if head.content is not None:
            steps.close()
        return _reply(request, head, steps)

    def _sent(self, request: httpx.Request) -> Steps:
        door, own = self._door, cast("httpx.Client | None", self._door.own_client)
        send = sender(pools.sync_pools().get(door) if own is None else Through(own))
        wire = SyncWire(send, door.credential, clock=door.clock)
        hand = wire if door.recorder is None else door.recorder.tap(wire)
        return drive(Exchange(door, request).run(), hand, [])

    def close(self) -> None:
        """Release the shared pool; a client passed in by the user is left open."""
        pools.sync_pools().release(self._door)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class AsyncTransport:
    """Async transport for the SDK's requests, with the same arguments as :class:`Transport`."""

    def __init__(
        self, door: AsyncDoor, asked: Callable[[httpx.Request], AsyncSteps | None] = lambda request: None
    ) -> None:
        self._door = door
        self._asked = asked

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and check its reply."""
        await request.aread()
        steps = _clean(request, lambda: self._asked(request)) or self._sent(request)
        head = cast("Head", await _aclean(request, lambda: anext(steps)))
        if head.content is not None:
            await steps.aclose()
        return _reply(request, head, steps)

    def _sent(self, request: httpx.Request) -> AsyncSteps:
        door, own = self._door, cast("httpx.AsyncClient | None", self._door.own_client)

        async def pool() -> AsyncPool | AsyncThrough:
            return await pools.async_pools().get(door) if own is None else AsyncThrough(own)

        wire = AsyncWire(asender(pool), door.credential, clock=door.clock)
        hand = wire if door.recorder is None else door.recorder.atap(wire)
        return adrive(Exchange(door, request).run(), hand, [])

    async def aclose(self) -> None:
        """Release the shared pool; a client passed in by the user is left open."""
        await pools.async_pools().release(self._door)

    async def __aenter__(self) -> AsyncTransport:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()


def _reply(request: httpx.Request, head: Head, rest: Steps | AsyncSteps) -> httpx.Response:
    """Build the reply for the SDK, in its own HTTP package, with the body decoded."""
    package = _package_of(request)
    headers = [(name, _read_alike(value)) for name, value in head.headers if name.lower() not in _DROPPED]
    body: dict[str, object] = {"content": head.content}
    if head.content is None:
        body = {"stream": _bodies(package)[isinstance(rest, AsyncGenerator)](rest, request)}
    return cast("httpx.Response", package.Response(head.status, headers=headers, **body))


def _read_alike(value: bytes) -> bytes:
    """Leave out a stated charset: JSON has none, and of those that Python knows some are no charsets."""
    return value.partition(b";")[0] if b"charset" in value.lower() else value


def _package_of(message: object) -> ModuleType:
    """Return the HTTP package, httpx or httpx2, of a request or reply."""
    return sys.modules[type(message).__module__.partition(".")[0]]


def _clean(request: httpx.Request, act: Callable[[], T]) -> T:
    """Run ``act``; replace its exception with one of the SDK's types, without the original frames."""
    try:
        return act()
    except (ChutesError, WireFailure) as error:
        problem = _problem(error, request)
    raise problem


async def _aclean(request: httpx.Request, act: Callable[[], Awaitable[T]]) -> T:
    try:
        return await act()
    except (ChutesError, WireFailure) as error:
        problem = _problem(error, request)
    raise problem


def _problem(error: ChutesError | WireFailure, request: httpx.Request) -> Exception:
    """Return a new exception of the SDK or of its HTTP package."""
    if isinstance(error, ChutesError):
        return as_openai(error)
    if error.reason in ("invalid", "too_large"):
        return as_openai(failure(Kind.MALFORMED, error.said))
    kind = getattr(_package_of(request), _ERRORS.get(error.reason, "ReadError"))
    return cast("Exception", kind(error.said, request=request))


@lru_cache(maxsize=2)
def _bodies(package: ModuleType) -> tuple[type, type]:
    """Return the blocking and async body classes for an HTTP package."""

    class Body(package.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, steps: Generator[bytes, None, None], request: httpx.Request) -> None:
            self._steps, self._request = steps, request

        def __iter__(self) -> Iterator[bytes]:
            while (block := _clean(self._request, lambda: next(self._steps, None))) is not None:
                yield block
                block = b""  # not shown by this frame if the next one fails

        def close(self) -> None:
            self._steps.close()

    class AsyncBody(package.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, steps: AsyncGenerator[bytes, None], request: httpx.Request) -> None:
            self._steps, self._request = steps, request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            while (block := await _aclean(self._request, lambda: anext(self._steps, None))) is not None:
                yield block
                block = b""

        async def aclose(self) -> None:
            await self._steps.aclose()

    return Body, AsyncBody
