"""Bodies have a size that they may have, and are unpacked no further than to it."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from chutes_core import APIError, ChutesClient, Kind, RequestRefusedError
from chutes_core.calls import bodies as module
from chutes_core.calls.bodies import (
    CHAT,
    ENCODINGS,
    MIB,
    STREAM,
    BodyError,
    Gauge,
    Most,
    TooLargeError,
    Unpacker,
    most_of,
)
from chutes_core.testing import Answer
from chutes_core.wire.images import ImagePolicy
from tests.core.clients import HELLO, KEY, MODEL, call
from tests.core.raw_server import END, RawServer, Request, piece, raw_server, reply
from tests.core.surfaces import ask

SEED = random.Random(20260927)


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    return gzip.compress(data[: len(data) // 2]) + gzip.compress(data[len(data) // 2 :])


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "members": ("gzip", members),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw),
}
SAMPLES = [
    b"",
    b"a",
    b"word " * 40_000,
    bytes(65_536 * 3),
    bytes(65_537),
    SEED.randbytes(70_000),
    json.dumps({"text": "walrus" * 900}).encode(),
]


def read(encoding: str, *blocks: bytes) -> list[bytes]:
    """The pieces that come out of a whole body."""
    unpacker = Unpacker(encoding)
    pieces = [each for block in blocks for each in unpacker.feed(block)]
    unpacker.close()
    return pieces


@pytest.mark.parametrize("step", [1, 2, 3, 100, 65_536, 10**9])
@pytest.mark.parametrize("packer", PACKERS)
def test_what_was_packed_comes_out(packer: str, step: int) -> None:
    """However it is packed and however it is cut on its way, in small pieces."""
    encoding, pack = PACKERS[packer]
    for data in SAMPLES if step > 3 else SAMPLES[:3]:
        packed = pack(data)
        pieces = read(encoding, *(packed[start : start + step] for start in range(0, len(packed), step)))
        assert b"".join(pieces) == data
        assert all(0 < len(each) <= 65_536 for each in pieces)


@pytest.mark.parametrize("packer", ["gzip", "deflate", "raw deflate"])
def test_what_was_cut_or_changed_is_noticed(packer: str) -> None:
    """A body that ended early is not taken for a whole one, nor what is no compressed body."""
    encoding, pack = PACKERS[packer]
    packed = pack(b"walrus " * 100)
    for length in range(1, len(packed)):
        with pytest.raises(BodyError, match=r"ended early|damaged"):
            read(encoding, packed[:length])
    for damaged in (b"walrus" + packed, packed[:15] + b"\xff\xff\xff" + packed[18:]):
        with pytest.raises(BodyError, match=r"damaged|ended early|goes on after its end"):
            read(encoding, damaged)


def test_what_goes_on_after_its_end_is_noticed() -> None:
    """Gzip may begin anew, with another member; anything else behind a body is none of it."""
    for packed in (zlib.compress(b"walrus") + b"x", gzip.compress(b"walrus") + b"\r\n"):
        with pytest.raises(BodyError):
            list(Unpacker("gzip" if packed[0] == 0x1F else "deflate").feed(packed))


def test_a_bomb_is_unpacked_as_far_as_it_is_read() -> None:
    """Nobody unpacks what nobody takes: one piece is made for each that is asked for."""
    made: list[int] = []
    packed = gzip.compress(bytes(64 * MIB))
    unpacker = Unpacker("gzip")

    class Counting:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def decompress(self, block: bytes, most: int) -> bytes:
            made.append(most)
            return bytes(self._inner.decompress(block, most))

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    unpacker._stream = Counting(unpacker._stream)  # type: ignore[assignment]
    pieces = unpacker.feed(packed)
    taken = [len(next(pieces)) for _ in range(5)]
    assert taken == made == [65_536] * 5


# ------------------------------------------------------------------------------------------------------- the sizes


def test_a_gauge_counts_bytes_values_and_lines() -> None:
    """Up to the limit all is well, whichever way it is cut."""
    for most, good, more in [
        (Most(10, 5), b"0123456789", b"0"),
        (Most(99, 99, values=4), b"[{1,2,3}]", b","),
        (Most(99, 99, lines=4), b"a\n\r\nb\n", b"\r"),
    ]:
        for step in (1, 3, 99):
            gauge = Gauge(most, packed=most.lines > 0)
            for start in range(0, len(good), step):
                gauge.take(good[start : start + step])
            with pytest.raises(TooLargeError, match=r"larger than 10 bytes|more than 4 "):
                gauge.take(more)
    with pytest.raises(TooLargeError, match="larger than 5 bytes"):
        Gauge(Most(10, 5), packed=True).take(b"012345")
    Gauge(Most(99, 99, lines=4)).take(b"\n" * 50)  # as it is sent, each costs the sender a byte


@pytest.mark.parametrize(
    ("body", "most"),
    [
        ({"messages": []}, CHAT),
        ({"messages": [], "stream": True}, STREAM),
        ({"messages": [], "stream": True, "n": 3}, STREAM.times(3)),
        ({"messages": [], "n": True}, CHAT),
        ({"messages": [], "n": 10**9}, CHAT),
        ({"messages": [], "logprobs": True}, CHAT.times(8)),
        ({"input": "a"}, Most(MIB * 5 // 4, MIB * 5 // 4, 420_000)),
        ({"input": ["a"] * 100}, Most(26 * MIB, 26 * MIB, 2_400_000)),
        ({"other": 1}, module.JSON),
        (None, module.JSON),
    ],
)
def test_how_large_a_reply_may_be(body: dict[str, Any] | None, most: Most) -> None:
    """It follows from what was asked for."""
    assert most_of(body) == most


# ------------------------------------------------------------------------------------------- through the clients

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"' + b"a" * 40_000 + b'"}}]}\n\n'


def packed_up(unit: bytes, size: int, head: bytes = b"", tail: bytes = b"") -> bytes:
    packer = zlib.compressobj(wbits=31)
    block = unit * max(1, MIB // len(unit))
    parts = [packer.compress(head), *(packer.compress(block) for _ in range(0, size, len(block)))]
    return b"".join([*parts, packer.compress(tail), packer.flush()])


def encoded(body: bytes, encoding: str = "gzip", head: bytes = HEAD) -> bytes:
    return head + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


FIELD = b'{"choices":[{"index":0,"finish_reason":"stop","message":{"content":"'
PACKED = packed_up(b"\0", 48 * MIB)
ZEROS = encoded(PACKED)
BOMBS: dict[str, tuple[str, bytes, str]] = {
    "zeros": ("whole", ZEROS, "larger than 4,194,304 bytes"),
    "an answer": ("whole", encoded(packed_up(b"a", 48 * MIB, FIELD, b'"}}]}')), "larger than 4,194,304 bytes"),
    "lists": ("whole", encoded(packed_up(b"[],", 3 * MIB, b'{"choices":[', b"[]]}")), "more than 400,000 values"),
    "a stream": ("streamed", encoded(packed_up(EVENT, 32 * MIB)), "larger than 4,194,304 bytes"),
    "an event": ("streamed", encoded(packed_up(b"a", 48 * MIB, b"data: ")), "an event has more than"),
    "lines": ("streamed", encoded(packed_up(b"\n", 4 * MIB)), "more than 1,000,000 lines"),
    "vectors": ("embedded", ZEROS, "larger than 1,310,720 bytes"),
    "a list of models": ("listed", ZEROS, "larger than 8,388,608 bytes"),
    "in the event loop": ("awhole", ZEROS, "larger than 4,194,304 bytes"),
    "in the SDK": ("sdk_whole", ZEROS, "larger than 4,194,304 bytes"),
    "a stream in the SDK": ("sdk_streamed", encoded(packed_up(EVENT, 32 * MIB)), "larger than 4,194,304 bytes"),
    "a page in the SDK": ("sdk_listed", ZEROS, "larger than 8,388,608 bytes"),
    "zeros twice": ("whole", encoded(gzip.compress(gzip.compress(b"{}")), "gzip, gzip"), "'gzip, gzip', which was"),
    "another encoding": ("whole", encoded(b"{}", "br"), "'br', which was not asked for"),
    "another one in the SDK": ("sdk_whole", encoded(b"{}", "zstd"), "'zstd', which was not asked for"),
    "another one in a stream": ("sdk_astreamed", encoded(b"{}", "deflate, gzip"), "which was not asked for"),
}


def serving(answer: bytes) -> Callable[[Any, Request, RawServer], None]:
    return lambda connection, request, server: connection.sendall(answer)


@pytest.fixture
def traced() -> Iterator[Callable[[], float]]:
    """The most memory that was in use since the test began, in MB."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_a_failure_and_little_is_unpacked(bomb: str, traced: Callable[[], float]) -> None:
    """The failure says how much was too much."""
    surface, answer, said = BOMBS[bomb]
    with raw_server(serving(answer)) as server, pytest.raises((APIError, openai.APIError)) as caught:
        ask(surface, server.base_url)
    assert isinstance(caught.value, APIError)
    assert caught.value.kind is Kind.MALFORMED
    assert said in str(caught.value)
    assert traced() < 48


