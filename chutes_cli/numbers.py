"""Numbers as people write them."""

from __future__ import annotations

import argparse

__all__ = ["calls", "count", "duration", "share", "tokens"]

_UNITS = {"k": 1_000, "m": 1_000_000}


def tokens(text: str) -> int:
    """Read a number of tokens: a whole number, with ``k`` or ``m`` behind it if you like.

    >>> tokens("100k"), tokens("1.5M"), tokens("8_192")
    (100000, 1500000, 8192)
    """
    plain = text.strip().lower().replace(",", "").replace("_", "")
    unit = _UNITS.get(plain[-1:], 1)
    try:
        number = float(plain[:-1] if unit > 1 else plain) * unit
        if not 0 <= number < 1e15:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens, such as 8192, 100k or 1m") from None
    return round(number)


def count(text: str) -> int:
    """Read a whole number above 0.

    >>> count("3")
    3
    """
    return _positive(text, "must be a whole number above 0")


def calls(text: str) -> int:
    """Read a number of calls.

    >>> calls("10k")
    10000
    """
    return _positive(text, "is not a positive number of calls, such as 10000 or 10k")


def _positive(text: str, problem: str) -> int:
    try:
        number = tokens(text)
    except argparse.ArgumentTypeError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} {problem}")
    return number


def duration(text: str) -> float:
    """Read a time limit in seconds.

    >>> duration("1.5")
    1.5
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")
    return number


def share(text: str) -> float:
    """Read a share between 0 and 1, or in percent.

    >>> share("0.5"), share("25%")
    (0.5, 0.25)
    """
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1, such as 0.5 or 50%")
    return number
