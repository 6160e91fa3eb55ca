"""The event decoder: the same payloads from any split of the same bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.reply.sse import MAX_EVENT, EventDecoder, EventTooLongError, Stray


def decode(data: bytes, cuts: list[int] | None = None) -> list[bytes]:
    """Decode bytes, cut at the given places."""
    decoder = EventDecoder()
    payloads: list[bytes] = []
    edges = [0, *sorted(set(cuts or [])), len(data)]
    for start, end in pairwise(edges):
        payloads += decoder.feed(data[start:end])
    return payloads + decoder.close()


@pytest.mark.parametrize(
    ("data", "payloads"),
    [
        (b"data: one\n\ndata: two\n\n", [b"one", b"two"]),
        (b"data: one\r\n\r\ndata: two\r\n\r\n", [b"one", b"two"]),
        (b"data: one\r\rdata: two\r\r", [b"one", b"two"]),
        (b"data:one\n\n", [b"one"]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data: one\ndata: two\n\n", [b"one\ntwo"]),
        (b"data\ndata: x\n\n", [b"\nx"]),
        (b": ping\n\ndata: one\n\n: ping\n\n", [b"one"]),
        (b"event: x\nid: 7\nretry: 10\ndata: one\n\n", [b"one"]),
        (b"\xef\xbb\xbfdata: one\n\n", [b"one"]),
        (b"\n\n\ndata: one\n\n\n\n", [b"one"]),
        (b"data: one", [b"one"]),
        (b"data: one\n", [b"one"]),
        (b"", []),
        ("data: Grüße 🎈\n\n".encode(), ["Grüße 🎈".encode()]),
    ],
)
def test_events_are_read_as_the_format_says(data: bytes, payloads: list[bytes]) -> None:
    """Line ends, comments, missing spaces, several data lines and an unfinished last event are all read."""
    assert decode(data) == payloads


@pytest.mark.parametrize("line", [b'{"error": "gone"}', b"<html>", b'[{"detail": 1}]'])
def test_a_bare_body_is_handed_out_as_stray(line: bytes) -> None:
    """A line that looks like a body is not passed over, with or without a line end."""
    for data in (b"data: one\n\n" + line, b"data: one\n\n" + line + b"\n"):
        payloads = decode(data)
        assert payloads[0] == b"one" or payloads[1] == b"one"
        assert Stray(line) in payloads
        assert any(type(payload) is Stray for payload in payloads)


def test_unused_fields_are_passed_over() -> None:
    """Comments, and the fields of the format that say nothing here, are no event and no stray."""
    assert decode(b": ping\nevent: x\nid: 7\nretry: 10\nid\n\ndata: one\n\n") == [b"one"]


@pytest.mark.parametrize(
    "line",
    [
        b" data: {}",
        b"DATA: {}",
        b"data : {}",
        b"dat: {}",
        b"foo: bar",
        b"baz",
        b": data: {}",
        b"event: {}",
        b"\x00",
        b" ",
    ],
)
def test_a_damaged_line_is_not_passed_over(line: bytes) -> None:
    """A line that may have been data comes out as a stray: a word may be in it."""
    assert decode(b"data: one\n\n" + line + b"\n\n") == [b"one", line.strip()]
    assert type(decode(line + b"\n\n")[0]) is Stray


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"])
def test_an_event_has_an_end(piece: bytes) -> None:
    """What never ends is not collected for ever, on one line or on many."""
    decoder = EventDecoder()
    fed = 0
    with pytest.raises(EventTooLongError, match=f"{MAX_EVENT:,}"):  # noqa: PT012 (the last of many raises)
        while fed < 2 * MAX_EVENT:
            assert decoder.feed(piece) == []
            fed += len(piece)
    assert fed <= MAX_EVENT + 2 * len(piece)
    decoder = EventDecoder()
    for _ in range(MAX_EVENT // len(piece) + 3):
        decoder.feed(b"data: " + piece.strip() + b"\n\n")


LINES = st.lists(
    st.sampled_from(
        [b"data: {}", b"data: \xc3\xa9\xf0\x9f\x8e\x88", b": ping", b"event: x", b"", b'{"error": 1}', b"data"]
    ),
    max_size=12,
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(lines=LINES, end=ENDS, tail=st.booleans(), cuts=st.lists(st.integers(0, 400), max_size=20))
def test_no_split_changes_what_is_read(lines: list[bytes], end: bytes, tail: bool, cuts: list[int]) -> None:
    """However the network cuts the bytes, inside a character or a line end too, the payloads are the same."""
    data = end.join(lines) + (end if tail else b"")
    assert decode(data, [cut for cut in cuts if cut < len(data)]) == decode(data)


def test_a_long_event_in_small_pieces_is_read_once() -> None:
    """An event of a megabyte in thousands of reads comes out whole."""
    data = b"data: " + b"x" * 1_000_000 + b"\n\n"
    assert decode(data, list(range(0, len(data), 97))) == [b"x" * 1_000_000]
