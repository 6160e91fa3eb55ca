"""The exceptions of this library.

::

    ChutesError
    ├── ConfigurationError            refused here, before any request (also a ValueError)
    │   ├── MissingKeyError           no key was given, none is in the environment, and no login is stored
    │   ├── UnknownModelError         the catalogue has no such model; names the closest ones
    │   ├── RequestRefusedError       this request could only fail, or would lose something
    │   └── LoginError                signing in or using a stored login failed (chutes_core.login)
    │       ├── LoginEndedError       the stored login cannot be renewed (also a MissingKeyError)
    │       └── CannotListenError     the redirect address is in use, or not on this machine
    ├── BudgetExceededError           refused here: it could cost more than the limit you set
    ├── FallbackError                 no member of a fallback gave a complete answer (an ExceptionGroup of APIErrors)
    └── APIError                      a request was made; carries status_code, body, request_id, model, partial
        ├── AuthenticationError       401: the key is not accepted
        ├── PermissionDeniedError     403: the key or token may not do this
        ├── PaymentRequiredError      402: quota and balance are used up, or this model is not paid for
        ├── InvalidRequestError       400, 413, 422: the request itself is wrong
        │   └── ContextLengthError    prompt and answer exceed the model's context window
        ├── ModelNotFoundError        404, 426: not there, gone cold, or not confidential
        ├── RateLimitError            429
        │   ├── CapacityError         every machine of this model is busy
        │   └── AccountLimitError     a limit of your account, for models that are free
        ├── UnavailableError          5xx: machines failed, or the edge gave up
        │   └── ColdModelError        503: no machine runs this model at the moment
        ├── AttestationError          no machine proved its identity, so nothing was sent
        ├── ConnectionFailedError     no reply arrived at all
        ├── TimeLimitError            one of your own time limits passed (also a TimeoutError)
        └── IncompleteAnswerError     an answer was started or promised, and is incomplete
            ├── StreamInterruptedError    it ended without a finish_reason
            ├── StreamRestartedError      another machine started over inside the same stream
            ├── StreamFailedError         the service reported an error inside the stream
            ├── MalformedReplyError       the reply is not valid
            ├── RefusalError              the model refused, or a content filter ended the answer
            ├── LengthLimitError          it reached max_tokens, and on_length="raise" was asked for
            └── EmptyReplyError           it finished without text or a tool call
                └── ThinkingLimitError    it reached max_tokens while the model was still thinking

``except APIError as error`` is enough for most programs (with a fallback, also ``except FallbackError``):
``error.kind`` names the exact cause, ``error.scope`` says whether the model, the account or the request is at fault,
and ``error.retry`` whether a retry helps. ``error.partial`` is the text that did arrive.

>>> from chutes_core import CapacityError, RateLimitError
>>> issubclass(CapacityError, RateLimitError)
True
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_core.attempt import Attempt, Attempts
    from chutes_core.response import Reply
    from chutes_core.spending.budget import Budget

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
    "LengthLimitError",
    "MalformedReplyError",
    "MissingKeyError",
    "ModelNotFoundError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "RefusalError",
    "RequestRefusedError",
    "Retry",
    "Scope",
    "StreamFailedError",
    "StreamInterruptedError",
    "StreamRestartedError",
    "ThinkingLimitError",
    "TimeLimitError",
    "UnavailableError",
    "UnknownModelError",
    "redact",
]

SECRETS = re.compile(
    r"(cpk_|cak_|crt_|csc_)[A-Za-z0-9._\-]+"
    r"|(?i:(bearer|basic)(?:\s|%20|\+)+)[A-Za-z0-9._~/\-][A-Za-z0-9._~+/\-]{7,}=*"
)


def redact(text: str) -> str:
    """Mask everything in a text that looks like a key or a token.

    >>> redact("401 for Bearer cpk_0123.4567.89ab")
    '401 for Bearer ****'
    """
    return SECRETS.sub(lambda match: f"{match[1] or match[2] + ' '}****", text)


class Scope(StrEnum):
    """What a failure affects, and so what else would fail the same way."""

    TARGET = "target"
    """This model (or its machines): another model may well answer."""
    ACCOUNT = "account"
    """Every model, with this key."""
    REQUEST = "request"
    """The request itself: no model answers it as it is."""


class Retry(StrEnum):
    """Where the same request is worth retrying."""

    HERE = "here"
    """The same model after a wait, or another one at once."""
    ELSEWHERE = "elsewhere"
    """Not this model now, but another one (or another account, or a larger context window)."""
    NEVER = "never"
    """Nowhere, until something changes."""


class Kind(StrEnum):
    """The exact cause of a failure. :data:`chutes_core.failures.reading.FACTS` has the consequences of each."""

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
    PLAN_CAP = "plan_cap"
    TEE_PAYMENT = "tee_payment"
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
    THINKING_LIMIT = "thinking_limit"
    LENGTH_LIMIT = "length_limit"
    NOT_RESUMED = "not_resumed"
    REFUSED = "refused"
    UNEXPECTED = "unexpected"


class ChutesWarning(UserWarning):
    """Something was changed or looks wrong, and the call goes on."""


class ChutesError(Exception):
    """Base class of this library's exceptions.

    Not a subclass: pydantic's ``ValidationError``, for invalid constructor arguments of the LangChain classes.
    """

    @property
    def attempts(self) -> Attempts:
        """The attempts that were made, this one included: of a call with its retries, or of a fallback."""
        from chutes_core.attempt import Attempts

        return Attempts(self.__dict__.get("attempts", ()))

    @attempts.setter
    def attempts(self, attempts: Iterable[Attempt]) -> None:
        from chutes_core.attempt import Attempts

        self.__dict__["attempts"] = Attempts(attempts)  # under its name, for errors of other packages that take it over


class ConfigurationError(ChutesError, ValueError):
    """Refused before any request was sent; the message says what to change."""


class MissingKeyError(ConfigurationError):
    """No key: the service would answer with a 429 that looks like overload, so nothing is sent."""


class UnknownModelError(ConfigurationError):
    """The catalogue has no model of this name.

    Attributes:
        model: The requested name.
        suggestions: The closest names in the catalogue.
    """

    def __init__(self, message: str, *, model: str = "", suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.model = model
        self.suggestions = suggestions


class RequestRefusedError(ConfigurationError):
    """The request would fail at the service, or silently lose something there."""


class BudgetExceededError(ChutesError):
    """This call could exceed a limit that you set, so it was not sent.

    Attributes:
        model: The requested model.
        budget: The budget in its current state.
    """

    def __init__(self, message: str, *, model: str = "", budget: Budget | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.budget = budget


class APIError(ChutesError):
    """A request did not produce a complete answer.

    Attributes:
        kind: The exact cause.
        status_code: The HTTP status, or None if no reply arrived.
        body: The reply's body, parsed if it is JSON, with keys masked.
        request_id: The invocation id, if the service sent one.
        model: The requested model.
        partial: The text that arrived before the failure.
        partial_reply: Everything that arrived, including reasoning, tool calls and usage.
        retry_after: Seconds the service asked to wait, if it said so.
    """

    _retry: Retry | None = None  # where the caller wants it retried, whatever its kind

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
        """The text of the answer that did arrive; empty if none did."""
        return self.partial_reply.content if self.partial_reply is not None else ""

    @property
    def scope(self) -> Scope:
        """Whether the model, the account or the request is at fault."""
        from chutes_core.failures.reading import FACTS

        return FACTS[self.kind].scope

    @property
    def retry(self) -> Retry:
        """Where the same request is worth retrying."""
        from chutes_core.failures.reading import FACTS

        return self._retry or FACTS[self.kind].retry

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
        """When the daily quota resets, as the service wrote it; None if it did not say."""
        detail = self.body.get("detail") if isinstance(self.body, Mapping) else None
        stamp = detail.get("quota_reset_timestamp") if isinstance(detail, Mapping) else None
        return stamp if isinstance(stamp, str) else None

    @property
    def quota_reset_at(self) -> datetime | None:
        """:attr:`quota_reset_timestamp` as a datetime."""
        try:
            return datetime.fromisoformat(self.quota_reset_timestamp or "")
        except ValueError:
            return None


class InvalidRequestError(APIError):
    """The service understood the request and refuses it as it is."""


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together exceed the model's context window."""

    def _number(self, *patterns: str) -> int | None:
        """Return the number matched by the first of these patterns that is found."""
        found = (re.search(pattern, str(self), re.IGNORECASE) for pattern in patterns)
        return next((int(match[1].replace(",", "")) for match in found if match), None)

    @property
    def limit(self) -> int | None:
        """The model's context window in tokens, if the message says it."""
        return self._number(r"(?:maximum (?:context|model) length(?: is| of)?|context length \(?) ?(\d[\d,]*)")

    @property
    def requested(self) -> int | None:
        """The total tokens requested, if the message says it."""
        return self._number(r"total of (?:at least )?(\d[\d,]*)", r"requested (\d[\d,]*) tokens")

    @property
    def prompt_tokens(self) -> int | None:
        """The tokens of the prompt alone, if the message says it."""
        return self._number(
            r"(\d[\d,]*) (?:tokens from the input|in the messages|input tokens)", r"input \((\d[\d,]*) tokens"
        )


