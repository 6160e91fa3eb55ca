"""Keep secrets out of tracebacks, which may be shown with the variables of every frame that an exception passed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from types import ModuleType
from typing import ParamSpec, TypeVar, cast

from chutes_core.secrets.headers import MASK

__all__ = ["unseen", "without_frames"]

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
_EXPECTED = ("chutes_core", "httpx", "httpx2", "pydantic_core")
_NOTE = "Raised at "


def without_frames(error: E, before: BaseException | None = None) -> E:
    """Return an exception without the frames that it, and what led to it, have passed.

    One that nobody expects here gets a note of where it is from instead.

    Args:
        error: The exception.
        before: What was being handled when all this began: it, and what led to it, are the caller's own.

    >>> try:
    ...     int("none")
    ... except ValueError as problem:
    ...     without_frames(problem).__traceback__ is None
    True
    """
    known = type(error).__module__.partition(".")[0] in _EXPECTED or isinstance(error, TimeoutError)
    known = known or not isinstance(error, Exception)
    if not known and not any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        steps = traceback.extract_tb(error.__traceback__)[1:]
        if steps:
            error.add_note(_NOTE + " > ".join(f"{each.name} ({each.filename}:{each.lineno})" for each in steps))
    for each in _chain(error, before):
        each.__traceback__ = None
    return error


def _chain(error: BaseException, before: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its causes and contexts, and the members of a group."""
    found, seen = [error], {id(before)}
    while found:
        each = found.pop()
        if id(each) not in seen:
            seen.add(id(each))
            members = each.exceptions if isinstance(each, BaseExceptionGroup) else ()
            found += [part for part in (each.__cause__, each.__context__, *members) if part is not None]
            yield each


def unseen(function: Callable[P, T]) -> Callable[P, T]:
    """Let no exception show the arguments of a function: neither in a frame, nor as the input that pydantic refused.

    It is for functions that are given keys and headers in plain text.

    >>> @unseen
    ... def make(api_key):
    ...     raise ValueError("no")
    >>> make("cpk_0123")
    Traceback (most recent call last):
    ValueError: no
    Raised at make (...)
    """

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        before = sys.exception()
        try:
            return function(*args, **kwargs)
        except Exception as error:
            problem = without_frames(_without_input(error), before)
        del args, kwargs
        raise problem

    return called


def _without_input(error: Exception) -> Exception:
    # pydantic is loaded if one of its exceptions is here; the core itself does not need it.
    pydantic = sys.modules.get("pydantic_core")
    refused = pydantic is not None and isinstance(error, pydantic.ValidationError)
    return _reported(error, cast("ModuleType", pydantic)) if refused else error


def _reported(error: Exception, pydantic: ModuleType) -> Exception:
    """Rebuild a ValidationError, whose ``errors()`` has all that was given, without what was given."""
    lines = [_line(line, pydantic) for line in error.errors(include_url=False)]  # type: ignore[attr-defined]
    made = pydantic.ValidationError.from_exception_data(error.title, lines, hide_input=True)  # type: ignore[attr-defined]
    return cast("Exception", made)


def _line(line: Mapping[str, object], pydantic: ModuleType) -> dict[str, object]:
    context = dict(cast("Mapping[str, object]", line.get("ctx") or {}))
    if isinstance(inner := context.get("error"), BaseException):
        without_frames(inner)
    kind = line["type"]
    try:
        pydantic.PydanticKnownError(kind, context or None)
    except (KeyError, TypeError, ValueError):  # a validator's own kind
        kind, context = pydantic.PydanticCustomError(kind, "{said}", {"said": line["msg"]}), {}
    return {"type": kind, "loc": line["loc"], "input": MASK, "ctx": context}
