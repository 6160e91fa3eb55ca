"""Requests through a client of an HTTP package, httpx or httpx2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from chutes_core.wire.deadline import trace
from chutes_core.wire.direct import Request

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncThrough", "Through"]


class Build(Protocol):
    """Builds a request, as a client's ``build_request`` does."""

    def __call__(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str],
        content: bytes | None,
        extensions: Mapping[str, object],
    ) -> httpx.Request:
        """Build a request."""


class Through:
    """Sends by a client of an HTTP package, httpx or httpx2: yours, or one that chooses a proxy for each request.

    Args:
        client: The client.
        build: Builds its requests: by default as the client does, with what it adds to each.
    """

    def __init__(self, client: httpx.Client, build: Build | None = None) -> None:
        self._client, self._build = client, build or client.build_request

    def send(self, request: Request) -> object:
        """Send a request and wait for the reply's headers, without following redirects."""
        return self._client.send(_built(self._build, request, trace=trace), stream=True, follow_redirects=False)

    def close(self) -> None:
        """Close the client."""
        self._client.close()


class AsyncThrough:
    """The same on the event loop."""

    def __init__(self, client: httpx.AsyncClient, build: Build | None = None) -> None:
        self._client, self._build = client, build or client.build_request

    async def send(self, request: Request) -> object:
        """Send a request and wait for the reply's headers, without following redirects."""
        return await self._client.send(_built(self._build, request), stream=True, follow_redirects=False)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


def _built(build: Build, request: Request, **extensions: object) -> httpx.Request:
    method, url, params, headers, content, timeouts = request
    # As an extension the timeouts are plain numbers, the same for httpx and httpx2.
    more = {"timeout": timeouts, **extensions}
    return build(method, url, params=params, headers=headers, content=content, extensions=more)
