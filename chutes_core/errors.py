"""What can go wrong, as types.

::

    ChutesError
    ├── ConfigurationError            refused here, before any request (also a ValueError)
    │   ├── MissingKeyError           no key was given and none is in the environment
    │   ├── UnknownModelError         the catalogue has no such model; names the nearest ones
    │   └── RequestRefusedError       this request could only fail, or would lose something
    ├── BudgetExceededError           refused here: it could cost more than the limit you set
    └── APIError                      a request was made; carries status_code, body, request_id, model, partial
        ├── AuthenticationError       401: the key is not accepted
        ├── PermissionDeniedError     403: the key or token may not do this
        ├── PaymentRequiredError      402: quota and balance are used up, or this model is not paid for
        ├── InvalidRequestError       400, 413, 422: the request itself is wrong
        │   └── ContextLengthError    prompt and answer do not fit the model's window
        ├── ModelNotFoundError        404, 426: not there, gone cold, or not confidential
        ├── RateLimitError            429
        │   ├── CapacityError         every machine of this model is busy
        │   └── AccountLimitError     a limit of your account, whichever model you ask
        ├── UnavailableError          5xx: machines failed, or the edge gave up
        │   └── ColdModelError        503: no machine runs this model just now
        ├── AttestationError          a machine did not prove what it is, so it was sent nothing
        ├── ConnectionFailedError     no answer came at all
        ├── TimeLimitError            one of your own time limits passed (also a TimeoutError)
        └── IncompleteAnswerError     an answer began, or was promised, and is not whole
            ├── StreamInterruptedError    it ended before the model said that it had finished
            ├── StreamRestartedError      another machine began again inside the same stream
            ├── StreamFailedError         the service reported an error inside the stream
            ├── MalformedReplyError       what came is not a valid reply
            └── EmptyReplyError           it finished without a word

``except APIError as error`` is enough for most programs: ``error.kind`` names the exact cause,
``error.scope`` says whether the model, the account or the request is at fault, and ``error.retry``
whether trying again helps. ``error.partial`` is the text that did arrive.

>>> from chutes_core import CapacityError, RateLimitError
>>> issubclass(CapacityError, RateLimitError)
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_core.budget import Budget
    from chutes_core.fallback.trace import Attempt
    from chutes_core.response import Reply

__all__ = [
    "APIError",
    "AccountLimitError",
    "AttestationError",
    "AuthenticationError",
    "BudgetExceededError",
    "CapacityError",
    "ChutesError",
    "ChutesWarning",
    "ColdModelError",
    "ConfigurationError",
    "ConnectionFailedError",
    "ContextLengthError",
    "EmptyReplyError",
    "IncompleteAnswerError",
    "InvalidRequestError",
    "Kind",
    "MalformedReplyError",
    "MissingKeyError",
    "ModelNotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestRefusedError",
    "Retry",
    "Scope",
    "StreamFailedError",
    "StreamInterruptedError",
    "StreamRestartedError",
    "TimeLimitError",
    "UnavailableError",
    "UnknownModelError",
    "redact",
]

_SECRETS = re.compile(r"\b(cpk_|cak_|crt_|csc_)[A-Za-z0-9._\-]+|(?i:(bearer|basic)\s+)[A-Za-z0-9._~+/\-]{8,}=*")


def redact(text: str) -> str:
    """Mask everything in a text that is shaped like a key or a token.

    >>> redact("401 for Bearer cpk_0123.4567.89ab")
    '401 for Bearer ****'
    """
    return _SECRETS.sub(lambda match: f"{match[1] or match[2] + ' '}****", text)


class Scope(StrEnum):
    """Whom a failure concerns, and so who else would fail the same way."""

    TARGET = "target"
    """This model (or the machines under it): another model may well answer."""
    ACCOUNT = "account"
    """Every model asked with this key."""
    REQUEST = "request"
    """The request itself: no model answers it as it stands."""


class Retry(StrEnum):
    """Where the same request is worth another try."""

    HERE = "here"
    """The same model after a wait, or another one at once."""
    ELSEWHERE = "elsewhere"
    """Not this model now; another one (or another account, or a larger window)."""
    NEVER = "never"
    """Nowhere: something has to change first."""


class Kind(StrEnum):
    """The exact cause of a failure. :data:`chutes_core.failures.FACTS` says what follows from each."""

    CAPACITY = "capacity"
    ACCOUNT_LIMIT = "account_limit"
    EDGE_LIMIT = "edge_limit"
    ENDPOINT_LIMIT = "endpoint_limit"
    RATE_LIMIT = "rate_limit"
    NOT_INCLUDED = "not_included"
    COLD = "cold"
    DISABLED = "disabled"
    EXHAUSTED = "exhausted"
    UPSTREAM = "upstream"
    BAD_GATEWAY = "bad_gateway"
    GATEWAY_TIMEOUT = "gateway_timeout"
    PAYMENT = "payment"
    OWNER_PAYMENT = "owner_payment"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    MODEL_NOT_FOUND = "model_not_found"
    ROUTE_NOT_FOUND = "route_not_found"
    NOT_CONFIDENTIAL = "not_confidential"
    CONTEXT_LENGTH = "context_length"
    UNSUPPORTED = "unsupported"
    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    SEALED_NONCE = "sealed_nonce"
    SEALED_INSTANCE = "sealed_instance"
    SEALED_BUSY = "sealed_busy"
    SEALED_REPLY = "sealed_reply"
    ATTESTATION = "attestation"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    STALL = "stall"
    TOTAL_TIMEOUT = "total_timeout"
    RESET = "reset"
    TRUNCATED = "truncated"
    RESTARTED = "restarted"
    STREAM_ERROR = "stream_error"
    MALFORMED = "malformed"
    EMPTY = "empty"
    UNEXPECTED = "unexpected"


class ChutesWarning(UserWarning):
    """Something was changed or looks wrong, and the call goes on."""


class ChutesError(Exception):
    """The root: everything this library raises on purpose."""


class ConfigurationError(ChutesError, ValueError):
    """Refused before any request was made; the message says what to change."""


class MissingKeyError(ConfigurationError):
    """No key: the service would answer with a 429 that looks like overload, so nothing is sent."""


class UnknownModelError(ConfigurationError):
    """The catalogue has no model of this name.

    Attributes:
        model: The name that was asked for.
        suggestions: The nearest names it does have.
    """

    def __init__(self, message: str, *, model: str = "", suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.model = model
        self.suggestions = suggestions


class RequestRefusedError(ConfigurationError):
    """The request could only fail at the service, or would silently lose something there."""


class BudgetExceededError(ChutesError):
    """A limit that you set could be passed by this call, so it was not sent.

    Attributes:
        model: The model that was to be asked.
        budget: The budget, as it is now.
    """

    def __init__(self, message: str, *, model: str = "", budget: Budget | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.budget = budget


class APIError(ChutesError):
    """A request was made and gave no whole answer.

    Attributes:
        kind: The exact cause.
        status_code: The HTTP status, or None when no reply came.
        body: The reply's body, parsed where it is JSON, with keys masked.
        request_id: The invocation's id where the service sent one.
        model: The model that was asked.
        partial: The text that arrived before the failure.
        partial_reply: All that arrived: reasoning, tool calls and usage too.
        retry_after: Seconds the service asked to wait, where it said so.
        attempts: What a fallback had tried until then, where it raises the failure of one member as it is.
    """

    attempts: tuple[Attempt, ...] = ()

    def __init__(
        self,
        message: str,
        *,
        kind: Kind = Kind.UNEXPECTED,
        status_code: int | None = None,
        body: object = None,
        request_id: str | None = None,
        model: str | None = None,
        retry_after: float | None = None,
        partial_reply: Reply | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status_code = status_code
        self.body = body
        self.request_id = request_id
        self.model = model
        self.retry_after = retry_after
        self.partial_reply = partial_reply

    @property
    def partial(self) -> str:
        """The text of the answer that did arrive; empty when none did."""
        return self.partial_reply.content if self.partial_reply is not None else ""

    @property
    def scope(self) -> Scope:
        """Whether the model, the account or the request is at fault."""
        from chutes_core.failures import FACTS

        return FACTS[self.kind].scope

    @property
    def retry(self) -> Retry:
        """Where the same request is worth another try."""
        from chutes_core.failures import FACTS

        return FACTS[self.kind].retry

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


def _rebuild(cls: type[APIError], message: str, state: dict[str, object]) -> APIError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class AuthenticationError(APIError):
    """The key or token is not accepted."""


class PermissionDeniedError(APIError):
    """The key or token is known but may not do this."""


class PaymentRequiredError(APIError):
    """Quota and balance are used up, your plan does not include this model, or its owner cannot pay."""

    @property
    def quota_reset_timestamp(self) -> str | None:
        """When the daily quota starts anew, as the service wrote it; None where it did not say."""
        detail = self.body.get("detail") if isinstance(self.body, Mapping) else None
        stamp = detail.get("quota_reset_timestamp") if isinstance(detail, Mapping) else None
        return stamp if isinstance(stamp, str) else None

    @property
    def quota_reset_at(self) -> datetime | None:
        """The same as a datetime."""
        try:
            return datetime.fromisoformat(self.quota_reset_timestamp or "")
        except ValueError:
            return None


class InvalidRequestError(APIError):
    """The service understood the request and refuses it as it stands."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together do not fit the model's window."""

    def _number(self, *patterns: str) -> int | None:
        """Read the number after the first of these phrases that is there."""
        found = (re.search(pattern, str(self), re.IGNORECASE) for pattern in patterns)
        return next((int(match[1].replace(",", "")) for match in found if match), None)

    @property
    def limit(self) -> int | None:
        """The model's window in tokens, where the message says it."""
        return self._number(r"(?:maximum (?:context|model) length(?: is| of)?|context length \(?) ?(\d[\d,]*)")

    @property
    def requested(self) -> int | None:
        """The tokens that were asked for in total, where the message says it."""
        return self._number(r"total of (?:at least )?(\d[\d,]*)", r"requested (\d[\d,]*) tokens")

    @property
    def prompt_tokens(self) -> int | None:
        """The tokens of the prompt alone, where the message says it."""
        return self._number(
            r"(\d[\d,]*) (?:tokens from the input|in the messages|input tokens)", r"input \((\d[\d,]*) tokens"
        )


