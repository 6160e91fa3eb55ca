"""Faults inside answers, step by step, without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from chutes_local.faults.kinds import Fault
from chutes_local.faults.spoil import Cut, Pause, Step, spoil, spoil_body, spoil_frames
from chutes_local.wire.encode import DONE, Encoder, Frame, ToolPart, Usage

ANSWER = [
    Frame("role"),
    Frame("content", text="one"),
    Frame("content", text=" two"),
    Frame("content", text=" three"),
    Frame("finish", finish="stop"),
    Frame("usage", usage=Usage(1, 3)),
]
CALL = [
    Frame("role"),
    Frame("tool", tool=ToolPart(0, "0", "pay")),
    Frame("tool", tool=ToolPart(0, "0", None, '{"amount"')),
    Frame("tool", tool=ToolPart(0, "0", None, ": 10}")),
    Frame("finish", finish="tool_calls"),
    Frame("usage"),
]


async def steps(fault: Fault | None, frames: list[Frame] = ANSWER) -> list[Step]:
    async def source() -> AsyncGenerator[Frame, None]:
        for frame in frames:
            yield frame

    return [step async for step in spoil(source(), Encoder("m", "sglang"), fault)]


def chunks(sent: list[Step]) -> list[Any]:
    lines = b"".join(step for step in sent if isinstance(step, bytes)).decode().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith('data: {"id"')]


def text(sent: list[Step]) -> str:
    return "".join(c["choices"][0]["delta"]["content"] or "" for c in chunks(sent) if c["choices"])


def finished(sent: list[Step]) -> bool:
    return any(c["choices"] and c["choices"][0]["finish_reason"] for c in chunks(sent))


async def test_without_a_fault_everything_comes() -> None:
    """A good stream has the text, the end, the usage and [DONE]."""
    sent = await steps(None)
    assert text(sent) == "one two three"
    assert finished(sent)
    assert sent[-1] == DONE


@pytest.mark.parametrize(
    ("kind", "last"),
    [
        ("reset", Cut("reset")),
        ("half_close", Cut("half_close")),
        ("done_only", DONE),
        ("no_finish", None),
        (
            "error_line",
            b'{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}',
        ),
    ],
)
async def test_ends_in_the_middle(kind: str, last: Step | None) -> None:
    """After so many visible deltas the stream is over, in the way of each kind, without a finish_reason."""
    sent = await steps(Fault(kind, after=2))
    assert text(sent) == "one two"
    assert not finished(sent)
    assert last is None or sent[-1] == last
    assert sent.count(DONE) == (1 if kind == "done_only" else 0)


async def test_a_fault_beyond_the_end_strikes_before_the_finish() -> None:
    """An answer that is shorter than the fault's moment is still hit."""
    sent = await steps(Fault("no_finish", after=99))
    assert text(sent) == "one two three"
    assert not finished(sent)


async def test_an_error_event_can_be_the_first() -> None:
    """With after=0 the error comes before any word, and [DONE] follows it."""
    sent = await steps(Fault("error_event", after=0))
    assert [step[:16] if isinstance(step, bytes) else step for step in sent] == [b'data: {"error":{', DONE]


async def test_a_restart_repeats_with_another_id() -> None:
    """Another machine begins at the beginning; the same body has two ids and two roles."""
    sent = await steps(Fault("restart", after=2))
    assert text(sent) == "one twoone~ two three"
    assert text(await steps(Fault("restart", after=2, value="same"))) == "one twoone two three"
    assert len({chunk["id"] for chunk in chunks(sent)}) == 2
    assert sum(c["choices"][0]["delta"]["role"] == "assistant" for c in chunks(sent) if c["choices"]) == 2
    assert finished(sent)


async def test_a_restart_repeats_tool_json_too() -> None:
    """The fragments of a call are repeated under a new call id."""
    sent = await steps(Fault("restart", after=2), CALL)
    calls = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in chunks(sent)
        if c["choices"] and c["choices"][0]["delta"]["tool_calls"]
    ]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"amount"{"amount": 10}'
    assert len({call["id"] for call in calls if call["id"]}) == 2


async def test_a_stall_is_a_pause_and_then_the_rest() -> None:
    """A stalled stream goes on after the pause."""
    sent = await steps(Fault("stall", after=1, seconds=7))
    assert sent[2] == Pause(7)
    assert text(sent) == "one two three"


async def test_silence_after_the_headers_is_the_first_step() -> None:
    """Nothing is sent before the pause."""
    assert (await steps(Fault("hang_after_headers", seconds=7)))[0] == Pause(7)


async def test_a_malformed_chunk_stands_among_good_ones() -> None:
    """One event is broken JSON, the others are whole."""
    sent = await steps(Fault("malformed", after=1))
    broken = sent[2]
    assert isinstance(broken, bytes)
    assert broken.endswith(b"\n\n")
    with pytest.raises(ValueError, match=r"\w"):
        json.loads(broken.decode().removeprefix("data: "))
    assert sent[-1] == DONE


async def test_an_empty_stream_has_no_byte() -> None:
    """200 and nothing."""
    assert await steps(Fault("empty")) == []