LONG = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % (28 * MIB) + bytes(28 * MIB)


@pytest.mark.parametrize("surface", ["whole", "streamed", "awhole", "sdk_whole", "sdk_awhole"])
def test_an_error_page_is_read_to_a_mebibyte(surface: str, traced: Callable[[], float]) -> None:
    """Its status is the failure, whatever is in it; one in a strange encoding is not read at all."""
    busy = b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n"
    for answer in (encoded(PACKED, head=busy), encoded(PACKED, "gzip, gzip", busy), encoded(b"x", "br", busy), LONG):
        with raw_server(serving(answer)) as server, pytest.raises((APIError, openai.APIError)) as caught:
            ask(surface, server.base_url)
        assert getattr(caught.value, "status_code", None) == 503
    assert traced() < 20


@pytest.mark.parametrize("surface", ["whole", "awhole"])
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
def test_an_image_is_taken_as_it_is(surface: str, encoding: str, traced: Callable[[], float]) -> None:
    """It is compressed already, so no encoding is asked for and none is undone."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
    answer = encoded(PACKED, encoding, head)
    policy = ImagePolicy(allow_private=True)
    with raw_server(serving(answer)) as server:
        image = {"type": "image_url", "image_url": {"url": f"{server.base_url}/a.png"}}
        messages = [{"role": "user", "content": [image]}]
        with pytest.raises(RequestRefusedError, match=f"cannot be read: the body's encoding is '{encoding}'"):
            ask(surface, server.base_url, messages=messages, inline_images=policy)
        assert server.requests[0].headers["accept-encoding"] == "identity"
    assert traced() < 10


@pytest.mark.parametrize("size", [999, 1000])
def test_an_image_has_its_own_size(size: int) -> None:
    """A byte too many is refused before the rest has come; the limit itself is allowed."""

    def handle(connection: Any, request: Request, server: RawServer) -> None:
        if "chat" in request.line:
            return connection.sendall(reply("A walrus."))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(piece(b"a" * 1000))
        if size == 1000:
            connection.sendall(END)
        return None

    policy = ImagePolicy(allow_private=True, max_bytes=size)
    with raw_server(handle) as server:
        image = {"type": "image_url", "image_url": {"url": f"{server.base_url}/a.png"}}
        messages = [{"role": "user", "content": [image]}]
        if size == 1000:
            assert ask("whole", server.base_url, messages=messages, inline_images=policy) == "A walrus."
            return
        with pytest.raises(RequestRefusedError, match="larger than 999 bytes"):
            ask("whole", server.base_url, messages=messages, inline_images=policy)


@pytest.mark.parametrize("surface", ["whole", "awhole", "sdk_whole"])
@pytest.mark.parametrize("packer", PACKERS)
def test_what_was_asked_for_is_read(packer: str, surface: str) -> None:
    """Compressed replies are ordinary ones."""
    encoding, pack = PACKERS[packer]
    body = reply("A walrus.").partition(b"\r\n\r\n")[2]
    with raw_server(serving(encoded(pack(body), encoding.upper()))) as server:
        assert ask(surface, server.base_url) == "A walrus."
        assert server.requests[0].headers["accept-encoding"] == ", ".join(ENCODINGS)


@pytest.mark.parametrize("surface", ["whole", "sdk_whole"])
def test_what_cannot_be_read_is_never_asked_for(surface: str) -> None:
    """Neither by your headers nor by a client of your own."""
    headers = {"accept-encoding": "br", "Accept": "application/json"}
    with raw_server(serving(reply("A walrus."))) as server:
        assert ask(surface, server.base_url, own=httpx, default_headers=headers) == "A walrus."
        assert server.requests[0].headers["accept-encoding"] == ", ".join(ENCODINGS)


@pytest.mark.parametrize("surface", ["whole", "awhole", "sdk_whole"])
def test_a_compressed_body_that_ends_early_is_a_failure(surface: str) -> None:
    """Also where what came would be an answer."""
    body = reply("A walrus.").partition(b"\r\n\r\n")[2]
    with raw_server(serving(encoded(gzip.compress(body)[:-4]))) as server:
        with pytest.raises((APIError, openai.APIError)) as caught:
            ask(surface, server.base_url)
        assert getattr(caught.value, "kind", None) is Kind.MALFORMED
        assert "ended early" in str(caught.value)


@pytest.mark.parametrize("mode", ["sync-whole", "async-stream"])
def test_a_transport_that_has_it_all_in_memory(mode: str) -> None:
    """Such a body was unpacked by whoever put it there."""
    assert call(mode, [Answer("Hi")]).error is None


def test_a_client_of_ones_own_may_have_unpacked_it() -> None:
    """A transport that answers from memory, like a cache, has undone the encoding; the size is counted all the same."""
    body = reply("A walrus.").partition(b"\r\n\r\n")[2]
    bodies = iter([body, b" " * (17 * MIB)])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=gzip.compress(next(bodies)), headers={"content-encoding": "gzip"})

    client = ChutesClient(KEY, http_client=httpx.Client(transport=httpx.MockTransport(answer)), max_retries=0)
    assert client.chat(HELLO, model=MODEL).content == "A walrus."
    with pytest.raises(APIError, match="larger than 16,777,216 bytes"):
        client.chat(HELLO, model=MODEL)
