"""Estimates of how many tokens a text has, without a tokenizer.

>>> estimate_tokens("How many tokens is this?"), estimate_tokens("这是多少个词元")
(6, 7)
"""

from __future__ import annotations

import math

__all__ = ["estimate_tokens", "least_tokens"]


def estimate_tokens(text: str) -> int:
    """Estimate the tokens in a text: four English letters, or three bytes of any other script, per token."""
    size = len(text.encode("utf-8", "replace"))
    plain = size if text.isascii() else sum(character < "\x80" for character in text)
    return math.ceil(plain / 4 + (size - plain) / 3)


def least_tokens(text: str) -> int:
    """Estimate the tokens in a text, erring on the low side: a third less, whatever the script.

    >>> least_tokens("word " * 1_200), least_tokens("这是多少个词元" * 1_000)
    (1000, 4667)
    """
    # Short texts fit every window, so a rougher estimate, which costs nothing, will do.
    return len(text) // 6 if len(text) < 1_000 else math.ceil(estimate_tokens(text) * 2 / 3)
