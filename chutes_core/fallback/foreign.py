"""Failures of other providers' models, read for what they mean here."""

from __future__ import annotations

from chutes_core.errors import APIError, Kind
from chutes_core.failures import failure, kind_of, parse_retry_after

__all__ = ["as_failure"]

_BY_NAME: tuple[tuple[str, Kind], ...] = (
    # a part of the exception's class name, the kind; the first that fits
    ("ContextOverflow", Kind.CONTEXT_LENGTH),
    ("ContextWindow", Kind.CONTEXT_LENGTH),
    ("RateLimit", Kind.RATE_LIMIT),
    ("Authentication", Kind.AUTHENTICATION),
    ("PermissionDenied", Kind.PERMISSION),
    ("NotFound", Kind.MODEL_NOT_FOUND),
    ("InvalidRequest", Kind.BAD_REQUEST),
    ("BadRequest", Kind.BAD_REQUEST),
    ("Timeout", Kind.FIRST_TOKEN_TIMEOUT),
    ("ModelConnection", Kind.CONNECT),
    ("APIConnection", Kind.CONNECT),
    ("ConnectError", Kind.CONNECT),
    ("RemoteProtocol", Kind.RESET),
    ("ReadError", Kind.RESET),
    ("InternalServer", Kind.UPSTREAM),
    ("ServiceUnavailable", Kind.UPSTREAM),
    ("Overloaded", Kind.CAPACITY),
    ("ModelAPI", Kind.UPSTREAM),
    ("APIStatus", Kind.UPSTREAM),
    ("APIError", Kind.UPSTREAM),
)


def as_failure(error: Exception, model: str) -> APIError | None:
    """Read an exception of any client as a failure; None when it is no failure of a model.

    A mistake in the caller's own code must not look like a broken model, so what carries neither a status nor
    a name that clients use for their failures is not taken for one.

    >>> class RateLimitError(Exception):
    ...     status_code = 429
    >>> as_failure(RateLimitError("slow down"), "other/model").kind
    <Kind.RATE_LIMIT: 'rate_limit'>
    >>> as_failure(KeyError("typo"), "other/model") is None
    True
    """
    if isinstance(error, APIError):
        return error
    status = getattr(error, "status_code", None)
    kind: Kind | None = None
    if isinstance(status, int) and status >= 400:
        kind = kind_of(status, str(error))
    else:
        status = None
        names = [cls.__name__ for cls in type(error).__mro__]
        kind = next((kind for part, kind in _BY_NAME if any(part in name for name in names)), None)
        if kind is None and isinstance(error, ConnectionError):
            kind = Kind.RESET
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
