"""Read JSON from outside: whatever cannot be handled and written again is refused here."""

from __future__ import annotations

import json
import math
from typing import NoReturn

DEEPEST = 100
"""How deep objects and lists may be nested; the functions that follow call themselves for each level."""


def read_json(raw: bytes) -> object:
    """Parse a body.

    Raises:
        ValueError: it is no JSON, too deep, or has numbers or characters that JSON cannot carry.

    >>> read_json(b'{"a": [1, 2.5, "x"]}')
    {'a': [1, 2.5, 'x']}
    """
    try:
        value = json.loads(raw, parse_constant=_no_number, parse_float=_number)
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check_depth(value)
    if b"\\u" in raw:
        _check_text(value)
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            each
            for outer in level
            for each in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(each, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _check_text(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
