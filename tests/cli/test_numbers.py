"""Numbers as people write them."""

from __future__ import annotations

import argparse

import pytest

from chutes_cli import numbers


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (numbers.tokens, "many"),
        (numbers.tokens, "-1"),
        (numbers.tokens, "k"),
        (numbers.tokens, ""),
        (numbers.tokens, "1e30"),
        (numbers.count, "0"),
        (numbers.calls, "-5"),
        (numbers.duration, "soon"),
        (numbers.duration, "0"),
        (numbers.share, "half"),
        (numbers.share, "1.5"),
        (numbers.share, "101%"),
    ],
)
def test_what_cannot_be_read(read: object, text: str) -> None:
    """What is no such number is a mistake in the words."""
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)  # type: ignore[operator]
