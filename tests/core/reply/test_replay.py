"""An answer that begins anew in its stream goes on if what was given out comes again, and is an error otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import APIError, Kind
from chutes_core.reply.guard import StreamGuard
from chutes_core.reply.replay import Replay
from chutes_core.response import Delta, ToolCallDelta

WORDS = "The sky is blue, since blue light is scattered most. So it is."


def event(delta: dict[str, Any], chunk_id: str = "1", finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": chunk_id, "choices": [choice], **more}).encode() + b"\n\n"


def machine(chunk_id: str, text: str, cuts: Sequence[int], thought: str = "", done: bool = True) -> list[bytes]:
    """What one machine sends: its role, its reasoning, its text in pieces, and its end."""
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(edges)]
    events = [event({"role": "assistant", "content": ""}, chunk_id)]
    events += [event({"reasoning_content": thought}, chunk_id)] if thought else []
    events += [event({"content": piece}, chunk_id) for piece in pieces]
    return [*events, event({}, chunk_id, "stop"), b"data: [DONE]\n\n"] if done else events


def read(events: Sequence[bytes], *, heals: bool = True, **options: Any) -> tuple[list[Delta], Any, APIError | None]:
    """The deltas of a stream, its reply, and what it failed with."""
    guard, got = StreamGuard(heals=heals, **options), []
    try:
        for each in events:
            got.extend(guard.feed(each))
        got.extend(guard.close())
    except APIError as error:
        return got, guard.reply, error
    return got, guard.reply, None


@given(
    st.lists(st.integers(0, 70), max_size=8),
    st.lists(st.integers(0, 70), max_size=8),
    st.integers(0, 70),
    st.booleans(),
)
def test_the_same_answer_goes_on(first: list[int], second: list[int], cut: int, thinks: bool) -> None:
    """Wherever it broke off and however it is cut into pieces: every word once, and the reply is whole."""
    thought = "Light scatters." if thinks else ""
    text = WORDS[: cut % len(WORDS)]
    before = machine("1", text, first, thought, done=False)
    got, reply, error = read([*before, *machine("2", WORDS, second, thought)])
    assert error is None
    assert ("".join(each.content for each in got), reply.content) == (WORDS, WORDS)
    assert ("".join(each.reasoning for each in got), reply.reasoning) == (thought, thought)
    assert reply.finish_reason == "stop"


@given(st.integers(0, 60), st.lists(st.integers(0, 70), max_size=8), st.integers(1, 60))
def test_another_answer_is_an_error(place: int, cuts: list[int], cut: int) -> None:
    """One letter is enough; nothing of the second answer is given out, and the part is the first one's."""
    place = place % cut
    other = f"{WORDS[:place]}~{WORDS[place + 1 :]}"
    got, reply, error = read([*machine("1", WORDS[:cut], [], done=False), *machine("2", other, cuts)])
    assert error is not None
    assert (error.kind, error.partial, reply.content) == (Kind.RESTARTED, WORDS[:cut], WORDS[:cut])
    assert "".join(each.content for each in got) == WORDS[:cut]


CALL = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "pay", "arguments": "{}"}}]}
SECOND = machine("2", "Four.", [])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([{"content": "Four. And"}], SECOND, "ended sooner"),
        ([{"content": "Fo"}], [*machine("2", "F", [], done=False), b'{"error": {"message": "gone"}}'], ""),
        ([{"reasoning_content": "Hm."}], SECOND, "in other words"),
        ([{"reasoning_content": "Hm."}, {"content": "Fo"}], machine("2", "Four.", [], "Hm. Or"), "in other words"),
        ([{"content": "Fo"}], machine("2", "Four.", [], "Hm."), "in other words"),
        ([{"content": "Fo"}, CALL], SECOND, "id changed"),
        ([CALL], SECOND, "id changed"),
        ([{"content": "Fo"}], [event(CALL, "2"), event({}, "2", "tool_calls")], "in other words"),
        ([{"refusal": "No."}, {"content": "Fo"}], SECOND, "id changed"),
    ],
)
def test_what_cannot_be_the_same(first: list[dict[str, Any]], second: list[bytes], said: str) -> None:
    """Less than before, other reasoning, or a call where there was text."""
    before = [event({"role": "assistant"}), *(event(each) for each in first)]
    _, _, error = read([*before, *second])
    assert error is not None
    assert said in str(error)
    assert error.partial == "".join(each.get("content", "") for each in first)


@pytest.mark.parametrize("how", ["id", "role"])
def test_both_ways_of_beginning_anew(how: str) -> None:
    """Another id, or a second opening under the same."""
    again = machine("2" if how == "id" else "1", "Four.", [2])
    got, reply, error = read([*machine("1", "Fo", [1], done=False), *again])
    assert (error, reply.content, "".join(each.content for each in got)) == (None, "Four.", "Four.")


def test_it_may_happen_twice() -> None:
    """Also while the second is compared: what counts is what was given out."""
    events = [*machine("1", "Four, or", [], done=False), *machine("2", "Fo", [], done=False)]
    got, reply, error = read([*events, *machine("3", "Four, or five.", [1])])
    assert (error, reply.content, "".join(each.content for each in got)) == (None, "Four, or five.", "Four, or five.")


def test_usage_is_that_of_the_answer() -> None:
    """The last machine's count, as the service bills it."""
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    second = [event({"role": "assistant"}, "2"), event({"content": "Four."}, "2", "stop", usage=usage)]
    _, reply, _ = read([*machine("1", "Fo", [], done=False), *second])
    assert reply.usage.total_tokens == 11


def test_it_is_not_healed_unasked_nor_among_several() -> None:
    """Where chunks are passed on as they come, and where there are several answers."""
    events = [*machine("1", "Fo", [], done=False), *SECOND]
    for _, _, error in (read(events, heals=False), read(events, choices=2)):
        assert error is not None
        assert error.kind is Kind.RESTARTED


def test_steps_of_a_replay() -> None:
    """A call comes behind all of the text, or not at all."""
    call = Delta(tool_calls=[ToolCallDelta(0, "a", "pay", "{}")])
    replay = Replay("Hm.", "Fo")
    assert replay.step(Delta(reasoning="Hm.")) == Delta()
    assert replay.step(call) is None
    assert replay.step(Delta("Four")) == Delta("ur")
    assert replay.over
    assert replay.step(call) == call
