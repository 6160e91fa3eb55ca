"""The clients on real sockets: connections, time limits, event loops, and what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import pickle
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from chutes_core import (
    APIError,
    AsyncChutesClient,
    AuthenticationError,
    ChutesClient,
    ChutesWarning,
    ColdModelError,
    ConfigurationError,
    ConnectionFailedError,
    Kind,
    Ledger,
    MissingKeyError,
    ModelNotFoundError,
    RequestRefusedError,
    StreamInterruptedError,
    TimeLimitError,
    TimeLimits,
)
from chutes_core.calls.clock import SystemClock
from chutes_core.testing import Answer
from chutes_core.wire import pools as pools_module
from tests.ports import free_port

from .clients import HELLO, MODEL, MODES, call, scripted
from .raw_server import DONE, END, HEAD, RawServer, Request, event, json_reply, piece, raw_server, reply

KEY = "cpk_" + "0123456789abcdef" * 2 + ".0.0"


def answering(*steps: bytes | Callable[[RawServer], object]) -> Any:
    """A handler that writes bytes and, in between, does what it is told."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        for step in steps:
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                step(server)

    return handle


def hang_up(server: RawServer) -> None:
    raise OSError


def until_over(server: RawServer) -> None:
    server.over.wait(120)


STREAM = (HEAD, event({"content": "Hel"}), event({"content": "lo"}, "stop"), DONE, END)


def ask(server: RawServer, **options: Any) -> Any:
    """A blocking client of a server."""
    return ChutesClient(KEY, base_url=server.base_url, max_retries=0, **options)


# --- connections -------------------------------------------------------------------------------------


