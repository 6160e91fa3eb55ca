"""Exceptions that are both the core's and LangChain's.

``except chutes_core.CapacityError`` and ``except langchain_core.exceptions.ModelRateLimitError`` catch the same
object, and LangChain's retry and fallback middleware reads its ``is_retryable``. langchain-core before 1.6 has no
``ModelError`` family; there, ``LangChainException`` takes its place. ``ModelRefusalError`` came with 1.7.5.

>>> from langchain_core.exceptions import LangChainException
>>> issubclass(CapacityError, LangChainException) and issubclass(CapacityError, core.CapacityError)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from chutes_core import errors as core

if TYPE_CHECKING:
    from langchain_core.exceptions import (
        ContextOverflowError,
        ModelAPIError,
        ModelAuthenticationError,
        ModelConnectionError,
        ModelError,
        ModelInvalidRequestError,
        ModelPermissionDeniedError,
        ModelRateLimitError,
        ModelTimeoutError,
    )
    from langchain_core.exceptions import ModelNotFoundError as _NotFound
    from langchain_core.messages import BaseMessage

    ModelRefusalError = ModelError
else:
    from langchain_core import exceptions as _lc

    def _known(name: str) -> type[Exception]:
        return getattr(_lc, name, _lc.LangChainException)

    ContextOverflowError = _known("ContextOverflowError")
    ModelAPIError = _known("ModelAPIError")
    ModelAuthenticationError = _known("ModelAuthenticationError")
    ModelConnectionError = _known("ModelConnectionError")
    ModelError = _known("ModelError")
    ModelInvalidRequestError = _known("ModelInvalidRequestError")
    ModelPermissionDeniedError = _known("ModelPermissionDeniedError")
    ModelRateLimitError = _known("ModelRateLimitError")
    ModelTimeoutError = _known("ModelTimeoutError")
    _NotFound = _known("ModelNotFoundError")
    ModelRefusalError = getattr(_lc, "ModelRefusalError", ModelError)  # langchain-core 1.7.5 and later

__all__ = ["as_langchain", "elsewhere", "retryable"]

E = TypeVar("E", bound=core.ChutesError)


class MissingKeyError(core.MissingKeyError, ModelAuthenticationError): ...


class UnknownModelError(core.UnknownModelError, _NotFound): ...


class RequestRefusedError(core.RequestRefusedError, ModelInvalidRequestError): ...


class BudgetExceededError(core.BudgetExceededError, ModelError): ...


class APIError(core.APIError, ModelError): ...


class AuthenticationError(core.AuthenticationError, ModelAuthenticationError): ...


class PermissionDeniedError(core.PermissionDeniedError, ModelPermissionDeniedError): ...


class PaymentRequiredError(core.PaymentRequiredError, ModelError): ...


class InvalidRequestError(core.InvalidRequestError, ModelInvalidRequestError): ...


class ContextLengthError(core.ContextLengthError, ContextOverflowError): ...


class ModelNotFoundError(core.ModelNotFoundError, _NotFound): ...


class RateLimitError(core.RateLimitError, ModelRateLimitError): ...


class CapacityError(core.CapacityError, ModelRateLimitError): ...


class AccountLimitError(core.AccountLimitError, ModelRateLimitError): ...


class UnavailableError(core.UnavailableError, ModelAPIError): ...


class ColdModelError(core.ColdModelError, ModelAPIError): ...


class AttestationError(core.AttestationError, ModelAPIError): ...


class ConnectionFailedError(core.ConnectionFailedError, ModelConnectionError): ...


class TimeLimitError(core.TimeLimitError, ModelTimeoutError): ...


class IncompleteAnswerError(core.IncompleteAnswerError, ModelAPIError): ...


class StreamInterruptedError(core.StreamInterruptedError, ModelAPIError): ...


class StreamRestartedError(core.StreamRestartedError, ModelAPIError): ...


class StreamFailedError(core.StreamFailedError, ModelAPIError): ...


class MalformedReplyError(core.MalformedReplyError, ModelAPIError): ...


class RefusalError(core.RefusalError, ModelRefusalError):
    raw_message: BaseMessage | None = None


class EmptyReplyError(core.EmptyReplyError, ModelAPIError): ...


class LengthLimitError(core.LengthLimitError, ModelAPIError): ...


class ThinkingLimitError(core.ThinkingLimitError, ModelAPIError): ...


_TWINS: dict[type[core.ChutesError], type[core.ChutesError]] = {
    twin.__bases__[0]: twin
    for twin in list(globals().values())
    if isinstance(twin, type) and twin.__module__ == __name__ and issubclass(twin, core.ChutesError)
}


def retryable(error: core.ChutesError) -> bool:
    """Return whether retrying the same request with the same model may succeed.

    This includes timeouts, although the core prefers another model then.
    """
    if not isinstance(error, core.APIError):
        return False
    return error.retry is core.Retry.HERE or isinstance(error, core.TimeLimitError)


def as_langchain(error: E) -> E:
    """Return the error as one that is LangChain's too, with the same attributes, cause and traceback.

    >>> from chutes_core.failures.reading import failure
    >>> error = as_langchain(failure(core.Kind.CAPACITY, "busy", model="acme/one"))
    >>> type(error).__mro__[1:3], error.kind, error.is_retryable
    ((<class 'chutes_core.errors.CapacityError'>, ...), <Kind.CAPACITY: 'capacity'>, True)
    """
    twin = _TWINS.get(type(error))
    if twin is None:
        if isinstance(error, ExceptionGroup):  # a fallback's, which is not loaded before there is one
            from langchain_chutes.fallback.error import raised

            return raised(error)
        return error
    made = twin.__new__(twin, *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.is_retryable = retryable(error)  # type: ignore[attr-defined]
    made.__cause__ = error.__cause__
    made.__suppress_context__ = True
    return made.with_traceback(error.__traceback__)  # type: ignore[return-value]


class _RefusedHere(InvalidRequestError):
    """A refused request that the caller still wants other members to try."""

    @property
    def retry(self) -> core.Retry:
        return core.Retry.ELSEWHERE


class _MissingHere(ModelNotFoundError):
    """The same for an address that does not exist."""

    retry = _RefusedHere.retry


class _CutHere(LengthLimitError):
    """The same for an answer that reached its limit."""

    retry = _RefusedHere.retry


_HERE = {core.ModelNotFoundError: _MissingHere, core.LengthLimitError: _CutHere}


def elsewhere(error: core.APIError) -> core.APIError:
    """Return a failure that would end a call as one that moves on to the next member, otherwise unchanged.

    >>> from chutes_core.failures.reading import failure
    >>> error = failure(core.Kind.BAD_REQUEST, "no", model="acme/one")
    >>> error.retry, elsewhere(error).retry, elsewhere(error).kind
    (<Retry.NEVER: 'never'>, <Retry.ELSEWHERE: 'elsewhere'>, <Kind.BAD_REQUEST: 'bad_request'>)
    """
    kind = next((here for kind, here in _HERE.items() if isinstance(error, kind)), _RefusedHere)
    made = kind(str(error))
    made.__dict__.update(error.__dict__)
    return made
