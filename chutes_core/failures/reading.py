"""The failure table: from a status and a phrase to a kind, and from a kind to what to do.

The table is data, in :mod:`chutes_core.failures.table`; this module has the pure functions that read it. In ``RULES``,
the first row whose status and phrase match determines the kind. ``FACTS`` says what follows from a kind: its scope,
where a retry helps, how long to wait before one, and the text that explains the cause and the remedy.

>>> kind_of(429, "Infrastructure is at maximum capacity, try again later")
<Kind.CAPACITY: 'capacity'>
>>> FACTS[Kind.CAPACITY].scope, FACTS[Kind.CAPACITY].retry
(<Scope.TARGET: 'target'>, <Retry.HERE: 'here'>)
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from chutes_core.door import loads
from chutes_core.errors import APIError, Kind, Scope, redact
from chutes_core.failures.redirects import destination
from chutes_core.failures.table import FACTS, RULES, Facts

if TYPE_CHECKING:
    from chutes_core.response import Reply

__all__ = [
    "FACTS",
    "RULES",
    "Facts",
    "error_from_response",
    "explained",
    "failure",
    "kind_of",
    "message_of",
    "parse_retry_after",
    "reported_error",
    "said_in",
]


_PREFIX = re.compile(r"Invalid request:\s+")
_DEEPEST = 32  # levels of an error body


def kind_of(status: int, text: str) -> Kind:
    """Return the kind of failure for a status and the text of its body."""
    lowered = text.lower()
    for statuses, phrase, kind in RULES:
        if status in statuses and phrase in lowered:
            return kind
    return Kind.UPSTREAM if status >= 500 else Kind.UNEXPECTED


def message_of(body: object) -> str:
    """Extract the relevant message from an error body in any of the service's formats.

    >>> message_of({"detail": 'Invalid request: Invalid request: {"detail": {"message": "too long", "code": 400}}'})
    'too long'
    >>> message_of({"detail": [{"loc": ["body", "alias"], "msg": "field required"}]})
    'body.alias: field required'
    """
    if isinstance(body, str):
        return _unwrap_text(body)
    if isinstance(body, Mapping):
        for key in ("detail", "error_description", "error", "message", "msg"):
            if body.get(key):
                return message_of(body[key])
        return ""
    if isinstance(body, Iterable) and not isinstance(body, bytes):
        return "; ".join(filter(None, (_validation_entry(entry) for entry in body)))
    return ""


def said_in(body: object) -> str:
    """Return what to quote from an error body; an HTML page is only named as such.

    >>> said_in({"detail": "model not found: acme/one"}), said_in("<html>…</html>"), said_in("")
    ('model not found: acme/one', 'an HTML page', '')
    """
    if isinstance(body, str) and _is_page(body):
        return "an HTML page" if body.strip() else ""
    return message_of(body)


def _is_page(body: object) -> bool:
    """Return whether a body is HTML or empty."""
    return isinstance(body, str) and (body.lstrip().startswith("<") or not body.strip())


def _unwrap_text(text: str) -> str:
    """Strip the gateway's "Invalid request:" prefixes and parse any JSON behind them."""
    text, begin = text.strip(), 0
    while (prefix := _PREFIX.match(text, begin)) is not None:
        begin = prefix.end()
    text = text[begin:]
    if text.startswith("{"):
        try:
            return message_of(_clean(loads(text))) or text
        except ValueError:
            pass
    return text


def _validation_entry(entry: object) -> str:
    if not isinstance(entry, Mapping):
        return message_of(entry)
    location = entry.get("loc")
    where = ".".join(map(str, location)) if isinstance(location, list | tuple) else ""
    return ": ".join(filter(None, (where, message_of(entry))))


def parse_retry_after(value: str | None, *, now: float | None = None) -> float | None:
    """Parse a Retry-After header, in seconds or as a date; anything else counts as absent.

    >>> parse_retry_after("5"), parse_retry_after("soon"), parse_retry_after("-3")
    (5.0, None, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
        except (ValueError, OverflowError):
            return None
        seconds = max(seconds, 0.0)
    return seconds if 0 <= seconds < float("inf") else None


def failure(
    kind: Kind,
    said: str = "",
    *,
    model: str | None = None,
    status_code: int | None = None,
    body: object = None,
    request_id: str | None = None,
    retry_after: float | None = None,
    partial_reply: Reply | None = None,
    why: str = "",
    remedy: str = "",
) -> APIError:
    """Build the exception for a kind: what happened, the likely cause, and the remedy.

    ``why`` and ``remedy`` override the table's, if more is known.

    >>> print(failure(Kind.COLD, "No instances available (yet)", model="acme/one", status_code=503))
    acme/one: no machine is running this model now (503: No instances available (yet)). Ask another model, \
