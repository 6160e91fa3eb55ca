"""Send requests over a shared pool, or over the user's own client.

Requests are built here and sent by the HTTP client, of httpx or httpx2; see docs/decisions/0006. Exceptions of these
functions are sanitized in :mod:`chutes_core.wire`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from chutes_core.effects import Open
from chutes_core.errors import RequestRefusedError
from chutes_core.pools import http_package, user_agent

if TYPE_CHECKING:
    import httpx

__all__ = ["Build", "asender", "encoded", "sender", "shared_request"]


class Build(Protocol):
    """Builds a request, like a client's ``build_request``, which also adds the client's defaults."""

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
        ...


_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encoded(body: Mapping[str, object]) -> bytes:
    """Encode a body as JSON.

    >>> encoded({"text": "café"}).decode()
    '{"text":"café"}'
    """
    problem: Exception
    try:
        return _dumps(body).encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = error
    raise RequestRefusedError(f"The request cannot be encoded as JSON: {problem}.")


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    found: httpx.URL = http_package().URL(url)
    return found


def shared_request(method: str, url: str, **parts: object) -> httpx.Request:
    """Build a request for a shared pool, whose clients have no defaults to add."""
    request: httpx.Request = http_package().Request(method, _parsed(url), **parts)
    return request


def _request(build: Build, effect: Open) -> httpx.Request:
    request = effect.request
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": user_agent(),
        **request.plain_headers(),
    }
    content = request.content
    if request.body is not None:
        headers.setdefault("Content-Type", "application/json")
        content = encoded(request.body)
    return build(
        request.method,
        request.url,
        params=dict(request.params) or None,
        headers=headers,
        content=content,
        # As an extension the timeouts are plain numbers, the same for httpx and httpx2.
        extensions={"timeout": _limits(effect)},
    )


def _limits(effect: Open) -> dict[str, float | None]:
    """Return the HTTP client's timeouts: connecting may take no longer than is left for the headers.

    Waiting for a place in a client's own pool may take as long as an answer: whoever holds it may wait for one so long.
    """
    wait = effect.headers_within
    connect = min((limit for limit in (effect.connect, wait) if limit is not None), default=None)
    return {"connect": connect, "read": wait, "write": wait, "pool": connect if wait is None else wait}


def sender(http: httpx.Client, build: Build) -> Callable[[Open], object]:
    """Return a function that sends requests, blocking, without reading the reply's body."""
    return lambda effect: http.send(_request(build, effect), stream=True)


def asender(pool: Callable[[], Awaitable[httpx.AsyncClient]], build: Build) -> Callable[[Open], Awaitable[object]]:
    """Return a function that sends requests on the event loop, without reading the reply's body."""

    async def send(effect: Open) -> object:
        return await (await pool()).send(_request(build, effect), stream=True)

    return send
