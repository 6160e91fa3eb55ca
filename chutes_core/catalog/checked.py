"""Validators for single values of untrusted data: each returns None for a value of the wrong kind."""

from __future__ import annotations

import math
import re

__all__ = ["count", "flag", "matching", "number", "one_of", "text", "words"]


def text(value: object) -> str | None:
    """Return printable, non-empty text without surrounding white space."""
    usable = isinstance(value, str) and value and value == value.strip() and value.isprintable()
    return value if isinstance(value, str) and usable else None


def matching(value: object, pattern: re.Pattern[str]) -> str | None:
    """Return text that fully matches a pattern."""
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def one_of(value: object, choices: tuple[str, ...]) -> str | None:
    """Return a value that is one of the choices."""
    return value if isinstance(value, str) and value in choices else None


def flag(value: object) -> bool | None:
    """Return a bool; 1 does not count."""
    return value if isinstance(value, bool) else None


def number(value: object) -> float | None:
    """Return a finite, non-negative number, rounded to remove floating-point noise.

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
    """Return a positive whole number.

    >>> count(131072), count(131072.0), count(0), count(True)
    (131072, 131072, None, None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def words(value: object) -> frozenset[str] | None:
    """Return a list of words as a set; None if any item is invalid.

    >>> words(["text"]), words([]), words(["text", 3])
    (frozenset({'text'}), frozenset(), None)
    """
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    read = [text(item) for item in value]
    return None if None in read else frozenset(filter(None, read))
