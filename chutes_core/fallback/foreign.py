"""Translate exceptions of other providers' clients to our failures."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

from chutes_core.errors import APIError, ChutesError, Kind, Retry
from chutes_core.failures.reading import failure, kind_of, parse_retry_after
from chutes_core.fallback.trace import FallbackError

__all__ = ["as_failure", "moving_on"]

_SIZE = ("ContextOverflow", "ContextWindow")
_BY_NAME: tuple[tuple[str, Kind], ...] = (
    # part of the name of the exception's class or a base class, and the kind; the first match wins
    ("RateLimit", Kind.RATE_LIMIT),
    ("ResourceExhausted", Kind.RATE_LIMIT),
    ("Throttling", Kind.RATE_LIMIT),
    ("Authentication", Kind.AUTHENTICATION),
    ("PermissionDenied", Kind.MODEL_NOT_FOUND),
    ("NotFound", Kind.MODEL_NOT_FOUND),
    ("InvalidRequest", Kind.BAD_REQUEST),
    ("BadRequest", Kind.BAD_REQUEST),
    ("Timeout", Kind.FIRST_TOKEN_TIMEOUT),
    ("ModelConnection", Kind.CONNECT),
    ("APIConnection", Kind.CONNECT),
    ("ConnectError", Kind.CONNECT),
    ("ClientConnect", Kind.CONNECT),
    ("ProxyError", Kind.CONNECT),
    ("ConnectionError", Kind.CONNECT),
    ("RemoteProtocol", Kind.RESET),
    ("ReadError", Kind.RESET),
    ("ChunkedEncoding", Kind.RESET),
    ("ClientPayload", Kind.RESET),
    ("ServerDisconnected", Kind.RESET),
    ("ClientOSError", Kind.RESET),
    ("NetworkError", Kind.RESET),
    ("TransportError", Kind.RESET),
    ("InternalServer", Kind.UPSTREAM),
    ("ServiceUnavailable", Kind.UPSTREAM),
    ("Overloaded", Kind.CAPACITY),
    ("ModelAPI", Kind.UPSTREAM),
    ("APIStatus", Kind.UPSTREAM),
    ("APIError", Kind.UPSTREAM),
)

# What the words of our service mean, as another one's: there they concern the member alone.
_ELSEWHERE = {
    Kind.ROUTE_NOT_FOUND: Kind.MODEL_NOT_FOUND,
    Kind.PERMISSION: Kind.MODEL_NOT_FOUND,  # as where a project or a region does not have this model
    Kind.EDGE_LIMIT: Kind.RATE_LIMIT,
}


def as_failure(error: Exception, model: str) -> APIError | None:
    """Translate an exception of any client to a failure; None if it is not a model's failure.

    A bug in the caller's own code must not look like a broken model, so an exception with neither a status nor a name
    that clients use for their failures does not count.

    >>> class RateLimitError(Exception):
    ...     status_code = 429
    >>> as_failure(RateLimitError("slow down"), "other/model").kind
    <Kind.RATE_LIMIT: 'rate_limit'>
    >>> as_failure(KeyError("typo"), "other/model") is None
    True
    """
    if isinstance(error, FallbackError):
        return error.last  # a fallback as a member
    if isinstance(error, ChutesError):
        return error if isinstance(error, APIError) else None  # refused on this side, whatever its name says
    status = _status(error)
    kind = _kind(error, status)
    if kind is None:
        return None
    headers = getattr(getattr(error, "response", None), "headers", None)
    asked = headers.get("retry-after") if headers is not None and hasattr(headers, "get") else None
    return failure(
        kind,
        str(error),
        model=model,
        status_code=status,
        body=getattr(error, "body", None),
        retry_after=parse_retry_after(asked if isinstance(asked, str) else None),
    )


def moving_on(error: Exception, model: str) -> APIError:
    """Return an exception that the caller wants other members to answer for, as a failure that moves on to the next.

    >>> from chutes_core.errors import Retry
    >>> moving_on(KeyError("typo"), "other/model").kind
    <Kind.UPSTREAM: 'upstream'>
    >>> refused = failure(Kind.BAD_REQUEST, "no", model="acme/one")
    >>> refused.retry, moving_on(refused, "acme/one").retry, moving_on(refused, "acme/one").kind
    (<Retry.NEVER: 'never'>, <Retry.ELSEWHERE: 'elsewhere'>, <Kind.BAD_REQUEST: 'bad_request'>)
    """
    made = as_failure(error, model) or failure(Kind.UPSTREAM, f"{type(error).__name__}: {error}", model=model)
    if made.retry is Retry.NEVER:
        made = copy(made)
        made._retry = Retry.ELSEWHERE
    if made is not error:
        made.__cause__ = error
    return made


def _kind(error: Exception, status: int | None) -> Kind | None:
    names = [cls.__name__ for cls in type(error).__mro__]

    def named(part: str) -> bool:
        return any(part in name for name in names)

    if any(map(named, _SIZE)):
        return Kind.CONTEXT_LENGTH  # more specific than the status
    if status is not None:
        kind = kind_of(status, str(error))
        return _ELSEWHERE.get(kind, kind)
    if isinstance(error, ConnectionError):
        return Kind.RESET
    return next((kind for part, kind in _BY_NAME if named(part)), None)


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an exception, wherever its client keeps it."""
    response = getattr(error, "response", None)
    places = [getattr(error, "status_code", None), getattr(response, "status_code", None)]
    if isinstance(response, Mapping):  # AWS clients
        places.append((response.get("ResponseMetadata") or {}).get("HTTPStatusCode"))
    places += [getattr(error, "status", None), getattr(error, "code", None)]
    return next((each for each in places if isinstance(each, int) and 400 <= each < 600), None)
