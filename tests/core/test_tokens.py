"""Estimates of tokens."""

from __future__ import annotations

import pytest

from chutes_core.tokens import estimate_tokens, least_tokens


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("你好", 2), ("привет", 4)])
def test_a_text(text: str, tokens: int) -> None:
    """Four ASCII letters, or three bytes of anything else."""
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(("text", "least", "most"), [("word " * 3_000, 2_000, 3_000), ("你好" * 6_000, 7_000, 9_000)])
def test_the_low_side_is_near_in_every_script(text: str, least: int, most: int) -> None:
    """A long text counts about as much as it will: a member whose window is too small is seen before it is asked."""
    assert least <= least_tokens(text) <= most < estimate_tokens(text) + 1
    assert least_tokens(text[:900]) <= estimate_tokens(text[:900])
