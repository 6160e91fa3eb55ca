"""Whatever stands in the headers of a reply, its answer is read, and no exception is anyone else's."""

from __future__ import annotations

import importlib
import random
import socket
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import openai
import pytest

from chutes_core import APIError, ChutesClient
from chutes_core.wire.pools import http_package

from .clients import HELLO, KEY, MODEL
from .raw_server import DONE, END, RawServer, Request, event, json_reply, raw_server
from .raw_server import reply as chat_reply
from .surfaces import ALL, BLOCKING, ask

ODD: dict[str, bytes] = {
    "bytes": b"X-Note: \xff\xfe\x80",
    "text": "X-Note: Gr\u00fc\u00dfe \u20ac \U0001f600".encode(),
    "a cookie": b"Set-Cookie: a=\xff\xfe; Path=/",
    "a cookie of another time": b"Set-Cookie: a=b; Expires=Mon, 01 Jan 99999 00:00:00 GMT; Domain=\xe9",
    "a charset that is none": b"Content-Type: application/json; charset=zlib",
    "a charset of bytes": b"Content-Type: application/json; charset=\xff",
    "no type": b"Content-Type: \xff/\xfe",
    "numbers": b"X-Chutes-Quota-Remaining: " + b"9" * 5000,
    "other numbers": "X-Chutes-Quota-Total: \u0663\u0664".encode(),
    "an id": b"X-Chutes-InvocationId: \xff\xfe",
    "a wait": b"Retry-After: Mon, 01 Jan 99999 00:00:00 GMT",
    "another wait": b"Retry-After: \xff",
    "milliseconds": b"Retry-After-Ms: 1e400",
    "a place": b"Location: http://[::1",
    "many": b"\r\n".join(b"X-Note-%d: \x80" % number for number in range(50)),
}
Answer = Callable[[Request], bytes]


def answer(request: Request) -> bytes:
    if request.line.startswith("GET"):
        return json_reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
    if "embeddings" in request.line:
        return json_reply({"object": "list", "data": [{"index": 0, "embedding": [0.5]}]})
    if request.body.get("stream"):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return head + event({"content": "A walrus."}, "stop") + DONE + END
    return chat_reply("A walrus.")


def failing(request: Request) -> bytes:
    return json_reply({"detail": "no"}, "429 No")


def with_headers(odd: bytes, made: Answer) -> Callable[[socket.socket, Request, RawServer], None]:
    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        head, _, body = made(request).partition(b"\r\n\r\n")
        if odd.startswith(b"Content-Type"):
            head = head.replace(b"Content-Type: application/json\r\n", b"")
        connection.sendall(head + b"\r\n" + odd + b"\r\n\r\n" + body)

    return handle


@pytest.mark.parametrize("surface", ALL)
@pytest.mark.parametrize("odd", ODD)
def test_an_answer_with_odd_headers_is_an_answer(odd: str, surface: str) -> None:
    """Each time anew, and once more on the same connection."""
    with raw_server(with_headers(ODD[odd], answer)) as server:
        for _ in range(2):
            found = ask(surface, server.base_url)
            assert found == "A walrus." or surface in ("embedded", "listed", "sdk_listed")
            assert not isinstance(found, bytes)


@pytest.mark.parametrize("surface", ["whole", "astreamed", "sdk_whole", "sdk_astreamed"])
@pytest.mark.parametrize("odd", ODD)
def test_a_failure_with_odd_headers_is_that_failure(odd: str, surface: str) -> None:
    """The status decides, and nothing else is raised."""
    with raw_server(with_headers(ODD[odd], failing)) as server:
        with pytest.raises((APIError, openai.APIError)) as caught:
            ask(surface, server.base_url)
        assert getattr(caught.value, "status_code", None) == 429


@pytest.mark.parametrize("name", sorted({"httpx", http_package().__name__}))
@pytest.mark.parametrize("odd", ["bytes", "a cookie", "many"])
def test_with_a_client_of_ones_own(odd: str, name: str) -> None:
    """A client that keeps cookies cannot send some of them again; that is a failure by name."""
    own = importlib.import_module(name)
    with raw_server(with_headers(ODD[odd], answer)) as server, own.Client() as http:
        client = ChutesClient(KEY, base_url=server.base_url, http_client=http, max_retries=0)
        assert client.chat(HELLO, model=MODEL).content == "A walrus."
        unsendable: Any = pytest.raises(APIError, match="cannot be encoded") if odd == "a cookie" else nullcontext()
        with unsendable:
            client.chat(HELLO, model=MODEL)


@pytest.mark.parametrize("seed", range(12))
def test_headers_of_any_bytes(seed: int) -> None:
    """Names that mean something, with values that mean nothing."""
    chance = random.Random(seed)
    names = ["X-Chutes-RL-User", "Retry-After", "Content-Type", "Set-Cookie", "X-Request-Id", "Link", "X-Should-Retry"]
    letters = [*range(0x21, 0x7F), *range(0x80, 0x100)]
    odd = b"\r\n".join(
        chance.choice(names).encode() + b": " + bytes(chance.choices(letters, k=chance.randint(0, 60)))
        for _ in range(chance.randint(1, 6))
    )
    with raw_server(with_headers(odd, answer)) as server:
        for surface in ("whole", "awhole", "sdk_whole", "sdk_streamed"):
            assert ask(surface, server.base_url) == "A walrus."
    with raw_server(with_headers(odd, failing)) as server:
        for surface in BLOCKING:
            with pytest.raises((APIError, openai.APIError)):
                ask(surface, server.base_url)
