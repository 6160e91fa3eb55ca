"""The error of a fallback, as one that is LangChain's too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chutes_core.errors import APIError
from chutes_core.fallback import Attempt, FallbackError
from langchain_chutes import _errors

if TYPE_CHECKING:
    from langchain_core.exceptions import ModelError
else:
    ModelError = _errors.ModelError

__all__ = ["raised"]


class _FallbackError(FallbackError, ModelError):
    """A ``FallbackError`` that is also a LangChain ``ModelError``."""

    @property
    def is_retryable(self) -> bool:  # type: ignore[override]
        """Whether retrying the same call may succeed."""
        return any(isinstance(each, APIError) and _errors.retryable(each) for each in self.exceptions)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.message, list(self.exceptions), self.attempts)


_FallbackError.__name__ = _FallbackError.__qualname__ = "FallbackError"


def raised(error: FallbackError) -> FallbackError:
    """Return the error as one that is LangChain's too."""
    if isinstance(error, _FallbackError):
        return error
    return _rebuilt(error.message, list(error.exceptions), error.attempts)  # type: ignore[arg-type]


def _rebuilt(message: str, failures: list[APIError], attempts: tuple[Attempt, ...]) -> FallbackError:
    made = _FallbackError(message, failures)
    made.attempts = attempts
    return made
