"""Values from elsewhere are taken when they fit, and are None when they do not."""

from __future__ import annotations

import re

import pytest

from chutes_core.catalog import checked


@pytest.mark.parametrize(
    ("value", "expected"),
    [("fp8", "fp8"), ("a b", "a b"), ("", None), (" a", None), ("a\t", None), (1, None)],
)
def test_text(value: object, expected: str | None) -> None:
    """Text is printable and has no blanks around it."""
    assert checked.text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.1 + 0.2, 0.3), (-0.0, 0.0), (1e-300, 1e-300), (-1, None), (10**400, None), (True, None)],
)
def test_number(value: object, expected: float | None) -> None:
    """A number is finite and not negative, and keeps twelve digits."""
    assert repr(checked.number(value)) == repr(expected)


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (3.0, 3), (3.5, None), (0, None), (float("inf"), None), ("3", None)]
)
def test_count(value: object, expected: int | None) -> None:
    """A count is a whole number above zero."""
    assert checked.count(value) == expected


def test_flag_matching_and_one_of() -> None:
    """A flag is a bool, and text must match as a whole or be one of the choices."""
    assert [checked.flag(value) for value in (True, False, 1, "true")] == [True, False, None, None]
    assert [checked.matching(value, re.compile("a+")) for value in ("aa", "aab", 1)] == ["aa", None, None]
    assert [checked.one_of(value, ("a", "b")) for value in ("a", "c", ["a"])] == ["a", None, None]


def test_words() -> None:
    """A list of words is taken as a whole or not at all."""
    assert checked.words(["a", "a", "b"]) == {"a", "b"}
    assert checked.words([]) == frozenset()
    assert [checked.words(value) for value in ("ab", ["a", ""], [["a"]], None)] == [None] * 4
