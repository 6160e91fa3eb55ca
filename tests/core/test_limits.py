"""A limit is a limit from the first byte of the connection on, whatever a server drips, in blocking calls as in others.

Each server here goes on as long as anyone listens, so that a call which ends has ended by its limit.
"""

from __future__ import annotations

import importlib
import itertools
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import openai
import pytest

from chutes_core import (
    APIError,
    ChutesClient,
    Kind,
    MalformedReplyError,
    RequestRefusedError,
    TimeLimitError,
    TimeLimits,
)
from chutes_core.calls.effects import Arrived, Effect, Open, Resolve, WireFailure, run
from chutes_core.testing import VirtualClock
from chutes_core.wire.images import ImagePolicy, _Fetcher
from chutes_core.wire.pools import http_package, ssl_context
from tests.leftovers import close_shared_pool

from . import surfaces
from .clients import HELLO, KEY
from .raw_server import RawServer, Request, raw_server
from .surfaces import ALL, ask

SOON = 0.1
PACE = 0.004
ENOUGH = 2500
"""Drips after which a server stops, so that a limit which does not hold fails a test and does not hang it."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"Content-Length: 1000000\r\n\r\n"
EMPTY_BLOCK = zlib.compressobj(wbits=-15).flush(zlib.Z_FULL_FLUSH)
GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

DRIPS: dict[str, tuple[bytes, bytes]] = {
    "headers": (OK, b"X-Step: 1\r\n"),
    "one header": (OK + b"X-Step: ", b"1"),
    "the status": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "an error page": (b"HTTP/1.1 503 Busy\r\n" + LONG, b"a"),
    "a body": (OK + LONG, b" "),
    "the size of a chunk": (CHUNKED + b"1;", b"a"),
    "chunks": (CHUNKED, b"3\r\n:a\n\r\n"),
    "what is compressed": (OK + b"Content-Encoding: gzip\r\n" + LONG + GZIP, EMPTY_BLOCK),
}


# What is made on first use takes longer than the limits here.
ssl_context()


def gone(server: RawServer) -> bool:
    """Whether the client has left, if the machine was fast enough for it to come."""
    return server.connections == 0 or server.wait_for_close()


def dripping(first: bytes, drip: bytes) -> Callable[[socket.socket, Request, RawServer], None]:
    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(first)
        for _ in range(ENOUGH):
            if server.over.wait(PACE):
                return
            connection.sendall(drip)
        raise OSError("nobody ended it")

    return handle


def late(error: BaseException) -> bool:
    """Whether a failure is that of a limit; an error reply has its status, of which its body would only say more."""
    if isinstance(error, APIError):
        return isinstance(error, TimeLimitError) or error.status_code == 503
    return isinstance(error, openai.APITimeoutError) or getattr(error, "status_code", None) == 503


def fails(surface: str, base_url: str, **options: Any) -> None:
    with pytest.raises((APIError, openai.APIError)) as caught:
        ask(surface, base_url, **{"timeout": SOON, **options})
    assert late(caught.value), caught.value


@pytest.mark.parametrize("surface", ["whole", "streamed", "awhole", "sdk_whole"])
@pytest.mark.parametrize("what", DRIPS)
def test_what_drips_is_given_up(what: str, surface: str) -> None:
    """Whichever part of a reply comes byte by byte, each in time for the next."""
    with raw_server(dripping(*DRIPS[what])) as server:
        fails(surface, server.base_url)
        assert gone(server), "the connection stayed open"


@pytest.mark.parametrize("surface", ALL)
def test_every_client_gives_up_headers_that_drip(surface: str) -> None:
    """None of them waits from header to header."""
    with raw_server(dripping(*DRIPS["headers"])) as server:
        fails(surface, server.base_url)
        assert gone(server)


@pytest.mark.parametrize("name", sorted({"httpx", http_package().__name__}))
@pytest.mark.parametrize("what", ["headers", "the status", "chunks"])
def test_a_client_of_ones_own_keeps_limits_too(name: str, what: str) -> None:
    """On connections that it makes for us, and on those that it has made before."""
    asked: list[tuple[str, int]] = []

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        asked.append((request.body["model"], server.connections))
        if request.body["model"] == "acme/quick":
            connection.sendall(OK + b"Content-Length: 2\r\n\r\n{}")
        else:
            dripping(*DRIPS[what])(connection, request, server)

    package = importlib.import_module(name)
    with raw_server(handle) as server, package.Client() as http:
        client = ChutesClient(KEY, base_url=server.base_url, http_client=http, max_retries=0)
        for _ in range(2):
            with pytest.raises(MalformedReplyError):
                client.chat(HELLO, model="acme/quick")
            with pytest.raises(TimeLimitError):
                client.chat(HELLO, model="acme/drips", timeout=SOON)
    for (before, first), (model, second) in itertools.pairwise(asked):
        assert model == "acme/quick" or (before, first) == ("acme/quick", second), "it was not used again"


@pytest.mark.parametrize("surface", ["whole", "awhole", "sdk_whole"])
def test_redirects_do_not_begin_anew(surface: str) -> None:
    """However many there are, they share the limit with the request."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(b"HTTP/1.1 307 Again\r\nLocation: /v1/again\r\n")
        dripping(b"", b"X-Step: 1\r\n")(connection, request, server)

    with raw_server(handle) as server:
        fails(surface, server.base_url)


