"""How much work a function does on a text, counted and not timed: lines of our own run, and characters looked at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from chutes_core import json_text

HOSTILE: dict[str, Callable[[int], str]] = {
    "a fence of line breaks": lambda n: "```json" + "\n" * n,
    "a fence of blanks": lambda n: "```json {" + " " * n + "```",
    "lists": lambda n: "[" * n,
    "braces": lambda n: "{" * n,
    "objects": lambda n: '{"a":' * (n // 5),
    "objects that break": lambda n: '{"a":' * 60 + "x" + '{"a":' * (n // 5),
    "lists with items": lambda n: "[1, " * (n // 4),
    "lists that break": lambda n: ("[1, " * 60 + "x ") * (n // 242),
    "strings that do not end": lambda n: '{"a": "' * (n // 7),
    "keys that do not end": lambda n: '{"' * (n // 2),
    "escapes": lambda n: '["' + '\\"' * (n // 2),
    "backslashes": lambda n: '["' + "\\" * n,
    "one string": lambda n: '{"a": "' + "b" * n,
    "one key": lambda n: '{"' + "b" * n,
    "one number": lambda n: '{"a": ' + "1" * n,
    "numbers that are none": lambda n: "[1.1.1" * (n // 6),
    "thoughts": lambda n: '{"</think>' * (n // 10),
    "thoughts in lists": lambda n: '["</think>", ' * (n // 13),
    "a thought that does not end": lambda n: "<think>" + "{" * n,
    "blanks": lambda n: " " * n,
    "blanks in an object": lambda n: "{" + " " * n + "x",
    "blanks between objects": lambda n: "{ " * (n // 2),
    "closing brackets": lambda n: "[" + "]" * n,
    "whole lists": lambda n: "[]" * (n // 2),
    "whole objects": lambda n: '{"a": 1}' * (n // 8),
    "one long list": lambda n: "[" + "1," * (n // 2) + "1]",
    "prose": lambda n: "word {word} [1] " * (n // 16),
}
WORST = [
    "a fence of line breaks", "lists", "objects", "strings that do not end", "keys that do not end", "one key",
    "thoughts", "whole objects",
]  # fmt: skip


class _Counting:
    """A pattern or a decoder that counts the characters it is given to look at."""

    def __init__(self, inner: Any, count: Callable[[int], None]) -> None:
        self._inner = inner
        self._count = count

    def search(self, text: str, position: int) -> Any:
        found = self._inner.search(text, position)
        self._count((len(text) if found is None else found.end()) - position + 1)
        return found

    def decode(self, text: str) -> Any:
        self._count(len(text))
        return self._inner.decode(text)


def effort(function: Callable[[str], object], text: str) -> int:
    """Count what a function does with a text; what it raises does not matter."""
    total = 0

    def count(more: int) -> None:
        nonlocal total
        total += more

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal total
        if event == "line":
            total += 1
        return trace if event != "call" or _is_ours(frame.f_code.co_filename) else None

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_OPENS", "_SOLID", "_IN_STRING", "_ENDS_WORD"):
            patch.setattr(json_text, name, _Counting(getattr(json_text, name), count))
        decoders = {strict: _Counting(each, count) for strict, each in json_text._decoders.items()}
        patch.setattr(json_text, "_decoders", decoders)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function(text)
        except ValueError:
            pass
        finally:
            sys.settrace(before)
    return total


@cache
def _is_ours(file: str) -> bool:
    return Path(file).parent.name in ("chutes_core", "langchain_chutes", "llama_index_chutes")


def assert_linear(function: Callable[[str], object], make: Callable[[int], str], *, length: int = 300) -> None:
    """Ten times the text is some ten times the work, where it would be a hundred times if each character met each."""
    once, ten_times = (effort(function, make(size)) for size in (length, 10 * length))
    assert ten_times < 20 * once + 2_000, (once, ten_times)