class ModelNotFoundError(APIError):
    """The service has no such model for this key, or none of its machines is up."""


class RateLimitError(APIError):
    """Too many requests, of one sort or another."""


class CapacityError(RateLimitError):
    """Every machine that serves this model is busy."""


class AccountLimitError(RateLimitError):
    """A limit of the account: another model of the same account does not help."""


class UnavailableError(APIError):
    """The machines behind the gateway, or the gateway itself, failed."""


class ColdModelError(UnavailableError):
    """No machine runs this model just now."""


class AttestationError(APIError):
    """No machine of the model proved what it is, so nothing of the request was sent."""


class ConnectionFailedError(APIError):
    """No reply came: refused, reset, or the name did not resolve."""


class TimeLimitError(APIError, TimeoutError):
    """One of the caller's own time limits passed."""


class IncompleteAnswerError(APIError):
    """An answer began, or was promised, and is not whole."""


class StreamInterruptedError(IncompleteAnswerError):
    """The answer ended before the model said that it had finished."""


class StreamRestartedError(IncompleteAnswerError):
    """Another machine began the answer again inside the same stream."""


class StreamFailedError(IncompleteAnswerError):
    """The service reported an error inside the stream."""


class MalformedReplyError(IncompleteAnswerError):
    """What came is not a valid reply."""


class EmptyReplyError(IncompleteAnswerError):
    """The answer finished without text, reasoning or a tool call."""