async def test_a_role_and_no_word() -> None:
    """role_only finishes properly without content."""
    sent = await steps(Fault("role_only"))
    assert text(sent) == ""
    assert finished(sent)


async def test_everything_as_reasoning() -> None:
    """reasoning_only moves the content into the reasoning."""
    sent = await steps(Fault("reasoning_only"))
    assert text(sent) == ""
    assert "".join(c["choices"][0]["delta"]["reasoning_content"] or "" for c in chunks(sent) if c["choices"]) == (
        "one two three"
    )


async def test_the_end_without_done() -> None:
    """no_done has a finish_reason and no [DONE]."""
    sent = await steps(Fault("no_done"))
    assert finished(sent)
    assert DONE not in sent


async def test_usage_in_its_three_ways() -> None:
    """Usage comes on every chunk, on the last alone, or never."""
    every = [c["usage"] is not None for c in chunks(await steps(Fault("cumulative_usage")))]
    final = [c["usage"] is not None for c in chunks(await steps(Fault("final_usage")))]
    never = [c["usage"] is not None for c in chunks(await steps(Fault("no_usage")))]
    assert all(every)
    assert final == [False] * 5 + [True]
    assert never == [False] * 5


async def test_a_slow_drip_loses_nothing() -> None:
    """The bytes come in small drops with pauses between, and are all there."""
    plain, dripped = await steps(None), await steps(Fault("slow_drip", seconds=1))
    assert max(len(step) for step in dripped if isinstance(step, bytes)) == 16
    assert Pause(1) in dripped
    assert text(dripped) == text(plain)
    assert finished(dripped)


async def test_tool_calls_gone_wrong() -> None:
    """A call may end with stop, or lose its end while claiming to be finished."""
    stopped = chunks(await steps(Fault("stop_with_tools"), CALL))
    assert stopped[-2]["choices"][0]["finish_reason"] == "stop"
    broken = chunks(await steps(Fault("broken_arguments", after=2), CALL))
    calls = [c["choices"][0]["delta"]["tool_calls"] for c in broken if c["choices"]]
    assert "".join(call[0]["function"]["arguments"] for call in calls if call) == '{"amount"'
    assert broken[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_frames_that_go_out_are_seen() -> None:
    """The observer is told what is sent, repeats included, and nothing else."""
    seen: list[str] = []

    async def source() -> AsyncGenerator[Frame, None]:
        for frame in ANSWER:
            yield frame

    fault = Fault("restart", after=1)
    async for _ in spoil(source(), Encoder("m", "sglang"), fault, lambda frame: seen.append(frame.text)):
        pass
    assert "".join(seen) == "one~one two three"


@pytest.mark.parametrize("fault", [None, Fault("reset", after=1), Fault("slow_drip", seconds=0)])
async def test_closing_the_steps_closes_the_generation(fault: Fault | None) -> None:
    """Whoever stops listening stops the model."""
    closed = []

    async def source() -> AsyncGenerator[Frame, None]:
        try:
            for frame in ANSWER:
                yield frame
        finally:
            closed.append(True)

    sent = spoil(source(), Encoder("m", "sglang"), fault)
    await anext(sent)
    await sent.aclose()
    assert closed == [True]


def test_whole_bodies_can_be_spoiled() -> None:
    """Cuts, pauses and damage of a body that goes out in one piece."""
    body = {"a": 1, "usage": {"prompt_tokens": 1}}
    half, cut = spoil_body(body, Fault("reset"))
    assert isinstance(half, bytes)
    assert cut == Cut("reset")
    assert list(spoil_body(body, Fault("half_close")))[1] == Cut("half_close")
    assert list(spoil_body(body, Fault("empty"))) == []
    assert list(spoil_body(body, Fault("no_usage"))) == [b'{"a":1}']
    first, pause, rest = spoil_body(body, Fault("stall", seconds=3))
    assert pause == Pause(3)
    assert isinstance(first, bytes)
    assert isinstance(rest, bytes)
    assert json.loads(first + rest) == body
    assert json.loads(b"".join(s for s in spoil_body(body, Fault("slow_drip")) if isinstance(s, bytes))) == body


def test_embedding_rows_can_be_shuffled_or_missing() -> None:
    """Rows may come in another order, with their index, or one short."""
    body = {"data": [{"index": i} for i in range(4)]}
    (shuffled,) = spoil_body(body, Fault("shuffled"))
    (short,) = spoil_body(body, Fault("short"))
    assert isinstance(shuffled, bytes)
    assert isinstance(short, bytes)
    order = [row["index"] for row in json.loads(shuffled)["data"]]
    assert sorted(order) == [0, 1, 2, 3] != order
    assert len(json.loads(short)["data"]) == 3


def test_frames_of_a_whole_reply() -> None:
    """The kinds that alter an answer work without a stream too."""
    assert all(frame.finish is None for frame in spoil_frames(ANSWER, Fault("no_finish")))
    assert [f.kind for f in spoil_frames(ANSWER, Fault("role_only"))] == ["role", "finish", "usage"]
    assert spoil_frames(ANSWER, None) == ANSWER
