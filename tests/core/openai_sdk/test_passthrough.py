"""The stream that is given on: every byte of a whole answer, nothing of a broken one, the usage once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import APIError, Kind
from chutes_core.openai_sdk.passthrough import PassThrough
from chutes_core.reply.guard import StreamGuard


def chunk(content: str | None = None, *, finish: str | None = None, usage: int | None = None, **more: Any) -> bytes:
    delta = {"content": content} if content is not None else {}
    row = {"id": "1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": _used(usage), **more}
    return f"data: {json.dumps(row)}\n\n".encode()


def _used(tokens: int | None) -> dict[str, int] | None:
    return None if tokens is None else {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}


ROLE = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = [ROLE, chunk("Grüß"), b": a comment\n\n", chunk(" Gott"), chunk(finish="stop"), DONE]


def passed(blocks: Iterable[bytes], *, include_usage: bool = False) -> tuple[bytes, APIError | None]:
    """What comes out, and how it ended."""
    stream = PassThrough(StreamGuard(), include_usage=include_usage)
    out: list[bytes] = []
    try:
        for block in blocks:
            out.extend(stream.feed(block))
        out.extend(stream.close())
    except APIError as error:
        return b"".join(out), error
    return b"".join(out), None


def rows(stream: bytes) -> list[Any]:
    lines = (line[6:] for line in stream.splitlines() if line.startswith(b"data: {"))
    return [json.loads(line) for line in lines]


@given(cuts=st.lists(st.integers(0, 600), max_size=8), end=st.sampled_from([b"\n", b"\r\n"]))
def test_a_whole_stream_is_given_on_unchanged(cuts: list[int], end: bytes) -> None:
    """However the network cuts it, every byte of a whole answer comes out, and nothing else."""
    stream = b"".join(WHOLE).replace(b"\n", end)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    blocks = [stream[start:stop] for start, stop in pairwise(places)]
    assert passed(blocks) == (stream, None)


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ([ROLE, chunk("Hi")], Kind.TRUNCATED),
        ([ROLE, chunk("Hi"), DONE], Kind.TRUNCATED),
        ([ROLE, chunk("Hi"), b'{"error":"exhausted all available targets"}'], Kind.STREAM_ERROR),
        ([ROLE, chunk("Hi"), b'{"error":"exhausted all available targets"}\n', DONE], Kind.STREAM_ERROR),
        ([ROLE, chunk("Hi"), b'data: {"error": {"message": "broke", "code": 500}}\n\n', DONE], Kind.STREAM_ERROR),
        ([ROLE, chunk("Hi"), chunk("Hi", id="2"), chunk(finish="stop", id="2"), DONE], Kind.RESTARTED),
        ([ROLE, chunk("Hi"), ROLE, chunk(finish="stop"), DONE], Kind.RESTARTED),
        ([ROLE, chunk("Hi"), b"data: {half\n\n", DONE], Kind.MALFORMED),
        ([ROLE, chunk("Hi"), b"data: {half"], Kind.TRUNCATED),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_what_is_good_comes_out_and_then_the_failure(broken: list[bytes], kind: Kind, together: bool) -> None:
    """The events before the failure are given on, that of the failure and all behind it are not."""
    out, error = passed([b"".join(broken)] if together else broken)
    assert error is not None
    assert error.kind is kind
    assert error.partial == "Hi"
    assert out == ROLE + chunk("Hi")


def test_nothing_comes_of_a_machine_that_died_before_its_first_word() -> None:
    """A silent restart leaves one opening, that of the machine that answered."""
    other = [ROLE.replace(b'"1"', b'"2"'), chunk("Hi", id="2"), chunk(finish="stop", id="2"), DONE]
    assert passed([ROLE, *other]) == (b"".join(other), None)
    assert passed([ROLE, DONE])[0] == b""


def test_a_failure_behind_the_last_word_is_not_given_on() -> None:
    """A machine that dies after it has finished spoils nothing, whichever way that is reported."""
    said = [ROLE, chunk("Hi"), chunk(finish="stop")]
    for late in (
        b'{"error":"exhausted"}',
        b'data: {"error": {"message": "late"}}\n\n',
        chunk("Hi", id="2"),
        b"data: {half\n\n",
        b'{"detail":"late"}\n',
    ):
        out, error = passed([*said, late, DONE])
        assert error is None
        assert rows(out) == rows(b"".join(said))


def test_the_usage_comes_once_with_the_last_word() -> None:
    """Running totals become one total, on the last chunk, and no chunk is without choices."""
    stream = [
        chunk("", usage=0),
        chunk("Hi", usage=1),
        chunk(" you", usage=2),
        chunk(finish="stop", usage=2),
        chunk(usage=3, choices=[]),
        DONE,
    ]
    out, error = passed(stream)
    assert error is None
    found = rows(out)
    assert [row["usage"] and row["usage"]["completion_tokens"] for row in found] == [None, None, None, 3]
    assert all(row["choices"] for row in found)
    assert out.endswith(DONE)


def test_the_usage_has_a_chunk_of_its_own_where_that_was_asked_for() -> None:
    """With include_usage the closing chunk without choices comes, and it alone has the usage."""
    stream = [chunk("Hi", usage=1), chunk(finish="stop", usage=1), *[chunk(usage=1, choices=[])] * 2, DONE]
    found = rows(passed(stream, include_usage=True)[0])
    assert [bool(row["usage"]) for row in found] == [False, False, True]
    assert found[-1]["choices"] == []


def test_an_answer_without_an_end_mark_keeps_its_usage() -> None:
    """What was held back for a later usage comes at the end, mark or no mark, blank line or none."""
    stream = b"".join([chunk("Hi", usage=1), chunk(finish="stop", usage=1)])
    for block in (stream, stream.rstrip()):
        assert [bool(row["usage"]) for row in rows(passed([block])[0])] == [False, True]


def test_two_answers_at_once_share_one_usage() -> None:
    """With n=2 the first finish has no usage, the last has it."""
    finishes = [
        f'data: {{"id": "1", "choices": [{{"index": {index}, "delta": {{"content": "x"}}, "finish_reason": "stop"}}],'
        f' "usage": {{"total_tokens": {index + 1}}}}}\n\n'.encode()
        for index in range(2)
    ]
    stream = PassThrough(StreamGuard(choices=2))
    out = b"".join([*stream.feed(b"".join(finishes)), *stream.feed(DONE), *stream.close()])
    assert [row["usage"] for row in rows(out)] == [None, {"total_tokens": 2}]
