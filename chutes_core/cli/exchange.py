"""One plain HTTP exchange: for what the client has no call for, or where the reply's headers are what matters."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from chutes_core.auth import Secret
from chutes_core.effects import WireRequest
from chutes_core.errors import Kind
from chutes_core.failures import error_from_response, failure

__all__ = ["Answer", "exchange"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by names in lower case.
        content: Its body.
        seconds: How long it took.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float

    def value(self) -> object:
        """Read the body as JSON; None where there is none.

        Raises:
            APIError: The status is no success, or the body is not JSON.
        """
        if not 200 <= self.status < 300:
            raise error_from_response(self.status, self.content, self.headers)
        try:
            return json.loads(self.content) if self.content else None
        except ValueError:
            raise failure(Kind.MALFORMED, "the body is not JSON", status_code=self.status) from None


def exchange(
    method: str,
    url: str,
    *,
    secret: Secret | None = None,
    body: Mapping[str, object] | None = None,
    timeout: float | None = None,
) -> Answer:
    """Send one request and read the reply, whatever its status.

    Raises:
        ConnectionFailedError: There was no reply.
        TimeLimitError: There was none in time.
    """
    import httpx

    from chutes_core.pools import ssl_context, user_agent

    headers = {"User-Agent": user_agent(), **WireRequest(url, secret=secret).plain_headers()}
    try:
        with httpx.Client(verify=ssl_context(), timeout=timeout or 30.0) as http:
            started = time.monotonic()
            reply = http.request(method, url, headers=headers, json=body)
    except httpx.TimeoutException as problem:
        error = failure(Kind.CONNECT_TIMEOUT, type(problem).__name__)
    except httpx.HTTPError as problem:
        error = failure(Kind.CONNECT, f"{type(problem).__name__}: {problem}")
    else:
        lowered = {name.lower(): value for name, value in reply.headers.items()}
        return Answer(reply.status_code, lowered, reply.content, time.monotonic() - started)
    raise error  # out here it has no context, and so no frame that holds the key