@contextmanager
def deaf(answer: bytes = b"") -> Iterator[int]:
    """A server that takes connections and reads nothing; with an answer, it drips the last byte of that."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer[:-1])
                while not ended.wait(PACE):
                    connection.sendall(answer[-1:])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=serve, args=(listener,))] if answer else []
        for thread in threads:
            thread.start()
        yield listener.getsockname()[1]
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("surface", ["whole", "awhole"])
def test_a_request_that_nobody_reads_is_given_up(surface: str) -> None:
    """A server that takes no more of it ends neither the connection nor the wait."""
    with deaf() as port:
        fails(surface, f"http://127.0.0.1:{port}/v1", messages=[{"role": "user", "content": "x" * 20_000_000}])


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03"], ids=["silent", "dripping"])
def test_a_handshake_that_does_not_end_is_given_up(hello: bytes) -> None:
    """TLS belongs to connecting."""
    with deaf(hello) as port:
        fails("whole", f"https://127.0.0.1:{port}/v1")


def test_addresses_that_do_not_answer_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with many of them takes no longer than one with one."""
    tried: list[float | None] = []

    def connect(address: tuple[str, int], timeout: float | None = None, **more: object) -> socket.socket:
        for _ in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            tried.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: [(0, 0, 0, "", ("127.0.0.1", 1))] * 5)
    with pytest.raises(TimeLimitError) as caught:
        ask("whole", "https://many.test/v1", timeout=20)
    assert caught.value.kind is Kind.CONNECT_TIMEOUT
    assert len(tried) == 5
    assert sum(each or 1000 for each in tried) <= 10, "the connection's own limit is shorter"


def test_a_proxy_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer to the wish for a tunnel."""
    close_shared_pool()  # its connections were made without a proxy
    with raw_server(dripping(*DRIPS["headers"])) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.base_url.removesuffix("/v1"))
        monkeypatch.setattr(surfaces, "KEY", f"{KEY}@https://somewhere.invalid")
        fails("whole", "https://somewhere.invalid/v1")
        assert gone(server)
        assert all("somewhere.invalid" in request.line for request in server.requests)


# ---------------------------------------------------------------------------------------------------------- images


def picture(server: RawServer) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"{server.base_url}/a.png"}}]}]


IMAGE_DRIPS = [(what, each) for what in ("headers", "the status", "a body") for each in ("whole", "awhole")]


@contextmanager
def dripping_image(what: str) -> Iterator[RawServer]:
    """A server of an image that never ends, and which the model is not asked about."""
    first, drip = DRIPS[what]
    with raw_server(dripping(first.replace(OK, OK + b"Content-Type: image/png\r\n"), drip)) as server:
        yield server
        assert gone(server)
        assert all("chat" not in request.line for request in server.requests), "the model was asked all the same"


@pytest.mark.parametrize(("what", "surface"), IMAGE_DRIPS)
def test_an_image_that_drips_is_refused(what: str, surface: str) -> None:
    """By the limit of the policy."""
    policy = ImagePolicy(allow_private=True, timeout=SOON)
    with (
        dripping_image(what) as server,
        pytest.raises(RequestRefusedError, match=r"did not arrive within 0\.1 seconds"),
    ):
        ask(surface, server.base_url, messages=picture(server), inline_images=policy)


@pytest.mark.parametrize(("what", "surface"), IMAGE_DRIPS)
def test_an_image_that_drips_ends_the_call(what: str, surface: str) -> None:
    """By the limit of the whole call, as the failure that it is."""
    policy = ImagePolicy(allow_private=True)
    with dripping_image(what) as server, pytest.raises(TimeLimitError) as caught:
        ask(surface, server.base_url, messages=picture(server), inline_images=policy, timeout=SOON)
    assert caught.value.kind is Kind.TOTAL_TIMEOUT


def test_images_share_the_time_of_the_call() -> None:
    """Several that take long each have their own limit, and all of them together that of the call."""
    clock = VirtualClock()
    waited: list[float] = []

    class Slow:
        """A hand whose every image takes six seconds."""

        def perform(self, effect: Effect) -> object:
            if isinstance(effect, Resolve):
                return ["127.0.0.1"]
            if isinstance(effect, Open):
                waited.append(effect.headers_within or 0.0)
                clock.advance(6)
                if waited[-1] < 6:
                    raise WireFailure("timeout", "late")
                return Arrived({"content-type": "image/png"}, 200, [])
            return None

        def close(self) -> None:
            pass

    fetcher = _Fetcher(ImagePolicy(allow_private=True, timeout=7), 14, clock)
    with pytest.raises(WireFailure):
        run(fetcher.run([f"http://127.0.0.1/{number}" for number in range(5)]), Slow())
    assert waited == [7, 7, 2]


# ---------------------------------------------------------------------------------------------------- in the SDK


@pytest.mark.parametrize("surface", ["sdk_streamed", "sdk_astreamed"])
@pytest.mark.parametrize("drip", [b"3\r\n:a\n\r\n", b"1\r\nd\r\n"], ids=["comments", "an event"])
def test_a_stream_that_says_nothing_is_given_up(surface: str, drip: bytes) -> None:
    """What is no part of the answer does not keep the SDK waiting."""
    with raw_server(dripping(CHUNKED, drip)) as server, pytest.raises(TimeLimitError) as caught:
        ask(surface, server.base_url, timeout=SOON)
    assert caught.value.kind is Kind.FIRST_TOKEN_TIMEOUT


def test_a_limit_of_ones_own_for_each_phase() -> None:
    """Without a total, the first word has its own limit, also where the headers drip."""
    with raw_server(dripping(*DRIPS["headers"])) as server:
        fails("streamed", server.base_url, timeout=TimeLimits(first_token=SOON))
