"""How long a first token is waited for: what a member's recent answers took, between a floor and the limit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chutes_core import ConfigurationError, Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackPolicy, Health, Member, Needs, Try

ONE = Member("acme/one")


class Clock:
    """A clock that stands until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def learned(times: list[float], size: int = 100) -> tuple[Health, Clock]:
    """A health that has seen calls whose first tokens took so long."""
    clock = Clock()
    health = Health(now=clock)
    for seconds in times:
        call = Call([ONE], FallbackPolicy(), health, Needs(tokens=size), now=clock, visible=True)
        assert isinstance(call.next(), Try)
        clock.seconds += seconds
        call.first_part()
        call.succeeded()
    return health, clock


def waits(health: Health, clock: Clock, size: int = 100, **policy: Any) -> float | None:
    """How long a new call waits for the first token of its first attempt."""
    step = Call([ONE], FallbackPolicy(**policy), health, Needs(tokens=size), now=clock).next()
    assert isinstance(step, Try)
    return step.limits.first_token


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0.5] * 15, 20),
        ([0.5] * 16, 3),
        ([1.5] * 16, 6),
        ([1.5] * 31 + [9.0], 6),  # one that was slow is none of nearly all
        ([1.5] * 28 + [2.5] * 4, 10),
        ([9.0] * 20 + [1.0] * 32, 4),  # the last ones count
        ([9.0] * 16, 20),
    ],
)
def test_it_follows_the_recent_ones(times: list[float], expected: float) -> None:
    """Four times what nearly all took, once there are enough; the policy's limit is the most."""
    assert waits(*learned(times)) == expected


def test_nothing_is_known_of_larger_requests() -> None:
    """A long prompt takes its time."""
    health, clock = learned([1.0] * 16, size=100)
    assert [waits(health, clock, size) for size in (10, 200, 201)] == [4, 4, 20]


def test_one_that_was_too_slow_is_learned_anew() -> None:
    """Or a member that has become slower would never be waited for again."""
    health, clock = learned([1.0] * 32)
    health.failed(ONE.target, Kind.CAPACITY)
    assert waits(health, clock) == 4
    health.failed(ONE.target, Kind.FIRST_TOKEN_TIMEOUT)
    assert waits(health, clock) == 20


def test_the_second_attempt_has_all_the_time() -> None:
    """What was learned costs an answer at most one attempt."""
    health, clock = learned([1.0] * 16)
    call = Call([ONE], FallbackPolicy(), health, Needs(tokens=100), now=clock, chance=lambda: 0.0)
    steps: list[Any] = []
    while len(steps) < 2:
        step = call.next()
        if isinstance(step, Try):
            steps.append(step.limits.first_token)
            call.failed(failure(Kind.RESET))
    assert steps == [4, 20]


def test_what_the_policy_says() -> None:
    """A shorter limit holds, and who wants none of this says so."""
    health, clock = learned([1.0] * 16)
    assert waits(health, clock, first_token=2) == 2
    assert waits(health, clock, first_token=None) == 4
    assert waits(health, clock, learned=False) == 20
    with pytest.raises(ConfigurationError, match="learned must be True or False"):
        FallbackPolicy(learned="yes")  # type: ignore[arg-type]


def test_it_travels_with_the_health() -> None:
    """As plain data; what is no time is left out."""
    health, clock = learned([1.0] * 16)
    told = json.loads(json.dumps(health.snapshot()))
    other = Health(now=clock)
    other.restore(told)
    assert waits(other, clock) == 4
    for broken in (None, "soon", [[1]], [["a", 1]] * 20, [[1.0, "b"]] * 20):
        told["members"][ONE.target]["recent"] = broken
        other.restore(told)
        assert waits(other, clock) == 20
