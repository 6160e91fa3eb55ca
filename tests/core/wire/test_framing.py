"""The bytes of a connection: who gets which, for every way in which they may come."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chutes_core.wire.framing import Inbox

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MOST = 65536

sizes = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b", b"%x;", b"%x \t"])
contents = st.text("ab\r\n{0;", min_size=1, max_size=9).map(str.encode)
chunks = st.builds(lambda size, data: size % len(data) + b"\r\n" + data + b"\r\n", sizes, contents)
ends = st.sampled_from([b"0\r\n\r\n", b"00\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0;q\r\n\r\n", b"0\r\n", b""])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw a body, whole or with one byte that is missing, more or another."""
    body = b"".join(draw(st.lists(chunks, max_size=4))) + draw(ends)
    if body and draw(st.booleans()):
        at, kept = draw(st.integers(0, len(body) - 1)), draw(st.integers(0, 1))
        body = (
            body[:at]
            + draw(st.sampled_from([b"", b"0", b"a", b"\r", b"\n", b" ", b";", b"-", b"+", b"_"]))
            + body[at + kept :]
        )
    return body


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut data into pieces."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [piece for start, end in itertools.pairwise(places) if (piece := data[start:end])]


def by_the_package(body: bytes) -> bytes | None:
    """What the parser under the HTTP packages makes of a body; None if it is damaged or ends early."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(HEAD + body)
    parser.receive_data(b"")
    read = b""
    try:
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                read += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return read


def by_us(blocks: list[bytes]) -> bytes | None:
    """What we make of a reply: the contents of its chunks, if the package then sees that it has ended."""
    inbox, coming = Inbox(ValueError), iter(blocks)
    inbox.expect()
    while not (head := inbox.take(MOST)):
        inbox.put(next(coming))
    assert (head, inbox.take_over()) == (HEAD, True)
    read = b""
    try:
        while not inbox.ended:
            read += inbox.contents()
            if not inbox.ended:
                if (block := next(coming, None)) is None:
                    return None
                inbox.put(block)
    except ValueError:
        return None
    inbox.put(b"".join(coming))
    return read if by_the_package(inbox.take(MOST, all_came=True)) == b"" else None


@given(bodies(), st.lists(st.integers(0, 400), max_size=6))
@example(b"2\r\nHi\r\n0\r\n\r\n", range(60))
def test_bodies_are_read_as_by_the_package(body: bytes, cuts: Iterable[int]) -> None:
    """However the bytes come, what is a body for one is one for the other, with the same contents."""
    assert by_us(pieces(HEAD + body, cuts)) == by_the_package(body)


@given(st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_the_package_gets_the_headers_and_not_a_byte_more(cuts: list[int], interim: bool) -> None:
    """What follows the headers is still there to be taken over."""
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" if interim else b""
    inbox, taken = Inbox(ValueError), b""
    inbox.expect()
    for block in pieces(early + HEAD + b"2\r\nHi\r\n", cuts):
        inbox.put(block)
        while inbox.expects and (part := inbox.take(MOST)):
            taken += part
    assert taken == early + HEAD
    assert inbox.take_over()
    assert inbox.contents() == b"Hi"


def test_what_the_package_reads_on_is_its_own() -> None:
    """Nobody takes over a body of which the package has seen a part."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(HEAD + b"2\r\nHi")
    inbox.take(MOST)
    assert inbox.take(MOST) == b"2\r\nHi"
    assert not inbox.take_over()


def test_headers_that_are_taken_in_parts_are_not_taken_over() -> None:
    """The package asks for so much that they fit; if it did not, it would have all."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(HEAD + b"2\r\nHi\r\n")
    assert inbox.take(10) == HEAD[:10]
    assert not inbox.take_over()


def test_headers_without_an_end_go_to_the_package() -> None:
    """It refuses them, rather than memory being filled here."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)
    assert len(inbox.take(10**6)) > 200_000


def test_headers_that_end_early_go_to_the_package() -> None:
    """It knows best what to say of them."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(b"HTTP/1.1 2")
    assert inbox.take(MOST) == b""
    assert inbox.take(MOST, all_came=True) == b"HTTP/1.1 2"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x\r\n", "a chunk of the body has no size"),
        (b"1" * 20_000, "a chunk of the body has no size"),
        (b"1\r\nabc", "a chunk of the body is longer than its size"),
        (b"\r\n", "a chunk of the body has no size"),
    ],
)
def test_what_is_not_a_chunk(body: bytes, said: str) -> None:
    """The error says what is wrong, without the body; what came before it is read first."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(HEAD + body)
    inbox.take(MOST)
    assert inbox.take_over()
    with pytest.raises(ValueError, match=re.escape(said)):
        list(iter(inbox.contents, b""))


@pytest.mark.parametrize("trailers", [b"", b"x: y\r\n"])
def test_what_follows_a_body_in_chunks_is_kept_back(trailers: bytes) -> None:
    """The package would take it for the beginning of the next reply."""
    inbox = Inbox(ValueError)
    inbox.expect()
    end = b"0\r\n" + trailers + b"\r\n"
    inbox.put(HEAD + b"2\r\nHi\r\n" + end[:-1])
    inbox.take(MOST)
    assert inbox.take_over()
    assert inbox.contents() == b"Hi"
    assert (inbox.contents(), inbox.ended, inbox.take(MOST)) == (b"", True, b"")
    inbox.put(end[-1:] + HEAD)
    assert inbox.take(MOST) == end
    assert len(inbox) == len(HEAD)


def test_what_follows_a_body_of_a_known_length_is_kept_back() -> None:
    """Likewise."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(HEAD + b"Hel")
    inbox.take(MOST)
    inbox.bound(5)
    assert inbox.take(MOST) == b"Hel"
    inbox.put(b"lo" + HEAD)
    assert inbox.take(MOST) == b"lo"
    assert len(inbox) == len(HEAD)


@pytest.mark.parametrize("blank", [b" ", b" \t", b"; "])
def test_a_line_of_blanks_is_read_once(blank: bytes) -> None:
    """If each blank were looked at once for each of them, this would take an hour."""
    inbox = Inbox(ValueError)
    inbox.expect()
    inbox.put(HEAD + b"1;" + blank * 500_000)
    inbox.take(MOST)
    assert inbox.take_over()
    with pytest.raises(ValueError, match="no size"):
        inbox.contents()
