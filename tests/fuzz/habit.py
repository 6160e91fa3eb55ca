"""What holds for every parser, whatever it is given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

import hypothesis
from hypothesis import HealthCheck, given, settings

from .made import growing, inputs
from .targets import TARGETS, Target
from .work import effort, memory_below

MEMORY = 4 * 1024 * 1024


def takes(target: Target, data: bytes) -> None:
    """Read something: only what is documented is raised, and memory stays within some hundred times its length."""
    with memory_below(MEMORY + 400 * len(data)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(*target.raises):
            target.read(data)


def grows_linearly(target: Target, before: bytes, part: bytes, after: bytes) -> None:
    """Ten times as long is some ten times the work, where it would be a hundred times if each byte met each."""
    times = max(1, 400 // len(part))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        once, ten_times = (
            effort(target.read, before + part * count + after, target.raises) for count in (times, 10 * times)
        )
    assert ten_times < 20 * once + 4_000, f"the work is {once:,}, and at ten times the length {ten_times:,}"


def tried(name: str, examples: int, seed: int) -> None:
    """Throw so many examples at a target, the same ones for the same seed."""
    target = TARGETS[name]
    common = settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
    )

    @hypothesis.seed(seed)
    @common
    @given(inputs(target))
    def any_input(data: bytes) -> None:
        takes(target, data)

    @hypothesis.seed(seed)
    @settings(common, max_examples=max(1, examples // 10))
    @given(growing(target))
    def any_length(shape: tuple[bytes, bytes, bytes]) -> None:
        grows_linearly(target, *shape)

    checks: tuple[Callable[[], None], ...] = (any_input, any_length)
    for check in checks:
        check()
