"""Every target reads what it is for, and stands a few examples; `make fuzz` throws many more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .habit import grows_linearly, takes, tried
from .targets import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    """What a target is for is read, or refused as documented, whole and cut anywhere."""
    target = TARGETS[name]
    for seed in target.seeds:
        for end in {*range(0, len(seed), max(1, len(seed) // 12)), len(seed)}:
            takes(target, seed[:end])


@pytest.mark.parametrize("name", TARGETS)
def test_examples_are_stood(name: str) -> None:
    """A few examples, the same each time."""
    tried(name, 15, seed=1)


def test_prefixes_of_an_error_are_taken_off_at_once() -> None:
    """The whole body was copied for each of them."""
    grows_linearly(TARGETS["error body"], b'{"detail": "', b"Invalid request: ", b'"}')


def square(data: bytes) -> None:
    """A parser that copies all for each byte."""
    for _ in data:
        data.strip()


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda data: {}["x"], "'x'"),
        (lambda data: bytearray(30_000_000), "bytes were allocated"),
    ],
    ids=["raises", "allocates"],
)
def test_a_parser_that_falls_is_found(read: Callable[[bytes], object], said: str) -> None:
    """An exception that nothing documents, or memory out of proportion, ends the habit."""
    with pytest.raises((KeyError, AssertionError), match=said):
        takes(Target(read, (b"x",), (ValueError,)), b"x")


def test_a_parser_that_is_not_linear_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is work that grows with the square of the length."""
    monkeypatch.setattr("tests.fuzz.work._is_ours", lambda file: file == __file__)
    with pytest.raises(AssertionError, match="the work is"):
        grows_linearly(Target(square, (b"x",)), b"", b"x" * 8, b"")