class ModelNotFoundError(APIError):
    """The service has no such model for this key, or none of its machines is up."""


class RateLimitError(APIError):
    """Too many requests, for any reason."""


class CapacityError(RateLimitError):
    """Every machine that serves this model is busy."""


class AccountLimitError(RateLimitError):
    """A limit of the account, for all models that are free: one that is not may answer."""


class UnavailableError(APIError):
    """The machines behind the gateway, or the gateway itself, failed."""


class ColdModelError(UnavailableError):
    """No machine runs this model at the moment."""


class AttestationError(APIError):
    """No machine of the model proved its identity, so nothing of the request was sent."""


class ConnectionFailedError(APIError):
    """No reply arrived: refused, reset, or the name did not resolve."""


class TimeLimitError(APIError, TimeoutError):
    """One of the caller's own time limits passed."""


class IncompleteAnswerError(APIError):
    """An answer was started or promised, and is incomplete."""


class StreamInterruptedError(IncompleteAnswerError):
    """The answer ended without a ``finish_reason``."""


class StreamRestartedError(IncompleteAnswerError):
    """Another machine started the answer over inside the same stream."""


class StreamFailedError(IncompleteAnswerError):
    """The service reported an error inside the stream."""


class MalformedReplyError(IncompleteAnswerError):
    """The reply is not valid."""


class RefusalError(IncompleteAnswerError):
    """The model refused to answer, or a content filter ended the answer."""

    @property
    def refusal(self) -> str:
        """The model's own words, if it gave any."""
        choices = self.partial_reply.choices if self.partial_reply is not None else ()
        return next((choice.refusal for choice in choices if choice.refusal), "")


class LengthLimitError(IncompleteAnswerError):
    """The answer reached ``max_tokens`` and ``on_length="raise"`` was asked for; ``.partial`` has what there is."""


class EmptyReplyError(IncompleteAnswerError):
    """The answer finished without text or a tool call; reasoning alone is no answer."""


class ThinkingLimitError(EmptyReplyError):
    """The answer reached ``max_tokens`` while the model was still thinking; ``partial_reply.reasoning`` has that."""
