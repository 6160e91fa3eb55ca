"""The twelve invariants of a fallback call, for any script of faults, in all four drivers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import APIError, Kind, Retry, Scope
from chutes_core.failures.reading import FACTS
from chutes_core.fallback import FallbackError, FallbackPolicy, Health
from chutes_core.testing import Answer, Fault, VirtualClock

from .stages import ALL_FAULTS, ANSWER, MEMBERS, PAYING, STYLES, Whole

FAULTS = st.sampled_from(ALL_FAULTS) | st.sampled_from([PAYING, ANSWER])
SCRIPTS = st.lists(FAULTS, max_size=8)
POLICIES = st.builds(
    FallbackPolicy,
    first_token=st.sampled_from([2.0, 5.0]),
    gap=st.sampled_from([2.0, 5.0]),
    deadline=st.sampled_from([20.0, 60.0]),
    max_attempts=st.integers(1, 8),
    after_commit=st.sampled_from(["raise", "restart"]),
)


def listed(done: Whole) -> Any:
    """The attempts as whoever made the call sees them: in the error where there is one."""
    return done.call.attempts if done.error is None else getattr(done.error, "attempts", None)


@settings(max_examples=60)
@given(SCRIPTS, POLICIES)
def test_all_of_them(script: list[Any], policy: FallbackPolicy) -> None:
    """One whole answer or one honest error, in time, with everything told, nothing open, and in step in all drivers."""
    told: dict[str, Any] = {}
    for style in STYLES:
        done = Whole(script, style, policy).run()
        asked = done.asked
        failed = [each for each in done.call.attempts if each.outcome == "failed"]
        # I1, I2: one whole answer of one member, or one error.
        if done.error is None:
            assert (done.text, done.arguments) in [(ANSWER.text, ""), (PAYING.text, '{"amount": 1000}'), ("", "")]
            assert done.call.served is not None
        elif style.endswith("whole"):
            assert done.parts == []
        # I3: no tool call that was cut.
        assert done.arguments in ("", '{"amount": 1000}') or (
            isinstance(done.error, APIError) and policy.after_commit == "raise"
        )
        # I4: within the deadline and the cap.
        assert policy.deadline is not None
        assert done.clock.now() <= policy.deadline + 1e-6
        assert len(asked) <= policy.max_attempts
        # I5: every attempt once, in order, with how long it took.
        attempts = listed(done)
        assert [each.model for each in attempts] == asked
        assert all((each.outcome == "failed") == (each.kind is not None) for each in attempts)
        waited = sum(done.clock.sleeps) if done.clock.sleeps else 0.0
        assert sum(each.elapsed for each in attempts) <= done.clock.now() + 1e-6 <= waited + 1e-5
        # I6: the tokens are those that the service told of.
        used = [each.usage.total_tokens if each.usage else 0 for each in attempts]
        assert sum(used) == sum(done.meter.tokens)
        # I7: nothing is left open.
        assert done.transport.open_replies == 0
        # I10: the counts of health are the outcomes.
        assert done.health is not None
        for member in MEMBERS:
            vitals = done.health.vitals(member.target)
            own = [each for each in attempts if each.model == member.name]
            assert vitals.successes == sum(each.outcome == "answered" for each in own)
            own_failures = [each for each in own if each.kind and FACTS[each.kind].scope is Scope.TARGET]
            assert vitals.failures == len(own_failures)
        # I12: what cannot be retried is the last attempt.
        for each in failed[:-1] if done.error is not None else failed:
            assert each.kind is not None
            assert FACTS[each.kind].retry is not Retry.NEVER or FACTS[each.kind].scope is not Scope.REQUEST
        told[style] = (done.text, str(done.error), done.trace, done.clock.now(), done.health.snapshot())
    # I11: blocking and async tell the same story.
    assert told["sync-whole"] == told["async-whole"]
    assert told["sync-stream"] == told["async-stream"]


TEXTS = [f"Nobody but number {number} says this." for number in range(9)]
LATE = st.builds(
    Fault, st.sampled_from(["hang_after_headers", "stall", "hang"]), after=st.sampled_from([0, 2]),
    seconds=st.sampled_from([0.5, 1.7, 3.1, 4.6]),
)  # fmt: skip
HEDGED = st.builds(
    FallbackPolicy,
    hedge=st.sampled_from([1.03, 1.51]),
    first_token=st.sampled_from([2.0, 5.0]),
    gap=st.sampled_from([2.0, 5.0]),
    deadline=st.sampled_from([8.0, 60.0]),
    max_attempts=st.integers(2, 8),
    after_commit=st.sampled_from(["raise", "hold", "restart", "resume", "resume_or_restart", "resume_or_hold"]),
    burst=st.sampled_from([2.0, 20.0]),
    budget=st.sampled_from([0.0, 2.0]),
)


@settings(max_examples=150)
@given(st.lists(LATE | FAULTS, max_size=8), HEDGED)
def test_with_somebody_asked_beside(script: list[Any], policy: FallbackPolicy) -> None:
    """The same holds when two are asked at once: one member's words, every attempt once, and nothing left open."""
    script = [  # each says what no other one says
        replace(each, answer=Answer(TEXTS[number], pieces=4, tool_calls=(each.answer or ANSWER).tool_calls))
        if isinstance(each, Fault)
        else replace(each, text=TEXTS[number])
        for number, each in enumerate(script)
    ]
    told: dict[str, Any] = {}
    for style in STYLES:
        done = Whole(script, style, policy).run()
        attempts = listed(done)
        outrun = [each for each in attempts if each.outcome == "outrun"]
        if done.error is None:
            assert done.text in (*TEXTS, ANSWER.text, "")
            assert done.arguments in ("", '{"amount": 1000}')
            assert [each.outcome for each in attempts].index("answered") == len(attempts) - 1
        elif style.endswith("whole"):
            assert done.parts == []
        else:
            assert any(text.startswith(done.text) for text in (*TEXTS, ANSWER.text))
        assert policy.deadline is not None
        assert done.clock.now() <= policy.deadline + 1e-6
        assert sorted(each.model for each in attempts) == sorted(done.asked)
        assert len(done.asked) <= policy.max_attempts
        assert len(outrun) <= 1
        assert all((each.outcome == "failed") == (each.kind is not None) for each in attempts)
        used = [each.usage.total_tokens if each.usage else 0 for each in attempts]
        assert sum(used) == sum(done.meter.tokens)
        assert done.transport.open_replies == 0
        assert done.health is not None
        for member in MEMBERS:
            vitals = done.health.vitals(member.target)
            own = [each for each in attempts if each.model == member.name]
            assert vitals.successes == sum(each.outcome == "answered" for each in own)
            own_failures = [each for each in own if each.kind and FACTS[each.kind].scope is Scope.TARGET]
            assert vitals.failures == len(own_failures)
        left = done.health.snapshot()["budget"]
        assert isinstance(left, float)
        assert left >= 0
        beside = policy.burst - left - sum(each.outcome == "failed" for each in attempts)
        assert beside <= 1
        told[style] = (done.text, str(done.error), done.trace, done.clock.now(), done.health.snapshot())
    assert told["sync-whole"] == told["async-whole"]
    assert told["sync-stream"] == told["async-stream"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: f"{fault.kind}-{fault.after}-{fault.value}")
