"""What a parser takes to read something, counted and not timed."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# These look at one place of a text, or from one on.
CHEAP = {"startswith", "endswith", "find", "rfind", "index", "append", "join"}


@cache
def _is_ours(file: str) -> bool:
    return file.startswith((str(ROOT / "chutes_core"), str(ROOT / "chutes_local")))


def effort(read: Callable[[bytes], object], data: bytes, allowed: tuple[type[Exception], ...]) -> int:
    """Count the lines of ours that run, and the length of every text or bytes that a method of theirs goes through."""
    total = 0

    def line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal total
        total += event == "line"
        return line if event != "call" or _is_ours(frame.f_code.co_filename) else None

    def call(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal total
        if event == "c_call" and _is_ours(frame.f_code.co_filename) and argument.__name__ not in CHEAP:
            through = getattr(argument, "__self__", None)
            total += len(through) // 64 if isinstance(through, str | bytes | bytearray) else 0

    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(call)
    sys.settrace(line)
    try:
        with suppress(*allowed):
            read(data)
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return total


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    """See that no more than so many bytes are allocated at a time."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes were allocated at once, and {most:,} are allowed"
