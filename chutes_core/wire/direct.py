"""The shared pools, and the replies that come over them.

They are connection pools of httpcore, which httpx and httpx2 are made of, without the client on top: its merging,
redirects, cookies and credentials are not needed, and are a third of what a call costs. The bodies of streams are read
from the connection itself (:mod:`chutes_core.wire.streams`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, NamedTuple, cast

from chutes_core.wire.lanes import KEEP_ALIVE, SIZE, Lanes
from chutes_core.wire.streams import AsyncBackend, AsyncStream, Backend, Stream

if TYPE_CHECKING:
    import httpcore
    import httpx

    from chutes_core.wire.through import AsyncThrough, Through

__all__ = ["AsyncPool", "AsyncReply", "Packages", "Pool", "Reply", "Request"]

_LIMITS = {"max_connections": SIZE, "max_keepalive_connections": SIZE, "keepalive_expiry": KEEP_ALIVE}
_BODILESS = (204, 304)
"""Statuses whose replies have no body, whatever their headers say."""


class Request(NamedTuple):
    """A request, as it is sent."""

    method: str
    url: str
    params: Mapping[str, str] | None
    headers: Mapping[str, str]
    content: bytes | None
    timeouts: dict[str, float | None]


class Packages(NamedTuple):
    """An HTTP package and the one below it: httpx2 and httpcore2, or httpx and httpcore."""

    http: ModuleType
    core: ModuleType

    def request(self, request: Request) -> httpcore.Request:
        """Return the request for the package below, with the headers that HTTP itself needs."""
        url, host = _target(self, request.url, tuple((request.params or {}).items()))
        headers = [(b"Host", host)]
        headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in request.headers.items()]
        if request.content is not None or request.method == "POST":
            headers.append((b"Content-Length", b"%d" % len(request.content or b"")))
        made: httpcore.Request = self.core.Request(
            request.method, url, headers=headers, content=request.content, extensions={"timeout": request.timeouts}
        )
        return made


@lru_cache(maxsize=64)
def _target(packages: Packages, url: str, params: tuple[tuple[str, str], ...]) -> tuple[httpcore.URL, bytes]:
    """Return a URL for the package below, and what its ``Host`` header says."""
    found: httpx.URL = packages.http.URL(url, params=dict(params)) if params else packages.http.URL(url)
    parts = packages.core.URL(scheme=found.raw_scheme, host=found.raw_host, port=found.port, target=found.raw_path)
    return parts, found.netloc


class _Reply:
    """What hands need of a reply: the same as of a reply of httpx."""

    is_stream_consumed = False

    def __init__(
        self, packages: Packages, request: httpcore.Request, response: httpcore.Response, leave: Callable[[], None]
    ) -> None:
        self.request = request
        self.status_code = response.status
        self.is_success = 200 <= response.status < 300
        self.headers: httpx.Headers = packages.http.Headers(response.headers)
        self.extensions = response.extensions
        core = packages.core
        self.errors = (core.TimeoutException, core.NetworkError, core.ProtocolError)
        self._response, self._leave = response, leave

    def _take_over(self, stream: Stream | AsyncStream) -> bool:
        """Have the contents of a body in chunks read from the connection; what is left after them is its end."""
        chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        return self.status_code not in _BODILESS and chunked and stream.take_over()

    def _bound(self, stream: Stream | AsyncStream) -> None:
        """Have the package read no more than the body, if its length is known."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and "transfer-encoding" not in self.headers:
            stream.bound(int(length))


class Reply(_Reply):
    """A reply of a blocking pool."""

    @property
    def _connection(self) -> Stream:
        return cast("Stream", self.extensions["network_stream"])

    def iter_raw(self) -> Iterator[bytes]:
        """Yield the body as the package reads it."""
        self._bound(self._connection)
        return self._response.iter_stream()

    def contents(self) -> Callable[[float | None], bytes] | None:
        """Return a function that reads the body from the connection, if it can be; none means that the rest is left."""
        return self._connection.contents if self._take_over(self._connection) else None

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        try:
            self._response.close()
        finally:
            self._leave()


