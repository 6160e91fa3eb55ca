"""Exceptions that are both the core's and LangChain's.

``except chutes_core.CapacityError`` and ``except langchain_core.exceptions.ModelRateLimitError`` catch the same
object, and LangChain's retry and fallback middleware reads its ``is_retryable``. langchain-core before 1.6 has no
``ModelError`` family; there, ``LangChainException`` takes its place. ``ModelRefusalError`` came with 1.7.5.

>>> both = core.CapacityError, langchain.LangChainException
>>> [issubclass(_TWINS[core.CapacityError], each) for each in both]
[True, True]
"""

from __future__ import annotations

from typing import Any, TypeVar

from langchain_core import exceptions as langchain

from chutes_core import errors as core

__all__ = ["as_langchain", "family", "twin"]

E = TypeVar("E", bound=core.ChutesError)

_TWINS: dict[type[core.ChutesError], type[core.ChutesError]] = {}


def family(name: str) -> type[Exception]:
    """Return LangChain's exception of a name, or the nearest one that this langchain-core has."""
    nearest: type[Exception] = getattr(langchain, "ModelError", langchain.LangChainException)
    return getattr(langchain, name, nearest)


def twin(error: type[E], name: str, module: str = __name__) -> Any:
    """Create the class that is an error of the core and LangChain's of this name, for ``module`` to hold."""
    told = {"__module__": module, "__doc__": f"A {error.__name__} that is LangChain's too."}
    made = type(error.__name__, (error, family(name)), told)
    _TWINS[error] = made
    return made


_FAMILIES: dict[str, tuple[type[core.ChutesError], ...]] = {
    "ModelError": (core.APIError, core.PaymentRequiredError, core.BudgetExceededError),
    "ModelAuthenticationError": (core.MissingKeyError, core.AuthenticationError),
    "ModelPermissionDeniedError": (core.PermissionDeniedError,),
    "ModelNotFoundError": (core.UnknownModelError, core.ModelNotFoundError),
    "ModelInvalidRequestError": (core.RequestRefusedError, core.InvalidRequestError),
    "ContextOverflowError": (core.ContextLengthError,),
    "ModelRateLimitError": (core.RateLimitError, core.CapacityError, core.AccountLimitError),
    "ModelAPIError": (
        core.UnavailableError, core.ColdModelError, core.AttestationError, core.IncompleteAnswerError,
        core.StreamInterruptedError, core.StreamRestartedError, core.StreamFailedError, core.MalformedReplyError,
        core.EmptyReplyError, core.LengthLimitError, core.ThinkingLimitError,
    ),
    "ModelConnectionError": (core.ConnectionFailedError,),
    "ModelTimeoutError": (core.TimeLimitError,),
    "ModelRefusalError": (core.RefusalError,),
}  # fmt: skip
for _family, _errors in _FAMILIES.items():
    for _error in _errors:
        globals()[_error.__name__] = twin(_error, _family)
_TWINS[core.RefusalError].raw_message = None  # type: ignore[attr-defined]


def as_langchain(error: E) -> E:
    """Return the error as one that is LangChain's too, with the same attributes, cause and traceback.

    >>> from chutes_core.failures.reading import failure
    >>> error = as_langchain(failure(core.Kind.CAPACITY, "busy", model="acme/one"))
    >>> type(error).__mro__[1:3], error.kind, error.is_retryable
    ((<class 'chutes_core.errors.CapacityError'>, ...), <Kind.CAPACITY: 'capacity'>, True)
    """
    known: Any = _TWINS.get(type(error))
    if known is None:
        return error
    made = known.__new__(known, *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.is_retryable = _retryable(error)
    made.__cause__ = error.__cause__
    made.__suppress_context__ = True
    return made.with_traceback(error.__traceback__)  # type: ignore[no-any-return]


def _retryable(error: BaseException) -> bool:
    """Return whether retrying the same request with the same model, or the same fallback, may succeed.

    This includes timeouts, although the core prefers another model then.
    """
    if isinstance(error, ExceptionGroup):
        return any(map(_retryable, error.exceptions))
    return isinstance(error, core.APIError) and (
        error.retry is core.Retry.HERE or isinstance(error, core.TimeLimitError)
    )