def test_every_fault_first_and_last(fault: Fault, style: str) -> None:
    """Each fault costs its own attempt and no other, whether it is the first member's or that of the last."""
    policy = FallbackPolicy(first_token=5, gap=5, deadline=60, budget=3, max_attempts=4)
    first = Whole([fault], style, policy).run()
    last = Whole(["cold", "cold", fault, "bad_request"], style, policy).run()
    assert len(first.transport.requests) <= 2
    assert 3 <= len(last.transport.requests) <= 4
    for done in (first, last):
        assert done.transport.open_replies == 0
        assert sum(each.usage.total_tokens for each in done.call.attempts if each.usage) == sum(done.meter.tokens)


@settings(max_examples=20)
@given(st.lists(SCRIPTS, min_size=20, max_size=20), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(STYLES[:2]))
def test_retries_stay_within_the_budget(scripts: list[list[Any]], budget: float, style: str) -> None:
    """I9: over many calls that share a health, asking a member again is what the budget allows."""
    clock = VirtualClock()
    health = Health(now=clock.now)
    policy = FallbackPolicy(first_token=5, gap=5, deadline=60, budget=budget, burst=3)
    beyond = 0
    for count, script in enumerate(scripts, 1):
        done = Whole([*script, *["capacity"] * 8], style, policy, health=health, clock=clock).run()
        beyond += done.call.made - len({each.model for each in done.call.attempts})
        assert beyond <= 3 + budget * count


@pytest.mark.parametrize("style", ["async-whole", "async-stream"])
@pytest.mark.parametrize(
    "script",
    [
        [],
        ["cold"],
        ["hang", Fault("reset", after=0)],
        [Fault("stall", after=2)],
    ],
)
async def test_a_cancel_at_every_await(script: list[Any], style: str) -> None:
    """I7, I8: wherever a task is cancelled, nothing is left open and nobody is marked for it."""
    policy = FallbackPolicy(first_token=5, gap=5, deadline=60, after_commit="restart")
    for steps in range(1000):
        done = Whole(script, style, policy)
        task = asyncio.create_task(done.arun())
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert done.transport.open_replies == 0
        assert done.health is not None
        failures = sum(done.health.vitals(member.target).failures for member in MEMBERS)
        assert failures == sum(each.outcome == "failed" for each in done.call.attempts)
        if not finished:
            assert task.cancelled()
            assert done.call.served is None or done.call.attempts[-1].outcome == "answered"
        else:
            assert steps > 10, "there were awaits to be cancelled at"
            return
    pytest.fail("the call never ended")


@pytest.mark.parametrize("style", STYLES)
def test_a_typed_error_lists_the_attempts_too(style: str) -> None:
    """A failure that is raised because a part was seen says what came before it, as the group does."""
    done = Whole(["cold", Fault("reset", after=2)], style, FallbackPolicy()).run()
    if style.endswith("whole"):
        assert done.error is None
        return
    assert isinstance(done.error, APIError)
    assert not isinstance(done.error, FallbackError)
    assert [(each.model, each.kind) for each in listed(done)] == [("acme/one", Kind.COLD), ("acme/two", Kind.RESET)]
