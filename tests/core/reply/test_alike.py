"""The short way of a chunk gives what the long way gives, or is not taken."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import APIError
from chutes_core.reply import guard as guarding
from chutes_core.reply.alike import likeness
from chutes_core.reply.guard import StreamGuard
from chutes_core.response import Delta

TEXTS = st.text(st.sampled_from('ab \n"\\{}:,é\t\x7f<think>/😀'), max_size=6)
FIELDS = st.sampled_from(["content", "reasoning_content", "reasoning"])


@st.composite
def chunk(draw: st.DrawFn, number: int, shape: dict[str, Any]) -> bytes:
    """Draw a chunk; most are like one another."""
    odd = draw(st.integers(0, 9)) == 0
    field = draw(FIELDS) if odd else shape["field"]
    delta: dict[str, Any] = {"role": shape["role"], "content": None, "tool_calls": None, field: draw(TEXTS)}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "matched_stop": None}
    made: dict[str, Any] = {"id": "c1", "created": 1_700_000_000, "model": "acme/one", "choices": [choice]}
    usage = {"prompt_tokens": 10, "total_tokens": 10 + number, "completion_tokens": number, "details": None}
    made |= {"usage": usage, "checksum": f"{number * 7919:032x}"} if shape["counted"] else {}
    if odd:
        change = draw(st.integers(0, 9))
        if change == 0:
            delta["tool_calls"] = [{"index": 0, "id": "t", "function": {"name": "pay", "arguments": "{}"}}]
        elif change == 1:
            made["usage"] = draw(st.sampled_from([None, [], {"total_tokens": -1}, {"total_tokens": 1.5}]))
        elif change == 2:
            choice["finish_reason"] = "stop"
        elif change == 3:
            made["id"] = "c2"
        elif change == 4:
            made["error"] = draw(st.sampled_from(["", {"message": "no"}]))
        elif change == 5:
            made["choices"] = draw(st.sampled_from([[], None, [choice, choice]]))
        elif change == 6:
            delta["role"] = "assistant"
        elif change == 7:
            choice["logprobs"] = {"content": [{"token": "a", "logprob": -1, "bytes": None}]}
    data = json.dumps(
        made, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    )
    line = data.encode()
    if draw(st.integers(0, 30)) == 0:
        at = draw(st.integers(0, len(line) - 1))
        line = line[:at] + draw(st.sampled_from([b"", b'"', b"\\", b"\n", b"}", b"0", b"\xff"])) + line[at + 1 :]
    return line


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Draw a stream, most of whose chunks are alike."""
    shape = {
        "field": draw(FIELDS),
        "role": draw(st.sampled_from([None, "assistant", ""])),
        "counted": draw(st.booleans()),
    }
    lines = [draw(chunk(number, shape)) for number in range(draw(st.integers(0, 14)))]
    if draw(st.booleans()):
        lines.insert(0, b'{"id": "c1", "choices": [{"index": 0, "delta": {}}]}')
    end = b'{"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'
    lines += draw(st.sampled_from([[end], [end, b"[DONE]"], [], [end, end]]))
    fields = draw(st.lists(st.sampled_from([b"data: "] * 30 + [b"data:", b"dta: ", b""]), min_size=20, max_size=20))
    return b"".join(field + line + b"\n\n" for field, line in zip(fields, lines, strict=False))


def outcome(stream: bytes, cuts: list[int], tries: int) -> tuple[list[Delta], object, object, int]:
    """What a guard gives out, raises and has at its end; and how many chunks took the short way."""
    given_out: list[Delta] = []
    guard = StreamGuard(model="acme/one", heals=True)
    before, guarding._TRIES = guarding._TRIES, tries
    error = None
    try:
        places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
        for start, end in itertools.pairwise(places):
            given_out.extend(guard.feed(stream[start:end]))
        given_out.extend(guard.close())
    except APIError as problem:
        error = (problem.kind, str(problem), problem.partial_reply)
    finally:
        guarding._TRIES = before
    return given_out, error, guard.reply, guard._short


@settings(max_examples=600)
@given(streams(), st.lists(st.integers(0, 4000), max_size=8))
def test_both_ways_give_the_same(stream: bytes, cuts: list[int]) -> None:
    """The same deltas, the same error, the same reply, wherever the network splits the stream."""
    short, long = outcome(stream, cuts, 10**6), outcome(stream, cuts, -(10**6))
    assert short[:3] == long[:3]
    assert long[3] == 0


