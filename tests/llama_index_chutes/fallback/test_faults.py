"""Every fault in every place and every way to ask, and what holds whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import APIError, Ledger, Usage
from chutes_core.testing import FAULTS, Answer, Fault
from llama_index_chutes import FallbackError, FallbackPolicy
from tests.core.test_faults import EXPECTED
from tests.llama_index_chutes.rigs import STREAMS, TOOLS, Entry, Outcome, ask, gather, text_of
from tests.llama_index_chutes.stages import (
    ANSWER,
    BERN,
    CITY,
    MEMBERS,
    OTHER,
    PAID,
    PAYING,
    POLICY,
    PROMPT,
    RESTART,
    City,
    Stage,
    attempts,
    last_text,
    metered,
    selections,
    stage,
)

# What a fault of one member does: nothing (the answer is whole), or an error for every member at once.
WHOLE = {"no_done", "no_usage", "cumulative_usage", "slow_drip", "stall:5"}
FINAL = {"bad_request", "keyless", "quota", "auth"}
# Of these a part of the answer has been given out before they show.
LATE = {"stall", "reset", "no_finish", "error_line", "error_event", "restart", "malformed", "done_only"}
WAYS = ["chat", "achat", "stream_chat", "astream_chat", "complete", "astream_complete"]


def broken(fault: str, position: int, answer: Answer, **settings: Any) -> Stage:
    """The members before a place are cold, and the one in it has a fault."""
    last = replace(Fault.parse(fault), answer=answer)
    if fault == "slow_drip":
        last = Fault("slow_drip", seconds=0.01, answer=answer)
    return stage([*["cold"] * position, last], **settings)


def is_final(fault: str, position: int) -> bool:
    """Whether nobody else is asked: of the windows the second member's is the largest."""
    return fault in FINAL or (fault == "overflow" and position == 1)


def check_the_rest(made: Stage, rows: Sequence[Any]) -> None:
    """In time, nothing open, and each attempt told once, in order, with how long it took."""
    assert made.transport.open_replies == 0
    assert made.clock.now() <= 60
    assert made.asked == [each["model"] for each in rows] == MEMBERS[: len(rows)]
    assert sum(each["elapsed"] for each in rows) == pytest.approx(made.clock.now())
    for each in rows:
        assert (each["outcome"] == "failed") == (each["kind"] is not None) == bool(each["detail"])
        if each["kind"] == "cold":
            assert each["status_code"] == 503


@pytest.mark.parametrize("style", WAYS)
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_in_a_place_in_a_style(fault: str, position: int, style: str) -> None:
    """A whole answer of the next member, or the right error."""
    made = broken(fault, position, OTHER)
    outcome = ask(made.llm, style)
    rows = attempts(outcome)
    check_the_rest(made, rows)
    if is_final(fault, position):
        assert isinstance(outcome.error, FallbackError)
        assert len(rows) == position + 1
    elif fault in LATE and style in STREAMS:
        assert isinstance(outcome.error, APIError)
        assert outcome.error.partial == outcome.streamed != ""
        assert rows[-1]["kind"] == outcome.error.kind.value
    else:
        assert outcome.error is None
        served = position if fault in WHOLE else position + 1
        text = OTHER.text if fault in WHOLE else ANSWER.text
        assert text_of(outcome.last) == text
        assert outcome.last.raw["model_name"] == MEMBERS[served]
        assert [each["outcome"] for each in rows] == [*["failed"] * served, "answered"]
        assert outcome.streamed == text or style not in STREAMS


@pytest.mark.parametrize("style", ["structured_predict", "astructured_predict"])
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_where_an_object_is_asked_for(fault: str, position: int, style: str) -> None:
    """The object of a member that gives one, or the right error; nothing of an answer is seen early."""
    made = broken(fault, position, CITY)
    made.transport.script.default = CITY
    outcome = gather(made.llm, style, City, PROMPT, place="Bern")
    assert made.transport.open_replies == 0
    whole = fault in WHOLE
    final = is_final(fault, position)
    assert made.asked == MEMBERS[: position + 1 + (not whole and not final)]
    if final:
        assert isinstance(outcome.error, FallbackError)
        check_the_rest(made, attempts(outcome))
    else:
        assert outcome.last == BERN