def test_calls_and_streams_share_one_connection() -> None:
    """Whole replies and streams that were read to their end give the connection back for the next."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(b"".join(STREAM) if request.body["stream"] else reply("Hello"))

    with raw_server(handle) as server, ask(server) as client:
        for _ in range(3):
            assert client.chat(HELLO, model=MODEL).content == "Hello"
            with client.stream(HELLO, model=MODEL) as stream:
                assert "".join(delta.content for delta in stream) == "Hello"
            assert stream.reply.content == "Hello"
        assert (server.connections, len(server.requests)) == (1, 6)


def dripping(connection: socket.socket, request: Request, server: RawServer) -> None:
    """A refusal that says what it is at once, and then never comes to its end."""
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100000\r\n\r\n")
    with contextlib.suppress(OSError):
        while not server.over.wait(0.02):
            connection.sendall(b"x")


@pytest.mark.parametrize("limits", [TimeLimits(total=0.2), TimeLimits(first_token=0.2)])
async def test_a_refusal_that_drips_is_held_to_the_limit(limits: TimeLimits) -> None:
    """Its status says enough; the rest is read as far as it comes in time."""
    with raw_server(dripping) as server, ask(server, timeout=limits) as client:
        waiting = AsyncChutesClient(KEY, base_url=server.base_url, max_retries=0, timeout=limits)
        with pytest.raises(APIError) as caught:
            next(client.stream(HELLO, model=MODEL))
        with pytest.raises(APIError) as other:
            await anext(waiting.stream(HELLO, model=MODEL))
        assert (caught.value.status_code, other.value.status_code) == (503, 503)
        assert server.wait_for_close()
        await waiting.aclose()


def test_no_more_of_a_refusal_is_read_than_it_can_have() -> None:
    """One that does not end fills no memory."""

    def endless(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000000\r\n\r\n")
        with contextlib.suppress(OSError):
            while not server.over.is_set():
                connection.sendall(b"x" * 65536)

    with raw_server(endless) as server, ask(server) as client, pytest.raises(APIError) as caught:
        client.chat(HELLO, model=MODEL)
    assert caught.value.status_code == 500


@pytest.mark.parametrize("leave", ["close", "with", "drop"])
def test_leaving_a_stream_closes_its_connection(leave: str) -> None:
    """Closing, leaving or dropping a stream in the middle ends the request: the service stops generating."""
    with raw_server(answering(HEAD, event({"content": "Hel"}), until_over)) as server, ask(server) as client:
        stream = client.stream(HELLO, model=MODEL)
        assert next(stream).content == "Hel"
        assert stream.reply.content == "Hel"
        if leave == "close":
            stream.close()
        elif leave == "with":
            with stream:
                pass
        else:
            del stream
            gc.collect()
        server.over.set()
        assert server.wait_for_close()


@pytest.mark.parametrize("leave", ["close", "with", "drop", "cancel"])
async def test_leaving_an_async_stream_closes_its_connection(leave: str) -> None:
    """The same on the event loop, and for a task that is cancelled while it waits."""
    with raw_server(answering(HEAD, event({"content": "Hel"}), until_over)) as server:
        client = AsyncChutesClient(KEY, base_url=server.base_url)
        stream = client.stream(HELLO, model=MODEL)
        assert (await anext(stream)).content == "Hel"
        if leave == "close":
            await stream.aclose()
        elif leave == "with":
            async with stream:
                pass
        elif leave == "cancel":
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            del stream
            gc.collect()
            await asyncio.sleep(0)
        server.over.set()
        assert await asyncio.to_thread(server.wait_for_close)
        await client.aclose()


def test_one_async_client_serves_several_event_loops() -> None:
    """The same object works in one asyncio.run after the other, and leaves no connection behind."""
    with raw_server(answering(reply("Hello"))) as server:
        client = AsyncChutesClient(KEY, base_url=server.base_url)

        async def once() -> str:
            return (await client.chat(HELLO, model=MODEL)).content

        assert [asyncio.run(once()) for _ in range(3)] == ["Hello"] * 3
        assert server.connections == 3
        assert all(server.wait_for_close() for _ in range(3))


async def test_async_calls_share_the_connections_of_their_loop() -> None:
    """Calls one after the other, of two clients too, use one connection."""
    with raw_server(answering(reply("Hello"))) as server:
        async with AsyncChutesClient(KEY, base_url=server.base_url) as one:
            async with AsyncChutesClient(KEY, base_url=server.base_url) as two:
                for client in (one, two, one):
                    await client.chat(HELLO, model=MODEL)
            await one.chat(HELLO, model=MODEL)
        assert server.connections == 1
        assert await asyncio.to_thread(server.wait_for_close)


def test_threads_share_a_client() -> None:
    """Many threads may use one client at once; each gets its own answer."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(reply(request.body["messages"][0]["content"]))

    with raw_server(handle) as server, ask(server) as client, ThreadPoolExecutor(8) as threads:
        texts = [f"text {number}" for number in range(32)]
        messages = [[{"role": "user", "content": each}] for each in texts]
        replies = list(threads.map(lambda each: client.chat(each, model=MODEL).content, messages))
    assert replies == texts


def test_closing_closes_the_pool_with_its_last_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that two clients share is closed with the second of them; a closed client says so."""
    monkeypatch.setattr(pools_module._Shared, "sync", pools_module.SyncPools())  # no test before this one uses it
    with raw_server(answering(reply("Hello"))) as server:
        one, two = ask(server), ask(server)
        one.chat(HELLO, model=MODEL)
        two.chat(HELLO, model=MODEL)
        one.close()
        one.close()
        assert two.chat(HELLO, model=MODEL).content == "Hello"
        two.close()
        assert server.wait_for_close()
        with pytest.raises(ConfigurationError, match="closed"):
            one.chat(HELLO, model=MODEL)


def test_a_child_process_begins_with_pools_of_its_own() -> None:
    """After a fork the parent's connections are left alone."""
    before = (pools_module.sync_pools(), pools_module.async_pools())
    pools_module._forget_after_fork()
    assert pools_module.sync_pools() is not before[0]
    assert pools_module.async_pools() is not before[1]


