"""Every fault of the service through the eight ways to ask: a whole answer, or the core's own error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chutes_core import APIError, Retry, TimeLimits
from chutes_core.testing import FAULTS, Answer, Fault
from tests.core.test_faults import ANSWER, EXPECTED, LIMITS, WHOLE

from .rigs import CHAT_STYLES, STREAMS, STYLES, Outcome, ask, rig, text_of


def test_every_fault_is_expected() -> None:
    """The table leaves no fault out."""
    assert {entry.partition(":")[0] for entry in EXPECTED} == set(FAULTS)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_is_a_whole_answer_or_the_right_error(fault: str, style: str) -> None:
    """Without retries each fault shows as itself, with exactly what was delivered, and leaves nothing open."""
    expected, stream = EXPECTED[fault], style in STREAMS
    error = expected.stream if stream else expected.whole or expected.stream
    kind = expected.kind if stream else expected.whole_kind or expected.kind
    made = rig([replace(Fault.parse(fault), answer=ANSWER)], timeout=LIMITS, max_retries=0)
    outcome = ask(made.llm, style)
    assert made.transport.open_replies == 0
    assert len(made.transport.requests) == 1
    if error == WHOLE:
        _check_whole(outcome, fault, style)
        return
    assert type(outcome.error) is error
    assert isinstance(outcome.error, APIError)
    assert outcome.error.kind is kind
    assert outcome.error.partial == outcome.streamed or not stream
    assert bool(outcome.streamed) == (stream and expected.partial)
    assert all(chunk.raw.usage is None for chunk in outcome.chunks), "a broken stream has no last chunk"


def _check_whole(outcome: Outcome, fault: str, style: str) -> None:
    assert outcome.error is None
    assert text_of(outcome.last) == ANSWER.text
    if style in STREAMS:
        assert outcome.streamed == ANSWER.text
    usage = outcome.last.raw["usage"]
    assert (usage is None) == (fault == "no_usage")
    if usage is not None:
        assert usage["completion_tokens"] == len(ANSWER.deltas())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("fault", [name for name in EXPECTED if EXPECTED[name].stream != WHOLE])
def test_retries_are_the_cores_alone(fault: str, style: str) -> None:
    """One retry of the core, not one of each layer's: a fault costs what the core's table says."""
    made = rig([Fault.parse(fault), ANSWER], timeout=LIMITS, max_retries=1)
    outcome = ask(made.llm, style)
    attempts = len(made.transport.requests)
    if outcome.error is None:
        assert attempts == 2
        assert text_of(outcome.last) == ANSWER.text
        return
    assert attempts == 1
    assert isinstance(outcome.error, APIError)
    long_wait = (outcome.error.retry_after or 0) > 60
    assert outcome.error.retry is not Retry.HERE or outcome.chunks or long_wait


@pytest.mark.parametrize("style", STYLES)
def test_retries_end(style: str) -> None:
    """With two retries a model that is always busy is asked three times."""
    made = rig(["capacity"] * 9, max_retries=2)
    assert ask(made.llm, style).error is not None
    assert len(made.transport.requests) == 3


@pytest.mark.parametrize("style", ["stream_chat", "astream_chat"])
@pytest.mark.parametrize("kind", ["restart", "error_line", "no_finish", "reset", "stall", "malformed", "done_only"])
@pytest.mark.parametrize("after", range(1, 5))
def test_a_cut_tool_call_is_never_a_call(kind: str, after: int, style: str) -> None:
    """Wherever a tool call is cut, no chunk shows it as one that could be run."""
    paying = Answer("", tool_calls=[("pay", {"amount": 1000, "to": "alice"})], pieces=4)
    made = rig([Fault(kind, after=after, answer=paying)], timeout=LIMITS, max_retries=0)
    outcome = ask(made.llm, style)
    assert outcome.error is not None
    for chunk in outcome.chunks:
        assert made.llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) == []


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_time_limit_of_one_call(style: str) -> None:
    """A call may be less patient than its model."""
    made = rig(["hang"], max_retries=0)
    outcome = ask(made.llm, style, timeout=TimeLimits(first_token=1, total=2))
    assert isinstance(outcome.error, TimeoutError)
    assert made.clock.now() <= 2
