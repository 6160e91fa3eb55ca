"""Send requests over a shared pool, or over the user's own client.

What a call wants sent becomes a request here, which a pool of ours sends or a client of an HTTP package; see
docs/decisions/0006. No exception leaves with the frames of these, which hold the headers;
:mod:`chutes_core.wire.hands` replaces their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping

from chutes_core.calls.bodies import ENCODINGS
from chutes_core.calls.effects import Open
from chutes_core.errors import RequestRefusedError
from chutes_core.secrets.frames import without_frames
from chutes_core.wire.direct import AsyncPool, Pool, Request
from chutes_core.wire.pools import user_agent
from chutes_core.wire.through import AsyncThrough, Through

__all__ = ["asender", "encoded", "sender"]

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


def _request(effect: Open, encodings: Collection[str]) -> Request:
    request = effect.request
    headers = {
        "Accept": "application/json",
        "User-Agent": user_agent(),
        **({} if request.body is None else {"Content-Type": "application/json"}),
        **request.plain_headers(),
        # The last word: what came in another encoding could not be read.
        "Accept-Encoding": ", ".join(encodings) or "identity",
    }
    content = request.content if request.body is None else encoded(request.body)
    return Request(request.method, request.url, dict(request.params) or None, _once(headers), content, _limits(effect))


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


def sender(http: Pool | Through, encodings: Collection[str] = ENCODINGS) -> Callable[[Open], object]:
    """Return a function that sends requests, blocking, without reading the reply's body."""

    def send(effect: Open) -> object:
        before = sys.exception()
        try:
            return http.send(_request(effect, encodings))
        except BaseException as error:
            problem = without_frames(error, before)
        raise problem

    return send


def asender(
    pool: Callable[[], Awaitable[AsyncPool | AsyncThrough]], encodings: Collection[str] = ENCODINGS
) -> Callable[[Open], Awaitable[object]]:
    """Return a function that does the same on the event loop."""

    async def send(effect: Open) -> object:
        before, http = sys.exception(), await pool()
        try:
            return await http.send(_request(effect, encodings))
        except BaseException as error:
            problem = without_frames(error, before)
        raise problem

    return send
