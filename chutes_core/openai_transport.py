"""The transport under the openai SDK's ``http_client``: adds key and host to requests, guards replies.

It works with ``httpx`` or ``httpx2``, whichever the SDK is built on, and sends through a client of either. It raises
new exceptions of the SDK's types: those of the HTTP client have frames that hold the key.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar, cast

from chutes_core import pools
from chutes_core.auth import Secret
from chutes_core.errors import ChutesError, Kind, redact
from chutes_core.openai_errors import as_openai

if TYPE_CHECKING:
    import httpx

    from chutes_core.openai_bill import Bill
    from chutes_core.openai_door import AsyncDoor, Door, Question
    from chutes_core.openai_stream import PassThrough

__all__ = ["AsyncTransport", "Transport"]

T = TypeVar("T")
_FRAMING = ("content-encoding", "content-length", "transfer-encoding")


class Transport:
    """Blocking transport for the SDK's requests."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and check its reply."""
        request.read()
        question = self._door.question(request)
        with _clean(request, lambda: self._door.bill(question)) as bill:
            secret = _clean(request, self._door.credential.secret)
            response = self._send(request, question, secret)
            if response.status_code == 401:
                try:
                    fresh = _clean(request, lambda: self._door.credential.secret(secret))
                except BaseException:
                    response.close()
                    raise
                if fresh != secret:
                    response.close()
                    response = self._send(request, question, fresh)
            if question.streams and response.is_success:
                steps = _guarded(self._door, question, response, bill.until_read())
                return _reply(request, response, bill=bill, stream=steps)
            if question.body is None and response.is_success:
                return _reply(request, response, stream=_passed(request, response))
            return _judged(self._door, request, question, response, _clean(request, response.read), bill)

    def _send(self, request: httpx.Request, question: Question, secret: Secret) -> httpx.Response:
        http = cast("httpx.Client", self._door.own_client or pools.sync_pools().get(self._door))
        return _clean(request, lambda: http.send(_request(self._door, http, request, question, secret), stream=True))

    def close(self) -> None:
        """Release the shared pool; a client passed in by the user is left open."""
        pools.sync_pools().release(self._door)

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class AsyncTransport:
    """Async transport for the SDK's requests."""

    def __init__(self, door: AsyncDoor) -> None:
        self._door = door

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and check its reply."""
        await request.aread()
        question = self._door.question(request)
        with _clean(request, lambda: self._door.bill(question)) as bill:
            secret = await _aclean(request, self._door.credential.asecret)
            response = await self._send(request, question, secret)
            if response.status_code == 401:
                try:
                    fresh = await _aclean(request, lambda: self._door.credential.asecret(secret))
                except BaseException:
                    await response.aclose()
                    raise
                if fresh != secret:
                    await response.aclose()
                    response = await self._send(request, question, fresh)
            if question.streams and response.is_success:
                steps = _aguarded(self._door, question, response, bill.until_read())
                return _reply(request, response, bill=bill, stream=steps)
            if question.body is None and response.is_success:
                return _reply(request, response, stream=_apassed(request, response))
            return _judged(self._door, request, question, response, await _aclean(request, response.aread), bill)

    async def _send(self, request: httpx.Request, question: Question, secret: Secret) -> httpx.Response:
        http = cast("httpx.AsyncClient", self._door.own_client or await pools.async_pools().get(self._door))
        sent = _request(self._door, http, request, question, secret)
        return await _aclean(request, lambda: http.send(sent, stream=True))

    async def aclose(self) -> None:
        """Release the shared pool; a client passed in by the user is left open."""
        await pools.async_pools().release(self._door)

    async def __aenter__(self) -> AsyncTransport:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()


def _request(
    door: Door, http: httpx.Client | httpx.AsyncClient, request: httpx.Request, question: Question, secret: Secret
) -> httpx.Request:
    """Build the request to send: the SDK keeps its own, which has no key."""
    headers = door.outgoing(request, secret)
    return http.build_request(
        request.method, question.url, headers=headers, content=question.content, extensions=dict(request.extensions)
    )


def _judged(
    door: Door, request: httpx.Request, question: Question, response: httpx.Response, content: bytes, bill: Bill
) -> httpx.Response:
    """Pass on a reply that was not streamed; raise if it is not a valid answer."""
    if not response.is_success:
        return _reply(request, response, *door.refusal(question, response.status_code, response.headers, content))
    return _reply(request, response, _clean(request, lambda: door.check(question, response.headers, content, bill)))


def _reply(
    request: httpx.Request,
    response: httpx.Response,
    content: bytes | None = None,
    changed: Mapping[str, str] | None = None,
    stream: Iterator[bytes] | AsyncIterator[bytes] | None = None,
    bill: Bill | None = None,
) -> httpx.Response:
    """Build the reply for the SDK, in its own HTTP package, with the body decoded."""
    package = _package_of(request)
    dropped = {*_FRAMING, *(changed or ())}
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in dropped]
    body = (
        {"content": content}
        if stream is None
        else {"stream": _bodies(package)[isinstance(stream, AsyncIterator)](stream, response, bill)}
    )
    made = package.Response(
        response.status_code, headers=[*headers, *(changed or {}).items()], extensions=_http_version(response), **body
    )
    return cast("httpx.Response", made)


def _http_version(response: httpx.Response) -> dict[str, object]:
    return {name: value for name, value in response.extensions.items() if name in ("http_version", "reason_phrase")}


def _package_of(message: object) -> ModuleType:
    """Return the HTTP package, httpx or httpx2, of a request or reply."""
    return sys.modules[type(message).__module__.partition(".")[0]]


# ------------------------------------------------------------------------------------------------------ errors


def _clean(request: httpx.Request, act: Callable[[], T]) -> T:
    """Run ``act``; replace its exception with one of the SDK's types, without the original frames."""
    try:
        return act()
    except Exception as error:
        if (problem := _problem(error, request)) is None:
            raise
    raise problem


