"""Plain data that came from elsewhere, read one value at a time: what is of the wrong kind is None."""

from __future__ import annotations

import math
import re

__all__ = ["count", "flag", "matching", "number", "one_of", "text", "words"]


def text(value: object) -> str | None:
    """Take printable text without blanks around it."""
    usable = isinstance(value, str) and value and value == value.strip() and value.isprintable()
    return value if isinstance(value, str) and usable else None


def matching(value: object, pattern: re.Pattern[str]) -> str | None:
    """Take text that a pattern matches as a whole."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def one_of(value: object, choices: tuple[str, ...]) -> str | None:
    """Take one of the choices."""
    return value if isinstance(value, str) and value in choices else None


def flag(value: object) -> bool | None:
    """Take a truth value; 1 is none."""
    return value if isinstance(value, bool) else None


def number(value: object) -> float | None:
    """Take a finite number that is not negative, without the noise of binary fractions.

    >>> number(0.039999999999999994), number(-1), number("0.04")
    (0.04, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(f"{float(value):.12g}")
    except OverflowError:
        return None
    return abs(found) if found >= 0 and math.isfinite(found) else None


def count(value: object) -> int | None:
    """Take a whole number above zero.

    >>> count(131072), count(131072.0), count(0), count(True)
    (131072, 131072, None, None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def words(value: object) -> frozenset[str] | None:
    """Take a list of words; with anything else in it the whole list is None.

    >>> words(["text"]), words([]), words(["text", 3])
    (frozenset({'text'}), frozenset(), None)
    """
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    read = [text(item) for item in value]
    return None if None in read else frozenset(filter(None, read))
