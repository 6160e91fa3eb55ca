"""One plain HTTP exchange: for what the client has no call for, or where the reply's headers are what matters."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

from chutes_core.calls.effects import WireRequest
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import error_from_response, failure
from chutes_core.secrets.secret import Secret

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
        except (ValueError, RecursionError):
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
    from chutes_core.wire.fetch import fetch

    started = time.monotonic()
    reply = fetch(WireRequest(url, body, method=method, secret=secret), timeout or 30.0)
    if isinstance(reply, APIError):
        raise reply
    return Answer(reply.status, reply.headers, reply.content, time.monotonic() - started)
