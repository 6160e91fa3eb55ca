"""Tests for chutes_core.calls.traced."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chutes_core import (
    APIError,
    AsyncChutesClient,
    Catalog,
    ChutesClient,
    FallbackClient,
    Kind,
    Reply,
    RequestRefusedError,
    hooks,
)
from chutes_core.testing.clock import VirtualClock

MODEL = "Qwen/Qwen3-32B-TEE"
ASK: Any = {"messages": [{"role": "user", "content": "Hi"}], "model": MODEL}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "x-chutes-rl-user": "60"}
FIRST, SECOND = "065074fb-31c4", "111174fb-31c4"
STEPS = [("found", None), ("asked", FIRST), ("failed", FIRST), ("asked", SECOND), ("answered", SECOND)]

Ask = Callable[..., Reply]


def event(**told: object) -> bytes:
    return b"data: " + json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def trace(message: str) -> bytes:
    return event(trace={"timestamp": "2026-01-02T00:00:00", "invocation_id": "i", "child_id": "c", "message": message})


FOUND = trace("identified 2 available targets")
ASKED = [trace(f"attempting to query target={name} uid=1 hotkey=5W coldkey=5C") for name in (FIRST, SECOND)]
FAILED = trace(f"error encountered while querying target={FIRST} uid=1 hotkey=5W coldkey=5C: exc=HTTP_500")
ANSWERED = trace(f"successfully called function='chat' on target={SECOND} uid=1 hotkey=5W coldkey=5C")
BEFORE = FOUND + ASKED[0] + FAILED + ASKED[1]


def chunk(said: str | None, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": said}, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'r', 'model': MODEL, 'choices': [choice], 'usage': USAGE})}\n"


def whole() -> bytes:
    message = {"role": "assistant", "content": "Grüße"}
    body = {"id": "r", "model": MODEL, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    result = {"content_type": "application/json", "json": {**body, "usage": USAGE}}
    return BEFORE + event(result=result) + ANSWERED


def streamed(*, blanks: bool = True, lines: list[str] | None = None) -> bytes:
    lines = [chunk("Grü"), chunk("ße"), chunk(None, "stop"), "data: [DONE]\n"] if lines is None else lines
    return BEFORE + b"".join(event(result=line) + (event(result="\n") if blanks else b"") for line in lines) + ANSWERED


def handler(body: bytes, headers: dict[str, str] | None = None, seen: list[httpx.Request] | None = None) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(200, headers=headers or EVENTS, content=body)

    return answer


def options(answer: Any, is_async: bool, **more: Any) -> Any:
    transport = httpx.MockTransport(answer)
    http = httpx.AsyncClient(transport=transport) if is_async else httpx.Client(transport=transport)
    return {"http_client": http, "catalog": Catalog.bundled(), "clock": VirtualClock(), "max_retries": 0, **more}


def sync_whole(answer: Any, **params: Any) -> Reply:
    return ChutesClient("cpk_test", **options(answer, False)).chat(**ASK, **params)


def sync_stream(answer: Any, **params: Any) -> Reply:
    with ChutesClient("cpk_test", **options(answer, False)).stream(**ASK, **params) as stream:
        said = "".join(delta.content for delta in stream)
    assert said == stream.reply.content
    return stream.reply


def async_whole(answer: Any, **params: Any) -> Reply:
    async def ask() -> Reply:
        return await AsyncChutesClient("cpk_test", **options(answer, True)).chat(**ASK, **params)

    return asyncio.run(ask())


def async_stream(answer: Any, **params: Any) -> Reply:
    async def ask() -> Reply:
        async with AsyncChutesClient("cpk_test", **options(answer, True)).stream(**ASK, **params) as stream:
            said = "".join([delta.content async for delta in stream])
        assert said == stream.reply.content
        return stream.reply

    return asyncio.run(ask())


WAYS: dict[str, tuple[Ask, bytes]] = {
    "whole": (sync_whole, whole()),
    "whole async": (async_whole, whole()),
    "stream": (sync_stream, streamed()),
    "stream async": (async_stream, streamed()),
    "stream without blank lines": (sync_stream, streamed(blanks=False)),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_answer_is_the_one_inside_and_the_events_are_told(way: str) -> None:
    """Which machines were asked, and which failed, is in the reply and told to hooks; the answer is as without."""
    told: list[hooks.Event] = []
    hooks.on_trace.add(told.append)
    ask, body = WAYS[way]
    seen: list[httpx.Request] = []
    try:
        reply = ask(handler(body, seen=seen), trace=True)
    finally:
        hooks.on_trace.remove(told.append)
    assert (reply.content, reply.finish_reason, reply.model) == ("Grüße", "stop", MODEL)
    assert reply.usage is not None
    assert reply.usage.total_tokens == 3
    assert reply.meta.rate_limit_user == "60"
    assert [(each.step, each.instance) for each in reply.meta.trace] == STEPS
    assert [each.trace for each in told] == list(reply.meta.trace)
    assert {each.model for each in told} == {MODEL}
    assert seen[0].headers["x-chutes-trace"] == "true"
    assert "trace" not in json.loads(seen[0].content)


@pytest.mark.parametrize("way", WAYS)
def test_without_it_nothing_is_asked_for(way: str) -> None:
    """A call without a trace has no such header."""
    seen: list[httpx.Request] = []
    with pytest.raises(APIError):
        WAYS[way][0](handler(b"", seen=seen))
    assert "x-chutes-trace" not in seen[0].headers


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_however_it_is_cut(way: str, size: int) -> None:
    """The events are found wherever the network splits them."""
    ask, body = WAYS[way]

    class Cut(httpx.SyncByteStream):
        def __iter__(self) -> Any:
            return (body[place : place + size] for place in range(0, len(body), size))

    reply = ask(lambda request: httpx.Response(200, headers=EVENTS, stream=Cut()), trace=True)
    assert (reply.content, len(reply.meta.trace)) == ("Grüße", 5)


ERRORS = {
    "no room": (event(error="infra_overload", detail="Infrastructure is at maximum capacity, try again later"), 429),
    "exhausted": (event(error="exhausted all available targets to no avail"), 500),
    "too long": (
        event(error="bad_request", detail='Invalid request: {"message":"maximum context length is 8192 tokens"}'),
        400,
    ),
}


@pytest.mark.parametrize("ask", [sync_whole, sync_stream, async_whole, async_stream])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_before_the_answer_is_the_status_it_would_have_been(name: str, ask: Ask) -> None:
    """The same kind, status and words as without a trace."""
    body, status = ERRORS[name]
    told = json.loads(body[6:])
    plain = {"detail": told.get("detail") or told["error"]}
    found = []
    for answer in (handler(FOUND + ASKED[0] + FAILED + body), lambda request: httpx.Response(status, json=plain)):
        with pytest.raises(APIError) as caught:
            ask(answer, trace=True)
        found.append((caught.value.kind, caught.value.status_code, str(caught.value)))
    assert found[0] == found[1]


BROKEN = {
    "it ends": ([chunk("Grü")], Kind.TRUNCATED),
    "another one begins": ([chunk("Grü"), chunk("Other").replace('"r"', '"q"')], Kind.RESTARTED),
    "nothing was said": ([chunk(None, "stop"), "data: [DONE]\n"], Kind.EMPTY),
}


@pytest.mark.parametrize("ask", [sync_stream, async_stream])
@pytest.mark.parametrize("name", BROKEN)
def test_the_stream_inside_is_checked_as_without(name: str, ask: Ask) -> None:
    """What is no whole answer without events is none inside them."""
    lines, kind = BROKEN[name]
    plain = "".join(f"{line}\n" for line in lines).encode()
    for body in (streamed(lines=lines), plain):
        with pytest.raises(APIError) as caught:
            ask(handler(body), trace=True)
        assert caught.value.kind is kind


def test_an_error_in_the_middle_breaks_the_answer_off() -> None:
    """What was given out is in the error, with the events of its reply."""
    body = BEFORE + event(result=chunk("Grü")) + event(error="exhausted all available targets to no avail")
    with pytest.raises(APIError) as caught:
        sync_stream(handler(body), trace=True)
    assert (caught.value.kind, caught.value.partial) == (Kind.STREAM_ERROR, "Grü")
    assert caught.value.partial_reply is not None
    assert len(caught.value.partial_reply.meta.trace) == 4


def test_a_gateway_without_traces_is_read_as_ever() -> None:
    """One that does not know the header answers plainly."""
    body = json.loads(whole().split(b"\n\n")[4][6:])["result"]["json"]
    reply = sync_whole(lambda request: httpx.Response(200, json=body), trace=True)
    assert (reply.content, reply.meta.trace) == ("Grüße", [])
    lines = "".join(f"{line}\n" for line in (chunk("Grü"), chunk("ße", "stop"), "data: [DONE]\n"))
    reply = sync_stream(handler(lines.encode()), trace=True)
    assert (reply.content, reply.meta.trace) == ("Grüße", [])


@pytest.mark.parametrize("body", [b'data: {"trace":{"message":1}}\n\n', FOUND + b"data: no JSON\n\n", FOUND])
def test_events_that_cannot_be_read_are_a_failure(body: bytes) -> None:
    """Nothing is taken for an answer that is none."""
    for ask in (sync_whole, sync_stream):
        with pytest.raises(APIError) as caught:
            ask(handler(body), trace=True)
        assert caught.value.kind in (Kind.MALFORMED, Kind.EMPTY, Kind.TRUNCATED)


def test_a_client_may_ask_for_it_always() -> None:
    """By an argument, or with the header itself, which a call may have too."""
    for more in ({"trace": True}, {"default_headers": {"x-chutes-trace": "true"}}):
        client = ChutesClient("cpk_test", **options(handler(whole()), False, **more))
        assert len(client.chat(**ASK).meta.trace) == 5
    client = ChutesClient("cpk_test", **options(handler(whole()), False))
    assert len(client.chat(**ASK, extra_headers={"X-Chutes-Trace": "True"}).meta.trace) == 5
    with FallbackClient([MODEL], "cpk_test", **_own(handler(streamed()))) as fallback:
        assert len(fallback.chat(ASK["messages"], trace=True).meta.trace) == 5


def test_only_answers_of_a_chat_come_in_events() -> None:
    """The header of a client goes with no other request: its reply would be read as it is."""
    seen: list[httpx.Request] = []
    rows = b'{"data": [{"index": 0, "embedding": [0.6, 0.8]}]}'
    given = {"X-Chutes-Trace": "true", "X-Title": "mine"}
    client = ChutesClient("cpk_test", **options(handler(rows, seen=seen), False, default_headers=given))
    client.embed(["a"], model="Qwen/Qwen3-Embedding-8B-TEE")
    assert "x-chutes-trace" not in seen[0].headers
    assert seen[0].headers["x-title"] == "mine"


def _own(answer: Any) -> Any:
    given = options(answer, False)
    return {name: given[name] for name in ("http_client", "catalog", "clock")}


def test_what_it_cannot_be_is_refused() -> None:
    """A value that is no choice, and an encrypted call, of which the gateway knows nothing."""
    with pytest.raises(RequestRefusedError, match="trace must be True or False"):
        sync_whole(handler(b""), trace="yes")


def test_a_key_in_an_event_is_masked() -> None:
    """The gateway's words may quote anything."""
    body = whole().replace(b"exc=HTTP_500", b"exc=cpk_0123456789abcdef0123456789abcdef.fake")
    assert "cpk_0123" not in repr(sync_whole(handler(body), trace=True).meta.trace)
