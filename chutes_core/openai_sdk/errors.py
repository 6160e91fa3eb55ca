"""Turn our exceptions into ones that are also the openai SDK's, so that code catching either catches them.

The SDK passes its own exceptions through and wraps all others, so this also keeps ours typed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from chutes_core.errors import APIError, ChutesError, ConnectionFailedError, TimeLimitError

__all__ = ["as_openai"]


def as_openai(error: ChutesError) -> ChutesError:
    """Return the same error as an exception of both libraries.

    >>> import openai
    >>> from chutes_core.errors import Kind, StreamInterruptedError
    >>> error = as_openai(StreamInterruptedError("cut", kind=Kind.TRUNCATED))
    >>> isinstance(error, openai.APIError), isinstance(error, StreamInterruptedError), error.kind, error.code
    (True, True, <Kind.TRUNCATED: 'truncated'>, 'truncated')
    """
    message = str(error)
    both = _both(type(error).__mro__)
    made = both.__new__(both, message)
    made.args = (message,)
    made.__dict__.update(error.__dict__)
    if isinstance(error, APIError):
        made.__dict__.update(_openai_fields(error, message))
    return made


def _openai_fields(error: APIError, message: str) -> dict[str, object]:
    """Return the fields of the SDK's exceptions. The request is a blank one: the real one holds the key."""
    return {"message": message, "request": _blank_request(), "code": error.kind.value, "param": None, "type": "chutes"}


def _blank_request() -> object:
    from importlib import import_module

    import openai

    package = import_module(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    return package.Request("POST", "https://llm.chutes.ai/v1/chat/completions")


@lru_cache(maxsize=64)
def _both(line: tuple[type, ...]) -> type[ChutesError]:
    import openai

    kind = line[0]
    bases = {
        ConnectionFailedError: openai.APIConnectionError,
        TimeLimitError: openai.APITimeoutError,
        APIError: openai.APIError,
    }
    base = next((base for own, base in bases.items() if issubclass(kind, own)), openai.OpenAIError)
    made = type(
        kind.__name__, (kind, base), {"__doc__": kind.__doc__, "__module__": kind.__module__, "__reduce__": _plain}
    )
    return cast("type[ChutesError]", made)


def _plain(error: ChutesError) -> tuple[object, ...]:
    """Pickle as our own exception: the other process may not have openai."""
    kind = next(each for each in type(error).__mro__[1:] if issubclass(each, ChutesError))
    state = {
        name: value
        for name, value in error.__dict__.items()
        if name not in ("request", "message", "code", "param", "type")
    }
    return _rebuilt, (kind, str(error), state)


def _rebuilt(kind: type[ChutesError], message: str, state: dict[str, object]) -> ChutesError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error
