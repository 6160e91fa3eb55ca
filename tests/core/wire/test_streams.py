"""The connections of the shared pools: what goes over them, what it takes, and how they end."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chutes_core import (
    AsyncChutesClient,
    ChutesClient,
    ConnectionFailedError,
    Delta,
    ModelNotFoundError,
    StreamInterruptedError,
    TimeLimits,
)
from chutes_core.calls.effects import Open, Read
from chutes_core.testing import VirtualClock
from chutes_core.wire import streams
from chutes_core.wire.hands import AsyncWire, SyncWire
from chutes_core.wire.pools import async_pools, http_package, ssl_context
from tests.core.raw_server import DONE, END, HEAD, RawServer, Request, event, json_reply, piece, raw_server, reply
from tests.core.wire.certificate import made

MESSAGES: Any = [{"role": "user", "content": "Hello"}]
MODEL = "acme/one"
WORDS = [f"word{number} " for number in range(40)]
MODES = ["blocking", "waiting"]


def streamed(url: str, mode: str, heard: threading.Event | None = None, **options: Any) -> str:
    """The text of one streamed answer; ``heard`` is set by each part of it."""
    options, read = {"max_retries": 0, **options}, []

    def take(delta: Delta) -> None:
        read.append(delta.content)
        if heard is not None:
            heard.set()

    async def main() -> None:
        async with AsyncChutesClient("cpk_test", base_url=url, **options) as client:
            async for delta in client.stream(MESSAGES, model=MODEL):
                take(delta)

    if mode == "blocking":
        with ChutesClient("cpk_test", base_url=url, **options) as client:
            for delta in client.stream(MESSAGES, model=MODEL):
                take(delta)
    else:
        asyncio.run(main())
    return "".join(read)


def word_by_word(connection: socket.socket, request: Request, server: RawServer) -> None:
    """Send every word of a stream in a write of its own, and its end."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HEAD)
    for word in WORDS:
        connection.sendall(event({"content": word}))
    connection.sendall(event({}, "stop") + DONE + END)


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_is_read_from_the_connection_itself(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's parser sees the headers and the end; it would be most of what a chunk costs."""
    seen: list[bytes] = []
    kind: Any = streams.Stream if mode == "blocking" else streams.AsyncStream
    read = kind.read

    def noting(self: Any, max_bytes: int, timeout: float | None = None) -> bytes:
        seen.append(block := read(self, max_bytes, timeout))
        return block

    async def anoting(self: Any, max_bytes: int, timeout: float | None = None) -> bytes:
        seen.append(block := await read(self, max_bytes, timeout))
        return block

    monkeypatch.setattr(kind, "read", noting if mode == "blocking" else anoting)
    with raw_server(word_by_word) as server:
        assert streamed(server.base_url, mode) == "".join(WORDS)
    assert seen == [HEAD, b"0\r\n\r\n"]


async def test_a_stream_has_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is moved by arithmetic: the number of chunks is not the number of timers, tasks or scopes."""
    loop = asyncio.get_running_loop()
    made: list[str] = []
    for name in ("call_at", "create_task"):
        before = getattr(loop, name)

        def noting(*args: Any, _before: Any = before, _name: str = name, **options: Any) -> Any:
            made.append(_name)
            return _before(*args, **options)

        monkeypatch.setattr(loop, name, noting)
    with raw_server(word_by_word) as server:
        async with AsyncChutesClient("cpk_test", base_url=server.base_url) as client:
            text = [delta.content async for delta in client.stream(MESSAGES, model=MODEL)]
    assert "".join(text) == "".join(WORDS)
    assert len(made) < len(WORDS) / 4, made


@pytest.mark.parametrize("mode", MODES)
def test_a_request_is_one_write(mode: str) -> None:
    """Headers and body go together: a packet less, and no waiting for the other side's acknowledgement."""
    listener = socket.create_server(("127.0.0.1", 0))
    first: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            first.append(connection.recv(65536))
            connection.sendall(HEAD + event({"content": "Hi"}) + event({}, "stop") + DONE + END)
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert streamed(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", mode) == "Hi"
    finally:
        thread.join()
        listener.close()
    assert b'"messages"' in first[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("breaks", ["closed", "reset", "no size"])
def test_a_body_that_breaks_off(mode: str, breaks: str) -> None:
    """It is the error that it would be if the package had read it, with what has come; the next call connects anew."""
    heard = threading.Event()

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(HEAD + event({"content": "Hello "}))
        if breaks == "no size":
            connection.sendall(b"what?\r\n")
        elif breaks == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            heard.wait(60)  # what was not read when a connection is reset is lost
            heard.clear()
            os.close(connection.detach())
            return
        connection.shutdown(socket.SHUT_RDWR)

    with raw_server(handle) as server:
        for number in (1, 2):
            with pytest.raises(StreamInterruptedError) as caught:
                streamed(server.base_url, mode, timeout=TimeLimits(gap=30), heard=heard)
            assert (caught.value.partial, server.connections) == ("Hello ", number)


@pytest.mark.parametrize("mode", MODES)
def test_nobody_there(mode: str) -> None:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailedError):
        streamed(f"http://127.0.0.1:{port}/v1", mode)


async def test_who_reads_slowly_holds_up_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a reader is bounded, whatever the other side sends."""
    monkeypatch.setattr(streams, "_HIGH", 10_000)
    most = [0]
    put = streams.Inbox.put

    def noting(self: Any, data: bytes) -> int:
        waits = put(self, data)
        most[0] = max(most[0], waits)
        return waits

    monkeypatch.setattr(streams.Inbox, "put", noting)
    text = "x" * 3_000_000

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        parts = [text[start : start + 5000] for start in range(0, len(text), 5000)]
        connection.sendall(HEAD + b"".join(event({"content": part}) for part in parts))
        connection.sendall(event({}, "stop") + DONE + END)

    with raw_server(handle) as server:
        async with AsyncChutesClient("cpk_test", base_url=server.base_url) as client:
            stream = client.stream(MESSAGES, model=MODEL)
            read = [(await anext(stream)).content]
            for _ in range(100):
                await asyncio.sleep(0)  # in which all of it would come
            read += [delta.content async for delta in stream]
    assert "".join(read) == text
    assert most[0] <= 10_000 + 512 * 1024


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    return made(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Let the process trust the certificate, as the variable of the environment does, or not."""
    from chutes_core.wire import pools

    def trust(yes: bool) -> None:
        if yes:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        ssl_context.cache_clear()
        monkeypatch.setattr(pools._Shared, "sync", pools.SyncPools())
        monkeypatch.setattr(pools._Shared, "by_loop", pools.AsyncPools())

    yield trust
    ssl_context.cache_clear()


def tls_server(certificate: Path, handler: Callable[[socket.socket], None]) -> tuple[threading.Thread, socket.socket]:
    """Serve one connection over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as connection:
                handler(connection)
        except OSError:
            plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread, listener


@pytest.mark.parametrize("mode", MODES)
def test_over_tls(mode: str, certificate: Path, trusted: Callable[[bool], None]) -> None:
    """With a certificate that the environment trusts; two streams over one connection."""
    trusted(True)

    def handle(connection: socket.socket) -> None:
        for _ in range(2):
            connection.recv(65536)
            connection.sendall(HEAD)
            for word in WORDS:
                connection.sendall(event({"content": word}))
            connection.sendall(event({}, "stop") + DONE + END)
        connection.recv(1)

    thread, listener = tls_server(certificate, handle)
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        if mode == "blocking":
            with ChutesClient("cpk_test", base_url=url) as client:
                for _ in range(2):
                    text = "".join(delta.content for delta in client.stream(MESSAGES, model=MODEL))
                    assert text == "".join(WORDS)
        else:

            async def main() -> None:
                async with AsyncChutesClient("cpk_test", base_url=url) as client:
                    for _ in range(2):
                        text = [delta.content async for delta in client.stream(MESSAGES, model=MODEL)]
                        assert "".join(text) == "".join(WORDS)

            asyncio.run(main())
    finally:
        thread.join()
        listener.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_certificate_that_nobody_knows(mode: str, certificate: Path, trusted: Callable[[bool], None]) -> None:
    """It is refused, before a byte of the request is sent."""
    trusted(False)
    heard: list[bytes] = []
    thread, listener = tls_server(certificate, lambda connection: heard.append(connection.recv(10)))
    try:
        with pytest.raises(ConnectionFailedError, match=r"(?i)certificate"):
            streamed(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", mode)
    finally:
        thread.join()
        listener.close()
    assert heard == []


class Plain(asyncio.SelectorEventLoop):
    """A loop that tries the addresses of a host one after the other, as uvloop does."""

    async def create_connection(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        if "happy_eyeballs_delay" in options:
            raise TypeError("create_connection() got an unexpected keyword argument 'happy_eyeballs_delay'")
        return await super().create_connection(*args, **options)


def test_a_loop_without_happy_eyeballs() -> None:
    """A dead address of a host takes its share of the time, and the next one is tried."""
    with raw_server(word_by_word) as server, asyncio.Runner(loop_factory=Plain) as runner:
        port = int(server.base_url.rpartition(":")[2].partition("/")[0])
        loop = runner.get_loop()
        before = loop.getaddrinfo

        async def two(host: Any, *args: Any, **options: Any) -> Any:
            if host != "two.test":
                return await before(host, *args, **options)
            dead = ("127.0.0.1", closed)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", each) for each in (dead, ("127.0.0.1", port))]

        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = listener.getsockname()[1]
        loop.getaddrinfo = two  # type: ignore[method-assign, assignment]

        async def main() -> str:
            url = f"http://two.test:{port}/v1"
            async with AsyncChutesClient(f"cpk_test@http://two.test:{port}", base_url=url) as client:
                return "".join([delta.content async for delta in client.stream(MESSAGES, model=MODEL)])

        assert runner.run(main()) == "".join(WORDS)


def test_whole_replies_on_the_same_connection() -> None:
    """A stream, an error page and a whole reply, in turn: each leaves the connection ready for the next."""
    refused = json_reply({"detail": "no"}, "404 Not Found")
    answers = [HEAD + event({"content": "Hi"}) + event({}, "stop") + DONE + END, refused, reply("Hello")]

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(answers[(len(server.requests) - 1) % len(answers)])

    with raw_server(handle) as server, ChutesClient("cpk_test", base_url=server.base_url, max_retries=0) as client:
        for _ in range(2):
            assert "".join(delta.content for delta in client.stream(MESSAGES, model=MODEL)) == "Hi"
            with pytest.raises(ModelNotFoundError):
                client.chat(MESSAGES, model=MODEL)
            assert client.chat(MESSAGES, model=MODEL).content == "Hello"
        assert server.connections == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
@pytest.mark.parametrize("form", ["of a known length", "in chunks", "compressed in chunks"])
def test_what_follows_a_reply_is_no_reply_to_the_next_request(form: str, status: str, mode: str) -> None:
    """A connection on which more came than was asked for is not used again."""
    body = {"id": "c1", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "detail": "no"}
    whole = json_reply(body, status)
    if form != "of a known length":
        head, _, data = whole.partition(b"\r\n\r\n")
        head = head.rpartition(b"\r\n")[0] + b"\r\nTransfer-Encoding: chunked\r\n"
        if form.startswith("compressed"):
            head, data = head + b"Content-Encoding: gzip\r\n", gzip.compress(data)
        whole = head + b"\r\n" + piece(data[:9]) + piece(data[9:]) + END

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(whole + reply("Poison") if len(server.requests) == 1 else reply("Hello"))

    async def main() -> None:
        async with AsyncChutesClient("cpk_test", base_url=server.base_url, max_retries=0) as client:
            with suppress(ModelNotFoundError):
                assert (await client.chat(MESSAGES, model=MODEL)).content == "Hello"
            assert (await client.chat(MESSAGES, model=MODEL)).content == "Hello"

    with raw_server(handle) as server:
        if mode == "waiting":
            asyncio.run(main())
        else:
            with ChutesClient("cpk_test", base_url=server.base_url, max_retries=0) as client:
                with suppress(ModelNotFoundError):
                    assert client.chat(MESSAGES, model=MODEL).content == "Hello"
                assert client.chat(MESSAGES, model=MODEL).content == "Hello"
        assert server.connections == 2


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_cancelled_while_closing_leaves_nothing_in_the_pool(steps: int) -> None:
    """A request that stayed there would hold its messages and its key for as long as the pool lives."""
    if http_package().__name__ == "httpx":
        pytest.skip("the package below it waits while it closes a connection, and can be cancelled there")

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(HEAD + event({"content": "Hello"}))
        server.over.wait(60)

    with raw_server(handle) as server:
        async with AsyncChutesClient("cpk_test", base_url=server.base_url) as client:
            begun = asyncio.Event()

            async def read() -> None:
                async with client.stream(MESSAGES, model=MODEL) as stream:
                    async for _ in stream:
                        begun.set()

            task = asyncio.ensure_future(read())
            await begun.wait()
            task.cancel()
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            pool: Any = await async_pools().get(client)
            assert [repr(each).partition("|")[0] for each in pool._lanes.all()] == [
                "<AsyncConnectionPool [Requests: 0 active, 0 queued "
            ]


def test_who_is_cancelled_at_any_step_leaves_no_connection_in_the_pool() -> None:
    """A few that stayed, neither used nor idle, and no request would find a place there any more."""
    with raw_server(word_by_word) as server, asyncio.Runner(loop_factory=Plain) as runner:
        loop, port = runner.get_loop(), int(server.base_url.rpartition(":")[2].partition("/")[0])

        async def at_once(host: Any, *args: Any, **options: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        loop.getaddrinfo = at_once  # type: ignore[method-assign, assignment]

        async def main() -> None:
            async with AsyncChutesClient("cpk_test", base_url=server.base_url) as client:

                async def read() -> str:
                    return "".join([delta.content async for delta in client.stream(MESSAGES, model=MODEL)])

                for steps in range(40):
                    task = asyncio.ensure_future(read())
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                assert await asyncio.gather(*(read() for _ in range(4))) == ["".join(WORDS)] * 4
                pool: Any = await async_pools().get(client)
                (lane,) = pool._lanes.all()
                assert "Connections: 0 active" in repr(lane)
                await lane.aclose()

        runner.run(main())


async def test_the_end_of_a_body_has_what_is_left_of_the_limit() -> None:
    """Contents and end are one read: who sends the last chunk late, and its trailers late again, gains nothing."""
    clock = VirtualClock()

    async def nobody(effect: Open) -> object:
        raise AssertionError(effect)

    blocking = SyncWire(lambda effect: None, clock=clock)
    waiting = AsyncWire(nobody, clock=clock)

    def contents(within: float | None) -> bytes:
        clock.advance(3)
        return b""

    async def acontents(within: float | None) -> bytes:
        return contents(within)

    async def nothing() -> AsyncIterator[bytes]:
        for each in ():
            yield each

    blocking._contents, waiting._contents, waiting._blocks = contents, acontents, nothing()
    assert blocking.perform(Read(5.0)) is None
    assert await waiting.perform(Read(5.0)) is None
    assert [blocking._limits["wait"], waiting._limits["wait"]] == [2.0, 2.0]