class AsyncReply(_Reply):
    """A reply of a pool on the event loop."""

    @property
    def _connection(self) -> AsyncStream:
        return cast("AsyncStream", self.extensions["network_stream"])

    def limit(self, seconds: float | None) -> None:
        """Let the next read of the package end in so many seconds; None sets no limit."""
        self._connection.limit(seconds)

    def aiter_raw(self) -> AsyncIterator[bytes]:
        """Yield the body as the package reads it; a limit of time is set for each read (:attr:`limit`)."""
        self._bound(self._connection)
        return self._response.aiter_stream()

    def contents(self) -> Callable[[float | None], Awaitable[bytes]] | None:
        """Return a function that reads the body from the connection, if it can be; none means that the rest is left."""
        return self._connection.contents if self._take_over(self._connection) else None

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self.limit(None)
        try:
            await self._response.aclose()
        finally:
            self._leave()


def _is_replaced(method: object, package: ModuleType) -> bool:
    """Return whether a tool has put a function of its own in the place of a method of a package.

    A recorder of cassettes does, a test's mock or a tracer: then it is to see our requests as it sees any others.
    """
    if not isinstance(method, FunctionType):
        return True
    return not method.__code__.co_filename.startswith(os.path.dirname(str(package.__file__)))


class Pool:
    """A shared pool of blocking connections.

    Args:
        packages: What the connections are made of.
        context: Which certificates are trusted.
        aside: Makes a client of the package, through which requests go while a tool watches those.
    """

    def __init__(self, packages: Packages, context: ssl.SSLContext, aside: Callable[[], Through]) -> None:
        self._packages = packages
        self._make_aside = aside
        self._aside: Through | None = None
        make = partial(packages.core.ConnectionPool, context, **_LIMITS, network_backend=Backend(packages.core))
        self._lanes: Lanes[httpcore.ConnectionPool] = Lanes(make)

    def send(self, request: Request) -> object:
        """Send a request and wait for the reply's headers."""
        http = self._packages.http
        if _is_replaced(http.HTTPTransport.handle_request, http):
            self._aside = self._aside or self._make_aside()
            return self._aside.send(request)
        sent = self._packages.request(request)
        if (retired := self._lanes.retired()) is not None:
            retired.close()
        lane = self._lanes.enter()
        try:
            response = lane.pool.handle_request(sent)
        except BaseException:
            self._lanes.leave(lane)
            raise
        return Reply(self._packages, sent, response, self._lanes.leaver(lane))

    def close(self) -> None:
        """Close all connections."""
        for pool in self._lanes.all():
            pool.close()
        if self._aside is not None:
            self._aside.close()


class AsyncPool:
    """A shared pool of connections of one event loop, with the same arguments."""

    def __init__(self, packages: Packages, context: ssl.SSLContext, aside: Callable[[], AsyncThrough]) -> None:
        self._packages = packages
        self._make_aside = aside
        self._aside: AsyncThrough | None = None
        make = partial(
            packages.core.AsyncConnectionPool, context, **_LIMITS, network_backend=AsyncBackend(packages.core)
        )
        self._lanes: Lanes[httpcore.AsyncConnectionPool] = Lanes(make)

    async def send(self, request: Request) -> object:
        """Send a request and wait for the reply's headers."""
        http = self._packages.http
        if _is_replaced(http.AsyncHTTPTransport.handle_async_request, http):
            self._aside = self._aside or self._make_aside()
            return await self._aside.send(request)
        sent = self._packages.request(request)
        if (retired := self._lanes.retired()) is not None:
            await retired.aclose()
        lane = self._lanes.enter()
        try:
            response = await lane.pool.handle_async_request(sent)
        except BaseException:
            self._lanes.leave(lane)
            if not lane.busy:
                await _close_left(lane.pool)
            raise
        return AsyncReply(self._packages, sent, response, self._lanes.leaver(lane))

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._lanes.all():
            await pool.aclose()
        if self._aside is not None:
            await self._aside.aclose()
        await asyncio.sleep(0)  # in which the loop lets go of the connections


async def _close_left(pool: httpcore.AsyncConnectionPool) -> None:
    """Close the connections of a pool without requests that are not idle.

    httpcore leaves one in its pool, for ever, when a request is cancelled just before it is sent.
    """
    for connection in pool.connections:
        if not connection.is_idle():
            await connection.aclose()
