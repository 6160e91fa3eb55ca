"""How a request is sent: through the openai SDK for inference, through httpx for everything else.

The SDK is called through its public ``post`` with a plain dict and gives the raw response: its own retries
are off and its parser is not used. What these functions raise is made harmless in :mod:`chutes_core.wire`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from chutes_core.effects import Open, StatusFailure
from chutes_core.errors import RequestRefusedError
from chutes_core.pools import response_type, user_agent

if TYPE_CHECKING:
    import httpx
    import openai

__all__ = ["asend_with_http", "asend_with_sdk", "send_with_http", "send_with_sdk"]


def _sdk_options(effect: Open) -> openai.RequestOptions:
    import openai

    return {"headers": effect.request.plain_headers(), "timeout": openai.Timeout(**_limits(effect))}


def _limits(effect: Open) -> dict[str, float | None]:
    """The limits of the HTTP client: to connect may take no longer than what is left for the headers."""
    wait = effect.headers_within
    connect = min((limit for limit in (effect.connect, wait) if limit is not None), default=None)
    return {"connect": connect, "read": wait, "write": wait, "pool": connect}


def _unserialisable(body: object) -> RequestRefusedError | None:
    """Say why a body cannot be written; None when it can, and so was not the cause."""
    try:
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return RequestRefusedError(f"The request cannot be written as JSON: {error}.")
    return None


def send_with_sdk(sdk: openai.OpenAI) -> Callable[[Open], object]:
    """Send inference requests, blocking."""

    def send(effect: Open) -> object:
        request = effect.request
        try:
            return sdk.post(
                request.url, cast_to=response_type(), body=request.body, options=_sdk_options(effect), stream=True
            )
        except (TypeError, ValueError, RecursionError):
            if (refused := _unserialisable(request.body)) is None:
                raise
        raise refused

    return send


def asend_with_sdk(sdk: Callable[[], Awaitable[openai.AsyncOpenAI]]) -> Callable[[Open], Awaitable[object]]:
    """Send inference requests on the event loop."""

    async def send(effect: Open) -> object:
        request, client = effect.request, await sdk()
        try:
            return await client.post(
                request.url, cast_to=response_type(), body=request.body, options=_sdk_options(effect), stream=True
            )
        except (TypeError, ValueError, RecursionError):
            if (refused := _unserialisable(request.body)) is None:
                raise
        raise refused

    return send


def _http_request(http: httpx.Client | httpx.AsyncClient, effect: Open) -> httpx.Request:
    request = effect.request
    return http.build_request(
        request.method,
        request.url,
        params=dict(request.params) or None,
        headers={"User-Agent": user_agent(), **request.plain_headers()},
        json=request.body,
        # As an extension the limits are plain numbers, and so the same for httpx and httpx2.
        extensions={"timeout": _limits(effect)},
    )


def send_with_http(http: httpx.Client) -> Callable[[Open], object]:
    """Send management requests, blocking."""

    def send(effect: Open) -> object:
        response = http.send(_http_request(http, effect), stream=True)
        if response.is_success:
            return response
        content = response.read()
        response.close()
        raise StatusFailure(response.status_code, dict(response.headers), content)

    return send


def asend_with_http(http: httpx.AsyncClient) -> Callable[[Open], Awaitable[object]]:
    """Send management requests on the event loop."""

    async def send(effect: Open) -> object:
        response = await http.send(_http_request(http, effect), stream=True)
        if response.is_success:
            return response
        content = await response.aread()
        await response.aclose()
        raise StatusFailure(response.status_code, dict(response.headers), content)

    return send