async def _aclean(request: httpx.Request, act: Callable[[], Awaitable[T]]) -> T:
    try:
        return await act()
    except Exception as error:
        if (problem := _problem(error, request)) is None:
            raise
    raise problem


def _problem(error: Exception, request: httpx.Request) -> Exception | None:
    """Return a new exception of the SDK or of its HTTP package; None if the error is neither ours nor the client's."""
    if isinstance(error, ChutesError):
        return as_openai(error)
    if not _of_http_client(error):
        return None
    package = _package_of(request)
    kind = getattr(package, type(error).__name__, package.TransportError)
    return cast("Exception", kind(redact(str(error)), request=request))


def _of_http_client(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2")


def _end(error: Exception, stream: PassThrough) -> tuple[Kind, str]:
    """Return how a stream broke off; re-raise an exception that is not the HTTP client's."""
    if not _of_http_client(error):
        raise error
    name = type(error).__name__
    late = Kind.STALL if stream.guard.delivered else Kind.FIRST_TOKEN_TIMEOUT
    return late if "Timeout" in name else Kind.RESET, redact(f"{name}: {error}")


# ------------------------------------------------------------------------------------------------------ bodies


def _passed(request: httpx.Request, response: httpx.Response) -> Iterator[bytes]:
    """Pass on a body without checking it."""
    blocks = response.iter_bytes()
    while (block := _clean(request, lambda: next(blocks, None))) is not None:
        yield block


async def _apassed(request: httpx.Request, response: httpx.Response) -> AsyncIterator[bytes]:
    blocks = response.aiter_bytes()
    while (block := await _aclean(request, lambda: anext(blocks, None))) is not None:
        yield block


def _guarded(door: Door, question: Question, response: httpx.Response, bill: Bill) -> Iterator[bytes]:
    stream, blocks = door.stream(question, response.headers), response.iter_bytes()
    block: bytes | None = b""
    try:
        while block is not None:
            end: tuple[Kind, str] | None = None
            try:
                block = next(blocks, None)
            except Exception as error:
                block, end = None, _end(error, stream)
            yield from _steps(stream, block, end)
    finally:
        door.settled(stream, bill)


async def _aguarded(door: Door, question: Question, response: httpx.Response, bill: Bill) -> AsyncIterator[bytes]:
    stream, blocks = door.stream(question, response.headers), response.aiter_bytes()
    block: bytes | None = b""
    try:
        while block is not None:
            end: tuple[Kind, str] | None = None
            try:
                block = await anext(blocks, None)
            except Exception as error:
                block, end = None, _end(error, stream)
            for piece in _steps(stream, block, end):
                yield piece
    finally:
        door.settled(stream, bill)


def _steps(stream: PassThrough, block: bytes | None, end: tuple[Kind, str] | None) -> Iterator[bytes]:
    """Pass on the next bytes, or close; errors become the SDK's types."""
    problem: Exception | None = None
    try:
        yield from stream.close(*(end or ())) if block is None else stream.feed(block)
    except ChutesError as error:
        problem = as_openai(error)
    if problem is not None:
        raise problem


@lru_cache(maxsize=2)
def _bodies(package: ModuleType) -> tuple[type, type]:
    """Return the blocking and async body classes for an HTTP package."""

    class Body(package.SyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, steps: Iterator[bytes], response: httpx.Response, bill: Bill | None) -> None:
            self._steps, self._response, self._bill = steps, response, bill

        def __iter__(self) -> Iterator[bytes]:
            return self._steps

        def close(self) -> None:
            cast("Generator[bytes, None, None]", self._steps).close()
            self._response.close()
            if self._bill is not None:
                self._bill.close()  # a generator that never started does not run its finally block

    class AsyncBody(package.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, steps: AsyncIterator[bytes], response: httpx.Response, bill: Bill | None) -> None:
            self._steps, self._response, self._bill = steps, response, bill

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._steps

        async def aclose(self) -> None:
            await cast("AsyncGenerator[bytes, None]", self._steps).aclose()
            await self._response.aclose()
            if self._bill is not None:
                self._bill.close()

    return Body, AsyncBody
