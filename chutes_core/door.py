"""The one door for JSON from outside: strict decoding, and readers that name a field that does not fit.

A machine that fails may send anything, also what looks like an answer. So nothing of a reply is used before it has
come through here: :func:`loads` takes only JSON that every program reads alike, and a reader takes one value of one
type. null counts as absent; anything else of the wrong type is a :class:`MisfitError`, never a guess.

>>> chunk = loads(b'{"id": "1", "created": 5.0, "choices": [{"index": "0"}]}')
>>> text(chunk["id"], "id"), count(chunk["created"], "created")
('1', 5)
>>> count(chunk["choices"][0]["index"], "choices[0].index")
Traceback (most recent call last):
    ...
chutes_core.door.MisfitError: choices[0].index is text, not a whole number
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard, cast

__all__ = [
    "MAX_COUNT", "MAX_DEPTH", "MisfitError",
    "check", "count", "listed", "loads", "mapping", "number", "objects", "text",
]  # fmt: skip

MAX_DEPTH = 64
"""The deepest nesting that is read: several times what any reply has, and safe for all code that walks one."""
MAX_COUNT = 2**53
"""The largest count that is read: beyond it, programs disagree about numbers in JSON."""


class MisfitError(ValueError):
    """A value from outside is not what it should be; the message names the field."""


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def loads(data: bytes | str) -> object:
    r"""Decode JSON strictly.

    Raises:
        ValueError: It is not JSON, or not JSON that is safe to pass on: NaN and Infinity, half of a surrogate pair,
            or nested too deeply.

    >>> loads(b'{"a": [1]}')
    {'a': [1]}
    >>> loads('"\\ud83d"')
    Traceback (most recent call last):
        ...
    ValueError: the text has half of a surrogate pair
    """
    written = data.decode() if isinstance(data, bytes) else data
    try:
        value: object = _decode(written)
    except RecursionError:
        raise ValueError("the value is nested too deeply") from None
    # Both are rare, and a look at the text is many times cheaper than a walk through the value.
    deep = written.count("[") + written.count("{") > MAX_DEPTH
    if deep or ("\\u" in written and ("\\ud" in written or "\\uD" in written)) or isinstance(data, str):
        check(value)
    return value


def check(value: object) -> None:
    """Walk through a value, one level after the other: no depth can exhaust the stack.

    Raises:
        ValueError: It is nested too deeply, or has half of a surrogate pair.
    """
    level: list[object] = [value]
    for depth in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, str):
                _check_text(each)
            elif isinstance(each, dict | list):
                if depth == MAX_DEPTH:
                    raise ValueError("the value is nested too deeply")
                inner += each
                inner += each.values() if isinstance(each, dict) else ()
        level = inner


def _check_text(written: str) -> None:
    if written.isascii():
        return
    try:
        written.encode()
    except UnicodeEncodeError:
        raise ValueError("the text has half of a surrogate pair") from None


def text(value: object, field: str) -> str | None:
    """Return text, or None for null."""
    if value is None or isinstance(value, str):
        return value
    raise _misfit(value, field, "text")


def count(value: object, field: str) -> int | None:
    """Return a whole number that counts something, or None for null; 5.0 is 5.

    >>> count(-1, "usage.prompt_tokens")
    Traceback (most recent call last):
        ...
    chutes_core.door.MisfitError: usage.prompt_tokens is out of range
    """
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _misfit(value, field, "a whole number")
    if not 0 <= value <= MAX_COUNT:
        raise MisfitError(f"{field} is out of range")
    return value


def number(value: object, field: str) -> float | None:
    """Return a finite number, or None for null.

    >>> number(-3, "logprob")
    -3.0
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _misfit(value, field, "a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise MisfitError(f"{field} is out of range")
    return found


def listed(value: object, field: str) -> Sequence[object]:
    """Return a list; empty for null."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _misfit(value, field, "a list")
    return value


def mapping(value: object, field: str) -> Mapping[str, object] | None:
    """Return an object, or None for null."""
    if value is None or _is_object(value):
        return value
    raise _misfit(value, field, "an object")


def objects(value: object, field: str) -> Sequence[Mapping[str, object]]:
    """Return a list of objects; empty for null.

    >>> objects([{"a": 1}, None], "data")
    Traceback (most recent call last):
        ...
    chutes_core.door.MisfitError: data[1] is null, not an object
    """
    rows = listed(value, field)
    for position, each in enumerate(rows):
        if not _is_object(each):
            raise _misfit(each, f"{field}[{position}]", "an object")
    return cast("Sequence[Mapping[str, object]]", rows)


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)


def _misfit(value: object, field: str, wanted: str) -> MisfitError:
    return MisfitError(f"{field} is {_named(value)}, not {wanted}")


def _named(value: object) -> str:
    """Say what a value is without repeating it: it may be long, or private."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"