@pytest.mark.parametrize("after", range(1, 6))
@pytest.mark.parametrize("fault", sorted(LATE))
def test_a_call_that_was_cut_is_never_seen(fault: str, after: int) -> None:
    """Wherever a tool call breaks, what comes out is the next member's whole one, once."""
    made = stage([Fault(fault, after=after, answer=PAYING), PAYING], policy=RESTART)
    outcome = ask(made.llm, "stream_chat", tools=TOOLS)
    seen = [call.tool_kwargs for chunk in outcome.chunks for call in selections(made.llm, chunk)]
    assert outcome.error is None
    assert seen[-1:] == [PAID]
    assert all(call == PAID for call in seen)
    assert last_text(outcome.chunks) == PAYING.text


FAULT = st.builds(
    Fault, st.sampled_from(sorted(FAULTS)), after=st.integers(0, 4), answer=st.sampled_from([ANSWER, PAYING])
)
SCRIPT = st.lists(FAULT, max_size=6)


@settings(max_examples=60)
@given(SCRIPT, st.sampled_from(["chat", "stream_chat"]), st.sampled_from([POLICY, RESTART]))
def test_the_invariants(script: list[Entry], style: str, policy: FallbackPolicy) -> None:
    """One whole answer of one member or one error; no cut call; in time; the same story blocking and async."""
    blocking, waiting = stage(script, policy=policy), stage(script, policy=policy)
    outcome = ask(blocking.llm, style, tools=TOOLS)
    other = ask(waiting.llm, f"a{style}", tools=TOOLS)
    assert (outcome.chunks, str(outcome.error)) == (other.chunks, str(other.error))
    assert attempts(outcome) == attempts(other)
    assert blocking.clock.now() == waiting.clock.now() <= 60 + 1e-6
    assert blocking.asked == waiting.asked
    assert len(blocking.asked) <= policy.max_attempts
    assert blocking.transport.open_replies == waiting.transport.open_replies == 0
    calls = [call.tool_kwargs for chunk in outcome.chunks for call in selections(blocking.llm, chunk)]
    assert all(call == PAID for call in calls)
    if outcome.error is not None:
        assert style == "stream_chat" or not outcome.chunks
        return
    rows = attempts(outcome)
    assert [row["model"] for row in rows if row["outcome"] != "skipped"] == blocking.asked
    assert text_of(outcome.last) in (ANSWER.text, PAYING.text, "")
    assert last_text(outcome.chunks) == text_of(outcome.last) or style == "chat"


@settings(max_examples=40)
@given(SCRIPT, st.sampled_from(["chat", "astream_chat"]), st.sampled_from([POLICY, RESTART]))
def test_the_attempts_have_every_token_that_was_used(script: list[Entry], style: str, policy: FallbackPolicy) -> None:
    """Added up, whole answers and broken ones, they are what the service has sent; the ledger says the same."""
    ledger = Ledger()
    llm, meter, _ = metered(script, policy=policy, ledger=ledger)
    rows = attempts(ask(llm, style, tools=TOOLS))
    used = [each["usage"] for each in rows if each["usage"] is not None]
    added = tuple(sum(each[kind] for each in used) for kind in ("prompt_tokens", "completion_tokens"))
    usage = ledger.totals().usage
    assert added == meter.tokens == (usage.prompt_tokens, usage.completion_tokens)
    assert meter.open == 0


def test_a_long_run_stays_within_the_budget() -> None:
    """While everything is down, calls ask every member once, and again no more than was saved up and earned."""
    policy = replace(POLICY, budget=0.5, burst=3)
    made = stage(["cold"] * 200, policy=policy)
    outcomes: list[Outcome] = [ask(made.llm, "chat") for _ in range(40)]
    assert all(isinstance(outcome.error, FallbackError) for outcome in outcomes)
    assert 3 * 40 + 3 < len(made.transport.requests) <= 3 * 40 + 3 + 0.5 * 40


def test_a_usage_adds_up() -> None:
    """What a failed attempt used is not lost when another one answers."""
    llm, meter, _ = metered([Fault("error_line", after=2, answer=OTHER)])
    rows = attempts(ask(llm, "chat"))
    assert [Usage(**each["usage"]).completion_tokens for each in rows] == [2, 4]
    assert meter.tokens == (22, 6)
