"""Send requests over a shared pool, or over the user's own client.

Requests are built here and sent by the HTTP client, of httpx or httpx2; see docs/decisions/0006. No exception leaves
with the frames of the HTTP client, which hold the headers; :mod:`chutes_core.wire.hands` replaces the client's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from chutes_core.calls.bodies import ENCODINGS
from chutes_core.calls.effects import Open
from chutes_core.errors import RequestRefusedError
from chutes_core.secrets.frames import without_frames
from chutes_core.wire.deadline import trace
from chutes_core.wire.pools import http_package, user_agent

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


def _request(build: Build, effect: Open, encodings: Collection[str], extensions: Mapping[str, object]) -> httpx.Request:
    request = effect.request
    headers = {
        "Accept": "application/json",
        "User-Agent": user_agent(),
        **({} if request.body is None else {"Content-Type": "application/json"}),
        **request.plain_headers(),
        # The last word: what came in another encoding could not be read.
        "Accept-Encoding": ", ".join(encodings) or "identity",
    }
    return build(
        request.method,
        request.url,
        params=dict(request.params) or None,
        headers=_once(headers),
        content=request.content if request.body is None else encoded(request.body),
        # As an extension the timeouts are plain numbers, the same for httpx and httpx2.
        extensions={"timeout": _limits(effect), **extensions},
    )


def _once(headers: dict[str, str]) -> dict[str, str]:
    """Drop headers that come again, written in another way; the last one counts."""
    names = {name.lower(): name for name in headers}
    return headers if len(names) == len(headers) else {name: headers[name] for name in names.values()}


def _limits(effect: Open) -> dict[str, float | None]:
    """Return the HTTP client's timeouts: connecting may take no longer than is left for the headers.

    Waiting for a place in a client's own pool may take as long as an answer: whoever holds it may wait for one so long.
    """
    wait = effect.headers_within
    connect = min((limit for limit in (effect.connect, wait) if limit is not None), default=None)
    return {"connect": connect, "read": wait, "write": wait, "pool": connect if wait is None else wait}


def sender(http: httpx.Client, build: Build, encodings: Collection[str] = ENCODINGS) -> Callable[[Open], object]:
    """Return a function that sends requests, blocking, without reading the reply's body or following redirects."""

    def send(effect: Open) -> object:
        before = sys.exception()
        try:
            request = _request(build, effect, encodings, {"trace": trace})
            return http.send(request, stream=True, follow_redirects=False)
        except BaseException as error:
            problem = without_frames(error, before)
        raise problem

    return send


def asender(
    pool: Callable[[], Awaitable[httpx.AsyncClient]], build: Build, encodings: Collection[str] = ENCODINGS
) -> Callable[[Open], Awaitable[object]]:
    """Return a function that does the same on the event loop."""

    async def send(effect: Open) -> object:
        before, http = sys.exception(), await pool()
        try:
            request = _request(build, effect, encodings, {})
            return await http.send(request, stream=True, follow_redirects=False)
        except BaseException as error:
            problem = without_frames(error, before)
        raise problem

    return send