# --- time limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_silent_server_meets_the_limit(stream: bool) -> None:
    """Without headers, a stream fails on its first-token limit, a whole call on its total."""
    limits = TimeLimits(first_token=0.05) if stream else TimeLimits(total=0.05)
    with raw_server(answering(until_over)) as server, ask(server, timeout=limits) as client:
        with pytest.raises(TimeLimitError) as caught:
            next(client.stream(HELLO, model=MODEL)) if stream else client.chat(HELLO, model=MODEL)
        assert caught.value.kind is (Kind.FIRST_TOKEN_TIMEOUT if stream else Kind.TOTAL_TIMEOUT)
        assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize(
    ("steps", "limits", "kind"),
    [
        ((HEAD, until_over), TimeLimits(first_token=0.05), Kind.FIRST_TOKEN_TIMEOUT),
        ((HEAD, event({"role": "assistant"}), until_over), TimeLimits(first_token=0.05), Kind.FIRST_TOKEN_TIMEOUT),
        ((HEAD, event({"content": "Hel"}), until_over), TimeLimits(gap=0.05), Kind.STALL),
        ((HEAD, event({"content": "Hel"}), until_over), TimeLimits(total=0.05), Kind.TOTAL_TIMEOUT),
        (
            (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", until_over),
            TimeLimits(first_token=0.05),
            Kind.FIRST_TOKEN_TIMEOUT,
        ),
    ],
)
async def test_a_stream_that_goes_quiet_meets_its_limit(steps: Any, limits: TimeLimits, kind: Kind) -> None:
    """Each limit ends a blocking read on a real socket, and an async one, under its own name."""
    with raw_server(answering(*steps)) as server:
        async with AsyncChutesClient(KEY, base_url=server.base_url, timeout=limits, max_retries=0) as client:
            with pytest.raises(TimeLimitError) as caught:
                async for _ in client.stream(HELLO, model=MODEL):
                    pass
            assert caught.value.kind is kind

        def blocking() -> None:
            with ask(server, timeout=limits) as client, pytest.raises(TimeLimitError) as caught:
                list(client.stream(HELLO, model=MODEL))
            assert caught.value.kind is kind

        await asyncio.to_thread(blocking)


def test_bytes_that_add_nothing_are_no_life() -> None:
    """A server that only sends comments and empty deltas meets the first-token limit all the same."""

    def drip(server: RawServer) -> None:
        server.over.wait(0.01)

    drips = [step for _ in range(200) for step in (piece(b": ping\n\n"), drip)]
    with raw_server(answering(HEAD, *drips)) as server:
        with ask(server, timeout=TimeLimits(first_token=0.1)) as client, pytest.raises(TimeLimitError) as caught:
            list(client.stream(HELLO, model=MODEL))
        assert caught.value.kind is Kind.FIRST_TOKEN_TIMEOUT


class Leaping(SystemClock):
    """The time of a client and its event loop, which a test can move on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        self.loop = asyncio.get_running_loop()
        monkeypatch.setattr(self.loop, "time", self.now)

    def now(self) -> float:
        return super().now() + self.ahead

    def leap(self, seconds: float) -> None:
        self.ahead += seconds
        self.loop.call_soon_threadsafe(lambda: None)  # look at the time again


async def test_a_gap_may_be_longer_than_the_wait_for_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for the first token ends with the first token, blocking and async."""
    time, arrived = Leaping(monkeypatch), threading.Semaphore(0)

    def pause(server: RawServer) -> None:
        arrived.acquire(timeout=60)
        time.leap(200)

    limits = TimeLimits(first_token=100, gap=1000, total=None)
    steps = (HEAD, event({"content": "Hel"}), pause, event({"content": "lo"}, "stop"), DONE, END)
    with raw_server(answering(*steps)) as server:

        def blocking() -> str:
            said = ""
            with ask(server, timeout=limits, clock=time) as client:
                for delta in client.stream(HELLO, model=MODEL):
                    said += delta.content
                    arrived.release()
            return said

        assert await asyncio.to_thread(blocking) == "Hello"
        arrived = threading.Semaphore(0)
        said = ""
        async with AsyncChutesClient(KEY, base_url=server.base_url, timeout=limits, clock=time) as client:
            async for delta in client.stream(HELLO, model=MODEL):
                said += delta.content
                arrived.release()
        assert said == "Hello"


def test_a_slow_reader_is_not_a_slow_model() -> None:
    """The time that the caller takes between deltas does not count as a gap."""
    outcome = scripted([Answer("one two three", pieces=3)], timeout=TimeLimits(gap=10))
    for _ in outcome.client.stream(HELLO, model=MODEL):
        outcome.clock.advance(60)


@pytest.mark.parametrize("mode", MODES)
def test_the_whole_call_keeps_to_its_total(mode: str) -> None:
    """Retries and their waits count: where the next wait would pass the total, the failure is reported."""
    outcome = call(mode, ["capacity"] * 9, timeout=TimeLimits(total=10), max_retries=8)
    assert isinstance(outcome.error, APIError)
    assert outcome.clock.now() <= 10
    assert 1 < outcome.attempts < 9


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_a_stream_that_goes_on_for_ever_meets_the_total(mode: str) -> None:
    """Deltas that keep coming do not carry a stream past the limit for the whole call."""
    outcome = call(mode, ["slow_drip:1"], timeout=TimeLimits(total=30))
    assert isinstance(outcome.error, TimeLimitError)
    assert outcome.error.kind is Kind.TOTAL_TIMEOUT
    assert outcome.clock.now() == 30


@pytest.mark.parametrize("mode", MODES)
def test_limits_are_given_per_call_too(mode: str) -> None:
    """A call's own timeout goes before the client's."""
    outcome = call(mode, ["hang"], timeout=1000, params={"timeout": 3}, max_retries=0)
    assert isinstance(outcome.error, TimeLimitError)
    assert outcome.clock.now() == 3


@pytest.mark.parametrize("mode", MODES)
def test_retry_after_is_kept_and_bounded(mode: str) -> None:
    """A short Retry-After is waited for; a long one is reported, with its seconds on the error."""
    outcome = call(mode, ["retry_after:7", Answer("Hi")])
    assert outcome.reply is not None
    assert 7 <= outcome.clock.sleeps[0] <= 7.7
    outcome = call(mode, ["retry_after:300", Answer("Hi")])
    assert isinstance(outcome.error, APIError)
    assert outcome.error.retry_after == 300
    assert outcome.clock.sleeps == []


# --- what is sent ------------------------------------------------------------------------------------


def test_only_our_own_headers_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What OPENAI_* variables hold goes to OpenAI's users, not to Chutes."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "secret-of-another-service")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Spy: secret-of-another-service")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/")
    with raw_server(answering(reply("Hello"))) as server, ask(server, default_headers={"X-Mine": "1"}) as client:
        client.chat(HELLO, model=MODEL)
        headers = server.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-mine"] == "1"
    assert headers["user-agent"].startswith("chutes-connect/")
    assert "secret-of-another-service" not in str(headers)
    assert not [name for name in headers if name.startswith(("openai", "x-spy"))]


def test_the_body_is_what_the_gateway_takes() -> None:
    """Unset is not sent, and a stream asks for its usage."""
    with raw_server(answering(reply("Hello"))) as server, ask(server) as client:
        client.chat(HELLO, model=MODEL, temperature=0.5, extra_body={"custom": 1})
        assert server.requests[0].line == "POST /v1/chat/completions HTTP/1.1"
        assert server.requests[0].body == {
            "model": MODEL, "messages": HELLO, "temperature": 0.5, "stream": False, "custom": 1,
        }  # fmt: skip
    outcome = call("sync-stream", [Answer("Hi")])
    assert outcome.transport.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("mode", MODES)
def test_no_key_is_refused_before_anything_is_sent(mode: str) -> None:
    """Without a key nothing goes out, and the message says how to give one."""
    outcome = call(mode, [Answer("Hi")], key=None)
    assert isinstance(outcome.error, MissingKeyError)
    assert "CHUTES_API_KEY" in str(outcome.error)
    assert outcome.attempts == 0


def test_what_is_no_json_is_refused() -> None:
    """A value that JSON does not have is refused with its reason."""
    with ChutesClient(KEY) as client, pytest.raises(RequestRefusedError, match="JSON"):
        client.chat(HELLO, model=MODEL, extra_body={"x": object()})


async def test_what_is_no_json_is_refused_async() -> None:
    """The same on the event loop."""
    async with AsyncChutesClient(KEY, base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(RequestRefusedError, match="JSON"):
            await client.chat(HELLO, model=MODEL, extra_body={"x": object()})


def test_changes_to_a_request_are_told() -> None:
    """What was taken out of a request is said in a warning."""
    schema = {"type": "object", "properties": {"zip": {"type": "string", "pattern": "[0-9]+"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    outcome = scripted([Answer("{}")])
    with pytest.warns(ChutesWarning, match="pattern"):
        outcome.client.chat(HELLO, model=MODEL, response_format=wanted)
    assert "pattern" not in str(outcome.transport.requests[0].body)


# --- keys --------------------------------------------------------------------------------------------


def test_a_key_that_was_renewed_is_tried_once_more() -> None:
    """On a 401 a key from a function is asked for again, once; the same key again is reported."""
    for keys, calls in ((["cak_old", "cak_new"], 2), (["cak_old", "cak_old"], 1)):
        given = iter(keys)
        seen: list[str] = []

        def handle(connection: socket.socket, request: Request, server: RawServer, seen: list[str] = seen) -> None:
            seen.append(request.headers["authorization"])
            fresh = seen[-1] == "Bearer cak_new"
            refusal = json_reply({"detail": "Token expired."}, "401 Unauthorized")
            connection.sendall(reply("Hello") if fresh else refusal)

        with raw_server(handle) as server, ChutesClient(given.__next__, base_url=server.base_url) as client:
            if calls == 2:
                assert client.chat(HELLO, model=MODEL).content == "Hello"
            else:
                with pytest.raises(AuthenticationError):
                    client.chat(HELLO, model=MODEL)
        assert len(seen) == calls


@pytest.mark.parametrize("stream", [False, True])
def test_no_traceback_shows_the_key(stream: bool) -> None:
    """Even with the local variables of every frame, a failing call's traceback has no key in it."""
    refusal = json_reply({"detail": f"bad key {KEY}"}, "401 Unauthorized")
    with raw_server(answering(refusal)) as server, ask(server) as client, pytest.raises(AuthenticationError) as caught:
        list(client.stream(HELLO, model=MODEL)) if stream else client.chat(HELLO, model=MODEL)
    error = caught.value
    assert error.__traceback__ is not None
    inner = error.with_traceback(error.__traceback__.tb_next)  # the frame of this test knows the key
    shown = "".join(traceback.TracebackException.from_exception(inner, capture_locals=True).format())
    assert "in chat" in shown or "__next__" in shown
    assert KEY not in shown
    assert KEY.encode() not in pickle.dumps(error)
    assert error.__context__ is None


def test_a_client_pickles_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy in another process takes the key of its own environment."""
    with raw_server(answering(reply("Hello"))) as server, ask(server) as client:
        client.chat(HELLO, model=MODEL)
        data = pickle.dumps(client)
        assert KEY.encode() not in data
        with pickle.loads(data) as other:
            with pytest.raises(MissingKeyError):
                other.chat(HELLO, model=MODEL)
            monkeypatch.setenv("CHUTES_API_KEY", "cpk_of_the_other_side")
            assert other.chat(HELLO, model=MODEL).content == "Hello"
        assert server.requests[-1].headers["authorization"] == "Bearer cpk_of_the_other_side"
        assert copy.deepcopy(client.chat(HELLO, model=MODEL)).content == "Hello"


def test_a_client_with_its_own_connections_does_not_pickle() -> None:
    """An http_client cannot travel, and the message says so."""
    with httpx.Client() as http, pytest.raises(TypeError, match="http_client"):
        pickle.dumps(ChutesClient(KEY, http_client=http))


@pytest.mark.parametrize(
    ("kind", "http_client", "message"),
    [
        (ChutesClient, object(), "httpx or httpx2"),
        (ChutesClient, httpx.AsyncClient(), "httpx.Client"),
        (AsyncChutesClient, httpx.Client(), "httpx.AsyncClient"),
    ],
)
def test_the_wrong_http_client_is_refused_at_once(kind: Any, http_client: Any, message: str) -> None:
    """A mistaken http_client is named when the client is made, not at the first call."""
    with pytest.raises(ConfigurationError, match=message):
        kind(KEY, http_client=http_client)


@pytest.mark.parametrize("retries", [-1, 1.5, True])
def test_a_senseless_number_of_retries_is_refused(retries: Any) -> None:
    """max_retries is a whole number from zero."""
    with pytest.raises(ConfigurationError, match="max_retries"):
        ChutesClient(KEY, max_retries=retries)


# --- failures of the network -------------------------------------------------------------------------


def test_a_refused_connection_is_said_plainly() -> None:
    """Nothing listening is a connection failure with the address's own words."""
    client = ChutesClient(KEY, base_url=f"http://127.0.0.1:{free_port()}/v1", max_retries=0)
    with client, pytest.raises(ConnectionFailedError, match="refused"):
        client.chat(HELLO, model=MODEL)


def test_a_real_reset_in_the_middle_is_an_interruption() -> None:
    """A TCP reset after the first words is a typed failure with those words."""

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(HEAD + event({"content": "Hel"}))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()
        raise OSError

    with raw_server(handle) as server, ask(server) as client, pytest.raises(StreamInterruptedError) as caught:
        for _ in client.stream(HELLO, model=MODEL):
            pass
    assert caught.value.kind in (Kind.RESET, Kind.CONNECT)


def test_a_reply_without_its_end_is_forgiven_when_it_was_whole() -> None:
    """After [DONE] nothing is waited for: a server that keeps the line open costs no answer."""
    steps = (HEAD, event({"content": "Hello"}, "stop"), DONE, until_over)
    with raw_server(answering(*steps)) as server, ask(server) as client:
        deltas = list(client.stream(HELLO, model=MODEL))
    assert "".join(delta.content for delta in deltas) == "Hello"


# --- the ledger --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_the_ledger_adds_up_what_every_call_used(mode: str) -> None:
    """Whole and broken answers are both in the ledger, each once, with their cost where a price is known."""
    ledger = Ledger()
    answer = Answer("one two three four", pieces=4)
    call(mode, [answer], model="Qwen/Qwen3-32B-TEE", ledger=ledger)
    call(mode, ["no_finish"], model="Qwen/Qwen3-32B-TEE", ledger=ledger, max_retries=0)
    call(mode, [answer], model="acme/unpriced", ledger=ledger)
    priced = ledger.totals("Qwen/Qwen3-32B-TEE")
    assert priced.calls == 2
    assert priced.cost > 0
    assert ledger.totals("acme/unpriced").unpriced_calls == 1
    assert ledger.totals().usage.prompt_tokens == 33


# --- the service's own pages -------------------------------------------------------------------------

PAGES: dict[str, object] = {
    "/v1/models": {"data": [{"id": "acme/new-TEE", "max_model_len": 4096, "pricing": {"prompt": 1, "completion": 2}}]},
    "/chutes/": {"items": [{"name": "acme/new-TEE", "chute_id": "c-1", "hot": True}]},
    "/chutes/utilization": [{"name": "acme/new-TEE", "utilization_current": 0.5, "active_instance_count": 3}],
    "/invocations/stats/llm": [],
    "/users/me": {"username": "alice", "user_id": "u-1", "balance": 4.5},
    "/users/me/quotas": {"*": 200},
    "/users/me/quota_usage/*": {"quota": 200, "used": 3.5},
    "/users/me/subscription_usage": {"subscription": False},
    "/users/me/usage": {"items": [{"bucket": "2026-08-22T10:00", "amount": 0.1, "count": 2}]},
}


def service(request: httpx.Request) -> httpx.Response:
    """The management host."""
    path = request.url.path
    if path not in PAGES:
        return httpx.Response(404, json={"detail": "Not Found"})
    public = path in ("/v1/models", "/chutes/", "/chutes/utilization", "/invocations/stats/llm")
    assert ("authorization" in request.headers) is not public
    return httpx.Response(200, json=PAGES[path])


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path))


def test_the_services_pages_blocking() -> None:
    """Models, load and account come as values; the public pages are asked without a key."""
    http = httpx.Client(transport=httpx.MockTransport(service))
    client = ChutesClient(KEY, http_client=http)
    client.refresh_catalog()
    assert client.catalog.model("acme/new-TEE").price_out == 2
    assert "acme/new-TEE" in client.catalog
    assert [each.current for each in client.utilization()] == [0.5]
    assert client.stats("2026-08-01") == []
    account = client.account
    assert account.me().balance == 4.5
    assert account.quotas()[0].requests == 200
    assert account.quota_usage().remaining == 196.5
    assert account.subscription().active is False
    assert account.usage()[0].count == 2


def test_a_page_that_is_not_there_is_looked_for_at_the_management_host() -> None:
    """What a chat would be asked at does not matter: a gateway of one's own may have neither account nor warm-up."""
    http = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(404, json={"detail": "Not Found"})))
    client = ChutesClient(KEY, http_client=http, base_url="http://127.0.0.1:9/v1")
    for ask in (client.account.me, lambda: list(client.warm_up("acme/one")), client.utilization):
        with pytest.raises(ModelNotFoundError, match="Check the management URL") as caught:
            ask()
        assert "base URL" not in str(caught.value)
    with pytest.raises(ModelNotFoundError, match="Check the base URL"):
        client.models()


async def test_the_services_pages_async() -> None:
    """The same on the event loop."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    client = AsyncChutesClient(KEY, http_client=http)
    await client.refresh_catalog()
    assert client.catalog.model("acme/new-TEE").price_out == 2
    assert [each.current for each in await client.utilization()] == [0.5]
    assert await client.stats("2026-08-01") == []
    account = client.account
    assert (await account.me()).username == "alice"
    assert (await account.quotas())[0].requests == 200
    assert (await account.quota_usage()).used == 3.5
    assert (await account.subscription()).active is False
    assert (await account.usage())[0].amount == 0.1


def _chute(number: int) -> dict[str, object]:
    user, slug = {"username": "alice"}, f"alice-{number}"
    return {"chute_id": str(number), "name": slug, "slug": slug, "user": user, "cord_ref_id": "r", "hot": True}


@pytest.mark.parametrize("wanted", [2, 500])
async def test_a_refresh_reads_every_page_of_the_chutes(wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages are fetched, however few chutes the service puts on one; each has its kind by what it publishes."""
    monkeypatch.setattr("chutes_core.account.CHUTES_PER_PAGE", wanted)
    chutes, asked = [_chute(number) for number in range(5)], list[str]()

    def listing(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/chutes/":
            return service(request)
        assert "authorization" not in request.headers
        page = int(request.url.params["page"])
        asked.append(request.url.params["page"])
        items = chutes[2 * page : 2 * page + 2]
        refs = {"r": [{"public_api_path": "/speak", "output_content_type": "audio/wav"}]}
        return httpx.Response(200, json={"total": 5, "items": items, "cord_refs": refs})

    client = ChutesClient(KEY, http_client=httpx.Client(transport=httpx.MockTransport(listing)))
    client.refresh_catalog()
    assert [info.id for info in client.catalog.select(kind="speech", hot=True)] == [row["name"] for row in chutes]
    assert client.catalog.select(kind="embedding") == []  # the list is whole, and has none
    other = AsyncChutesClient(KEY, http_client=httpx.AsyncClient(transport=httpx.MockTransport(listing)))
    await other.refresh_catalog()
    assert other.catalog.models == client.catalog.models
    assert asked == ["0", "1", "2"] * 2


async def test_pages_on_a_real_socket_without_a_client_of_ones_own() -> None:
    """The management host is reached with a connection of its own; what is no page is a typed failure."""
    with raw_server(answering(json_reply({"no": "list"}))) as server:
        options = {"base_url": server.base_url, "management_url": server.base_url, "max_retries": 0}
        async with AsyncChutesClient(**options) as client:
            with pytest.raises(APIError, match="/models: a list was expected"):
                await client.models()
        with ChutesClient(**options) as blocking, pytest.raises(APIError, match="/models: a list was expected"):
            await asyncio.to_thread(blocking.models)


def _warm(*events: bytes) -> bytes:
    body = b"".join(b"data: " + each + b"\n\n" for each in events)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_warming_up_follows_the_events() -> None:
    """The service's words come one by one, until the model is hot; what follows is not waited for."""
    steps = _warm(b'{"status": "cold", "log": "waiting"}', b"nonsense", b'{"status": "hot", "log": "ready"}')
    with raw_server(answering(steps)) as server:
        with ChutesClient(KEY, management_url=server.base_url) as client:
            seen = await asyncio.to_thread(lambda: list(client.warm_up("Qwen/Qwen3-32B-TEE")))
        assert [(each.status, each.hot) for each in seen] == [("cold", False), ("unknown", False), ("hot", True)]
        assert server.requests[0].line.startswith("GET /v1/chutes/warmup/ac059e33-")
        async with AsyncChutesClient(KEY, management_url=server.base_url) as waiting:
            assert [each.log async for each in waiting.warm_up("acme/unlisted")] == ["waiting", "", "ready"]
        assert server.requests[1].line.startswith("GET /v1/chutes/warmup/acme/unlisted ")
        with ChutesClient(KEY, base_url=server.base_url, management_url=server.base_url) as elsewhere:
            await asyncio.to_thread(lambda: list(elsewhere.warm_up("Qwen/Qwen3-32B-TEE")))
        assert server.requests[2].line.startswith(
            "GET /v1/chutes/warmup/Qwen/Qwen3-32B-TEE "
        )  # not the service's chute


def test_a_model_that_stays_cold_is_an_error() -> None:
    """When the service stops waiting, that is a failure with the model's name."""
    with raw_server(answering(_warm(b'{"status": "cold"}'))) as server:
        client = ChutesClient(KEY, management_url=server.base_url)
        with client, pytest.raises(ColdModelError, match="acme/one"):
            list(client.warm_up(MODEL))


@pytest.mark.parametrize(
    ("steps", "limit", "kind"),
    [
        ((json_reply({"detail": "Account balance is $0.0"}, "402 Payment Required"),), 60, Kind.PAYMENT),
        ((HEAD, until_over), 0.2, Kind.TOTAL_TIMEOUT),
        (
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: x\n\n",
                hang_up,
            ),
            60,
            Kind.RESET,
        ),
    ],
)
def test_a_warm_up_that_fails_says_how(steps: Any, limit: float, kind: Kind) -> None:
    """Refusals, silence and broken connections of a warm-up are typed too."""
    with raw_server(answering(*steps)) as server:
        with ChutesClient(KEY, management_url=server.base_url) as client, pytest.raises(APIError) as caught:
            list(client.warm_up(MODEL, timeout=limit))
        assert caught.value.kind is kind


def test_images_are_inlined_on_request() -> None:
    """With inline_images the request carries the image itself."""
    pixel = b"\x89PNG\r\n"

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        if request.line.startswith("GET"):
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: {len(pixel)}\r\n\r\n"
            connection.sendall(head.encode() + pixel)
        else:
            connection.sendall(reply("A pixel."))

    from chutes_core import ImagePolicy

    with raw_server(handle) as server, ask(server, inline_images=ImagePolicy(allow_private=True)) as client:
        url = server.base_url.replace("/v1", "/pixel.png")
        messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
        client.chat(messages, model=MODEL)
        with pytest.raises(APIError):  # the reply is no stream
            list(client.stream(messages, model=MODEL))

        async def waiting() -> None:
            options = {"base_url": server.base_url, "inline_images": ImagePolicy(allow_private=True), "max_retries": 0}
            async with AsyncChutesClient(KEY, **options) as other:
                await other.chat(messages, model=MODEL)
                with pytest.raises(APIError):
                    await anext(other.stream(messages, model=MODEL))

        asyncio.run(waiting())
        posts = [request for request in server.requests if request.line.startswith("POST")]
        assert len(posts) == 4
        for post in posts:
            sent = post.body["messages"][0]["content"][0]["image_url"]["url"]
            assert sent == "data:image/png;base64,iVBORw0K"
        assert messages[0]["content"][0]["image_url"]["url"] == url  # type: ignore[index]


def test_the_repr_shows_where_and_not_the_key() -> None:
    """A client's repr names its host and masks its key."""
    shown = "ChutesClient(base_url='https://llm.chutes.ai/v1', api_key=Credential('cpk_****'))"
    assert repr(ChutesClient(KEY)) == shown