or wake this one with client.warm_up(model) and try again when it is hot.
    """
    facts = FACTS[kind]
    said = redact(" ".join(said.split()))[:1000]
    reported = ": ".join(filter(None, (str(status_code or ""), said)))
    subject = f"{model}: " if model else ""
    message = f"{subject}{why or facts.why}{f' ({reported})' if reported else ''}. {remedy or facts.remedy}"
    return facts.error(
        message,
        kind=kind,
        status_code=status_code,
        body=_clean(body),
        request_id=request_id,
        model=model,
        retry_after=retry_after,
        partial_reply=partial_reply,
    )


def explained(error: APIError, *, why: str = "", remedy: str = "") -> APIError:
    """Return a failure that the service reported with another cause or remedy, now that more is known.

    >>> print(explained(failure(Kind.ROUTE_NOT_FOUND, status_code=404), remedy="It publishes /speak."))
    there is nothing at this address (404). It publishes /speak.
    """
    return failure(
        error.kind,
        said_in(error.body),
        model=error.model,
        status_code=error.status_code,
        body=error.body,
        request_id=error.request_id,
        retry_after=error.retry_after,
        why=why,
        remedy=remedy,
    )


def error_from_response(
    status: int,
    content: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    model: str | None = None,
    now: float | None = None,
) -> APIError:
    """Convert an HTTP error reply to an exception.

    >>> error = error_from_response(402, b'{"detail": {"message": "Quota exceeded", \
"quota_reset_timestamp": "2026-08-23T00:00:00+00:00"}}')
    >>> type(error).__name__, error.quota_reset_timestamp
    ('PaymentRequiredError', '2026-08-23T00:00:00+00:00')
    """
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    request_id = lowered.get("x-chutes-invocationid") or lowered.get("x-request-id")
    if (place := destination(status, lowered)) is not None:
        why = f"the address redirects to {place}, and such a redirect is not followed"
        remedy = "Check the base URL: it must be that of the API itself, with the right scheme and host."
        kind = Kind.ROUTE_NOT_FOUND
        return failure(kind, model=model, status_code=status, request_id=request_id, why=why, remedy=remedy)
    text = content.decode("utf-8", "replace")
    try:
        body = _clean(loads(text))
    except ValueError:
        body = text
    # An empty 429, like an HTML one, is from the edge: the gateway always gives a reason.
    kind = kind_of(status, "<html" if _is_page(body) else message_of(body))
    why, remedy = _owed(body) if kind is Kind.PAYMENT else ("", "")
    return failure(
        kind,
        said_in(body),
        model=model,
        status_code=status,
        body=body,
        request_id=request_id,
        retry_after=parse_retry_after(lowered.get("retry-after"), now=now),
        why=why,
        remedy=remedy,
    )


def _owed(body: object) -> tuple[str, str]:
    """Return why an account cannot pay, and what to do: the service says when a quota resets if there is one.

    >>> _owed({"detail": {"message": "Quota exceeded"}})[1], _owed({"detail": "Account balance is $0"})
    ('Add balance or subscribe; waiting does not help.', ('', ''))
    """
    detail = body.get("detail") if isinstance(body, Mapping) else None
    if not isinstance(detail, Mapping):
        return "", ""
    if detail.get("quota_reset_timestamp"):
        why = "today's included requests are used up, and your account has no balance"
        return why, "Add balance, or wait until the quota resets (.quota_reset_at)."
    why = "your account includes no requests, and has no balance"
    return why, "Add balance or subscribe; waiting does not help."


def reported_error(
    body: Mapping[str, object],
    *,
    model: str | None = None,
    request_id: str | None = None,
    partial_reply: Reply | None = None,
    delivered: bool = False,
) -> APIError:
    """Convert an error in the body of a successful reply to an exception.

    Before anything was delivered, it means the same as an HTTP status. Afterwards, it means that the answer broke
    off, unless the request itself is at fault.

    >>> reported_error({"error": {"message": "exhausted all available targets", "code": 500}}).kind
    <Kind.EXHAUSTED: 'exhausted'>
    """
    body = {name: _clean(value) for name, value in body.items()}
    inner = body.get("error") or body.get("detail")
    code = inner.get("code") if isinstance(inner, Mapping) else body.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else None
    said = message_of(body)
    kind = kind_of(status or 500, said)
    if delivered and FACTS[kind].scope is not Scope.REQUEST:
        kind = Kind.STREAM_ERROR
    return failure(
        kind, said, model=model, status_code=status, body=body, request_id=request_id, partial_reply=partial_reply
    )


def _clean(body: object, depth: int = _DEEPEST) -> object:
    """Mask keys in an error body, and cut nesting deeper than in any real one."""
    if isinstance(body, str):
        return redact(body)
    if not isinstance(body, Mapping | list):
        return body
    if depth == 0:
        return "…"
    if isinstance(body, Mapping):
        return {key: _clean(value, depth - 1) for key, value in body.items()}
    return [_clean(value, depth - 1) for value in body]