def test_nearly_all_chunks_take_the_short_way() -> None:
    """Those of an answer that is like any other: the first says the role, the second is what others are like."""

    def line(number: int) -> bytes:
        delta = {"role": None if number else "assistant", "content": f"w{number} "}
        usage = {"prompt_tokens": 3, "total_tokens": 3 + number, "completion_tokens": number}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        made = {"id": "c", "choices": [choice], "usage": usage, "chutes_verification": f"{number:032x}"}
        return b"data: " + json.dumps(made).encode() + b"\n\n"

    end = b'data: {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    deltas, error, reply, short = outcome(b"".join(map(line, range(100))) + end, [], 8)
    assert error is None
    assert "".join(delta.content for delta in deltas) == "".join(f"w{number} " for number in range(100))
    assert short == 98
    usage, extra = reply.usage, reply.extra
    assert (usage.completion_tokens, extra) == (99, {"chutes_verification": f"{99:032x}"})


def test_chunks_that_are_never_alike_are_not_compared_for_ever() -> None:
    """What each costs in vain is limited."""

    def lines() -> Iterator[bytes]:
        for number in range(100):
            choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}
            yield b"data: " + json.dumps({"id": "c", "n": number, "choices": [choice]}).encode() + b"\n\n"

    guard = StreamGuard()
    for line in lines():
        list(guard.feed(line))
    assert (guard._short, guard._like) == (0, None)


CHUNK = '{"id":"1","choices":[{"index":0,"delta":{"content":"Hi"}}],"usage":{"total_tokens":9},"sum":"ab"}'


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (CHUNK.replace("Hi", r"a\"b\\\n"), 'a"b\\\n'),
        (CHUNK.replace("9", "10").replace("ab", "cd"), "Hi"),
        (CHUNK.replace("Hi", ""), ""),
        (CHUNK.replace("Hi", '"'), None),
        (CHUNK.replace("Hi", r"\u0041"), None),
        (CHUNK.replace("Hi", "a\nb"), None),
        (CHUNK.replace("Hi", 'a","role":"b'), None),
        (CHUNK.replace("9", "09"), None),
        (CHUNK.replace("9", "-9"), None),
        (CHUNK.replace("9", "9.5"), None),
        (CHUNK.replace("9", "9" * 16), None),
        (CHUNK.replace("ab", 'a","error":"b'), None),
        (CHUNK.replace('"1"', '"2"'), None),
        (CHUNK + " ", None),
        (CHUNK[:-1], None),
    ],
)
def test_what_is_alike(other: str, text: str | None) -> None:
    """A text, a count and a word may differ, and nothing else."""
    like = likeness(CHUNK.encode(), "content", ["total_tokens"], ["sum"])
    assert like is not None
    assert like.text_of(other.encode()) == text


@pytest.mark.parametrize(
    "chunk",
    [
        CHUNK.replace('"id"', '"content":"x","id"'),
        CHUNK.replace('"id"', '"\\u0069d"'),
        CHUNK.replace('"content"', '"text"'),
        CHUNK.replace('"Hi"', "null"),
    ],
)
def test_what_is_not_clear_is_like_nothing(chunk: str) -> None:
    """Where a field cannot be told by its name, every chunk takes the long way."""
    assert likeness(chunk.encode(), "content", ["total_tokens"], ["sum"]) is None


def line(delta: dict[str, Any]) -> bytes:
    """A chunk of a stream, as its event."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n"


def test_a_second_opening_is_not_like_the_first() -> None:
    """After a chunk without a role, one that has it opens the answer, and another one does so again."""
    opening = {"role": "assistant", "content": "Hi"}
    stream = b"".join(map(line, [{}, opening, opening]))
    short, long = outcome(stream, [], 10**6), outcome(stream, [], -(10**6))
    assert short[:3] == long[:3]
    assert [delta.content for delta in short[0]] == ["Hi"]


def test_a_line_outside_the_format_is_never_alike() -> None:
    """A ``data:`` that was damaged on its way is an error, whatever its chunk says."""
    stream = line({"content": "a"}) + line({"content": "b"}).removeprefix(b"data: ")
    short, long = outcome(stream, [], 10**6), outcome(stream, [], -(10**6))
    assert short[:3] == long[:3]
    assert short[1] is not None
