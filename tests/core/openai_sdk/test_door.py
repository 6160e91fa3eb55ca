"""The stock openai clients behind the door: typed failures, one usage, the right host, no key in sight."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import httpx
import openai
import pytest

from chutes_core import (
    ChutesError,
    ConfigurationError,
    IncompleteAnswerError,
    Kind,
    Ledger,
    MissingKeyError,
    TimeLimitError,
    async_openai_client,
    openai_client,
)
from chutes_core.testing import Answer, FaultyTransport

KEY = "cpk_" + "0123456789abcdef"
MODEL = "acme/one"
SAID: Any = [{"role": "user", "content": "Say something."}]
TEXT = "The quick brown fox jumps over the lazy dog."


def door(script: Any = (), **options: Any) -> tuple[openai.OpenAI, FaultyTransport]:
    """A client before a scripted service, without retries."""
    transport = FaultyTransport(script)
    made = openai_client(KEY, http_client=httpx.Client(transport=transport), **{"max_retries": 0, **options})
    return made, transport


def streamed(client: openai.OpenAI, **settings: Any) -> list[Any]:
    return list(client.chat.completions.create(model=MODEL, messages=SAID, stream=True, **settings))


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def astreamed(script: Any) -> str:
    transport = FaultyTransport(script)
    client = async_openai_client(KEY, http_client=httpx.AsyncClient(transport=transport), max_retries=0)
    stream = await client.chat.completions.create(model=MODEL, messages=SAID, stream=True)
    said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert transport.open_replies == 0
    return said


async def test_whole_answers_come_through() -> None:
    """An answer in one piece, a stream, and a stream on the event loop; every connection is given back."""
    client, transport = door()
    assert client.chat.completions.create(model=MODEL, messages=SAID).choices[0].message.content == TEXT
    assert text(streamed(client)) == TEXT
    assert transport.open_replies == 0
    assert await astreamed([]) == TEXT


@pytest.mark.parametrize("make", [openai_client, async_openai_client])
def test_without_the_sdk_it_says_what_to_install(
    make: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK is an extra, and the message names it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'chutes-connect[openai]'")):
        make(KEY)


FAULTS: list[tuple[str, Kind]] = [
    ("error_line", Kind.STREAM_ERROR),
    ("error_event", Kind.STREAM_ERROR),
    ("no_finish", Kind.TRUNCATED),
    ("done_only", Kind.TRUNCATED),
    ("reset", Kind.RESET),
    ("restart", Kind.RESTARTED),
    ("malformed", Kind.MALFORMED),
    ("empty", Kind.EMPTY),
    ("role_only", Kind.EMPTY),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
async def test_a_stream_that_is_not_whole_is_an_exception(fault: str, kind: Kind) -> None:
    """Each way to break off is a failure of both libraries, with its kind, blocking and async."""
    client, transport = door([fault])
    with pytest.raises(IncompleteAnswerError) as caught:
        streamed(client)
    assert isinstance(caught.value, openai.APIError)
    assert caught.value.kind is kind
    assert caught.value.code == kind.value
    assert caught.value.message == str(caught.value)
    assert transport.open_replies == 0
    assert len(transport.requests) == 1
    with pytest.raises(openai.APIError) as other:
        await astreamed([fault])
    assert isinstance(other.value, ChutesError)
    assert TEXT.startswith(caught.value.partial)


def test_the_helper_for_streams_raises_too() -> None:
    """``chat.completions.stream`` has the guard under it as well, and ends well with a whole answer."""
    client, _ = door([Answer("Hello."), "error_line"])
    with client.chat.completions.stream(model=MODEL, messages=SAID) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello."
    with client.chat.completions.stream(model=MODEL, messages=SAID) as stream, pytest.raises(IncompleteAnswerError):
        stream.until_done()


def test_a_tool_call_comes_through() -> None:
    """Arguments in pieces are the stock client's to join, and arrive as they are."""
    client, _ = door([Answer("", tool_calls=[("pay", {"amount": 5})])])
    with client.chat.completions.stream(model=MODEL, messages=SAID) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert (calls[0].function.name, json.loads(calls[0].function.arguments)) == ("pay", {"amount": 5})


def test_calls_come_as_the_sdk_has_them() -> None:
    """An engine may leave out an index or send arguments as an object: here each piece has its index, and text."""
    said = [{"function": {"name": "pay", "arguments": {"amount": amount}}} for amount in (5, 6)]
    whole = {"choices": [{"index": 0, "message": {"tool_calls": said}, "finish_reason": "tool_calls"}]}
    pieces = [{"choices": [{"index": 0, "delta": {"tool_calls": [each]}, "finish_reason": None}]} for each in said]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    events = "".join(f"data: {json.dumps(each)}\n\n" for each in (*pieces, end)).encode()
    replies = iter([httpx.Response(200, json=whole), httpx.Response(200, content=events)])
    with openai_client(KEY, http_client=httpx.Client(transport=httpx.MockTransport(lambda _: next(replies)))) as client:
        asked: Any = client.chat.completions.create(model=MODEL, messages=SAID)
        chunks = streamed(client)
    made = [call.function for call in asked.choices[0].message.tool_calls]
    given = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [call.index for call in given] == [0, 1]
    for functions in (made, [call.function for call in given]):
        assert [(each.name, json.loads(each.arguments)["amount"]) for each in functions] == [("pay", 5), ("pay", 6)]


def test_a_silent_stream_is_a_time_limit() -> None:
    """A stall past the client's timeout says so, with what had arrived."""
    client, _ = door(["stall"], timeout=5)
    with pytest.raises(TimeLimitError) as caught:
        streamed(client)
    assert isinstance(caught.value, openai.APIError)
    assert caught.value.kind is Kind.STALL
    assert caught.value.partial


WHOLE: list[tuple[dict[str, Any], Kind]] = [
    ({"error": {"message": "exhausted all available targets", "code": 500}}, Kind.EXHAUSTED),
    ({"error": "Unhandled exception during response"}, Kind.UPSTREAM),
    ({"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hal"}}]}, Kind.TRUNCATED),
    ({"choices": [{"index": 0, "message": {"content": "Hal"}, "finish_reason": None}]}, Kind.TRUNCATED),
    ({"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "stop"}]}, Kind.EMPTY),
    ({"choices": []}, Kind.MALFORMED),
]


def replying(*bodies: Any, status: int = 200) -> httpx.MockTransport:
    left = iter(bodies)
    return httpx.MockTransport(lambda request: httpx.Response(status, json=next(left)))


@pytest.mark.parametrize(("body", "kind"), WHOLE)
async def test_a_reply_that_is_not_whole_is_an_exception(body: dict[str, Any], kind: Kind) -> None:
    """An error under status 200, a missing finish reason, an empty answer: each is raised, blocking and async."""
    client = openai_client(KEY, http_client=httpx.Client(transport=replying(body)), max_retries=0)
    with pytest.raises(openai.APIError) as caught:
        client.chat.completions.create(model=MODEL, messages=SAID)
    assert getattr(caught.value, "kind", None) is kind
    other = async_openai_client(KEY, http_client=httpx.AsyncClient(transport=replying(body)), max_retries=0)
    with pytest.raises(ChutesError):
        await other.chat.completions.create(model=MODEL, messages=SAID)


def test_an_empty_answer_may_be_wanted() -> None:
    """Where a stop sequence was given, an answer without a word is one."""
    client = openai_client(KEY, http_client=httpx.Client(transport=replying(WHOLE[4][0])), max_retries=0)
    reply = client.chat.completions.create(model=MODEL, messages=SAID, stop="x")
    assert reply.choices[0].message.content == ""


def test_a_failure_by_status_is_the_sdks_own_and_explained() -> None:
    """The status errors are those that users of the SDK know; their message says why and what to do."""
    client, _ = door(["capacity"])
    with pytest.raises(openai.RateLimitError, match="every machine that serves this model is busy") as caught:
        streamed(client)
    assert caught.value.code == "capacity"


@pytest.mark.parametrize(("fault", "requests"), [("capacity", 2), ("exhausted", 2), ("account_limit", 1), ("cold", 1)])
def test_the_table_says_what_the_sdk_tries_again(fault: str, requests: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another try here cannot help is not tried again, and what it can is."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client, transport = door([fault, Answer("At last.")], max_retries=2)
    with suppress(openai.APIStatusError) if requests == 1 else nullcontext():
        assert client.chat.completions.create(model=MODEL, messages=SAID).choices[0].message.content == "At last."
    assert len(transport.requests) == requests


def test_a_connection_that_fails_is_the_sdks_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an answer has begun a lost connection is tried again by the SDK, and then its own exception."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client, transport = door(["refused", Answer("At last.")], max_retries=1)
    assert client.chat.completions.create(model=MODEL, messages=SAID).choices[0].message.content == "At last."
    assert len(transport.requests) == 2
    lost, _ = door(["refused"])
    with pytest.raises(openai.APIConnectionError):
        lost.chat.completions.create(model=MODEL, messages=SAID)


def test_usage_is_not_counted_twice() -> None:
    """Adding up the usage of all chunks gives what was used; naive code may look at every chunk's first choice."""
    client, _ = door()
    chunks = streamed(client)
    assert sum(chunk.usage.total_tokens for chunk in chunks if chunk.usage) == chunks[-1].usage.total_tokens
    assert all(chunk.choices for chunk in chunks)
    asked = streamed(client, stream_options={"include_usage": True})
    assert [bool(chunk.usage) for chunk in asked] == [False] * (len(asked) - 1) + [True]
    assert asked[-1].choices == []


async def test_the_ledger_adds_up() -> None:
    """Whole answers, streams and broken streams are all in the ledger that was given."""
    ledger = Ledger()
    client, _ = door([Answer(), Answer(), "error_line"], ledger=ledger)
    client.chat.completions.create(model=MODEL, messages=SAID)
    used = ledger.totals().usage.total_tokens
    streamed(client)
    assert ledger.totals().usage.total_tokens == 2 * used > 0
    with pytest.raises(IncompleteAnswerError):
        streamed(client)
    assert 2 * used < ledger.totals().usage.total_tokens < 3 * used


def test_leaving_a_stream_closes_it() -> None:
    """Who stops reading stops the service, and what was used until then is known."""
    ledger = Ledger()
    client, transport = door(ledger=ledger)
    with client.chat.completions.create(model=MODEL, messages=SAID, stream=True) as stream:
        next(iter(stream))
    assert transport.open_replies == 0
    never = client.chat.completions.create(model=MODEL, messages=SAID, stream=True)
    never.close()
    assert transport.open_replies == 0


async def test_a_reply_that_asks_for_another_key_is_closed_where_there_is_none() -> None:
    """The key comes from a function, which fails, or is left in the middle, when it is asked again."""

    class LoginGone(Exception):
        pass

    asked: list[int] = []

    def key() -> str:
        asked.append(1)
        if len(asked) % 2 == 0:
            raise LoginGone
        return KEY

    transport = FaultyTransport(["auth"] * 4)
    client = openai_client(key, http_client=httpx.Client(transport=transport), max_retries=0)
    with pytest.raises((LoginGone, openai.APIConnectionError)):  # openai 2.x wraps what a transport raises
        streamed(client)
    assert transport.open_replies == 0

    async def waits() -> str:
        asked.append(1)
        if len(asked) % 2 == 0:
            raise asyncio.CancelledError
        return KEY

    waiting = async_openai_client(waits, http_client=httpx.AsyncClient(transport=transport), max_retries=0)
    with pytest.raises(asyncio.CancelledError):
        await waiting.chat.completions.create(model=MODEL, messages=SAID, stream=True)
    assert transport.open_replies == 0


# -------------------------------------------------------------------------------------------- hosts and headers


class Echoing:
    """A service that remembers what came, and gives a vector."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json={"object": "list", "data": [{"index": 0, "embedding": [0.6, 0.8]}]})


@pytest.fixture
def service() -> Echoing:
    return Echoing()


def at(service: Echoing, **options: Any) -> openai.OpenAI:
    return openai_client(KEY, http_client=httpx.Client(transport=httpx.MockTransport(service)), **options)


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "https://chutes-qwen-qwen3-embedding-8b-tee.chutes.ai/v1/embeddings"),
        ({"embedding_base_url": "https://mine.example/v1"}, "https://mine.example/v1/embeddings"),
        ({"base_url": "http://127.0.0.1:8000/v1"}, "http://127.0.0.1:8000/v1/embeddings"),
    ],
)
def test_embeddings_go_to_their_host(service: Echoing, options: dict[str, Any], url: str) -> None:
    """Each model's own host under its whole name, or the one that was set; chat goes to the gateway."""
    from chutes_core import ChutesClient

    client = at(service, **options)
    reply = client.embeddings.create(model="qwen/qwen3-embedding-8b", input="a", encoding_format="float")
    assert reply.data[0].embedding == [0.6, 0.8]
    expected = ChutesClient(KEY, **options)
    info = expected.catalog.get("qwen/qwen3-embedding-8b")
    assert info
    host = url if options else f"{expected._embedding_host(info)}/embeddings"
    assert str(service.requests[0].url) == host
    assert json.loads(service.requests[0].content)["model"] == info.id
    client.models.list()
    assert str(service.requests[1].url) == f"{expected.settings.base_url}/models"


def test_the_key_is_in_the_request_and_nowhere_else(service: Echoing) -> None:
    """The service gets the key; the client, its repr and the SDK's own request do not have it."""
    client = at(service)
    client.models.list()
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert client.api_key == "****"
    assert KEY[4:] not in repr(vars(client))
    refused = openai_client(
        KEY, http_client=httpx.Client(transport=replying({"detail": f"no {KEY}"}, status=401)), max_retries=0
    )
    with pytest.raises(openai.AuthenticationError) as caught:
        refused.models.list()
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert KEY[4:] not in str(caught.value) + repr(dict(caught.value.request.headers))
    assert KEY[4:] not in shown


def test_another_companys_headers_are_not_sent(service: Echoing, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OPENAI_* variables add to requests is left away; your own headers go along."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Company: secret\nX-Mine: other")
    client = at(service, default_headers={"X-Mine": "yes", "X-Chutes-Trace": "true"})
    client.models.list()
    sent = service.requests[0].headers
    assert "x-chutes-trace" not in sent  # the SDK could not read the answer
    assert "secret" not in str(sent.multi_items())
    assert sent["user-agent"].startswith("chutes-connect")


def test_a_host_given_later_is_used_and_guarded(service: Echoing) -> None:
    """``with_options(base_url=...)``, such as for a chute's own host, leaves nothing unjudged."""
    other = at(service).with_options(base_url="https://own.chutes.ai/v1")
    assert other.embeddings.create(model=MODEL, input="x").data[0].embedding == [0.6, 0.8]
    assert str(service.requests[-1].url) == "https://own.chutes.ai/v1/embeddings"
    client, _ = door(["error_line"])
    with pytest.raises(IncompleteAnswerError):
        streamed(client.with_options(base_url="https://own.chutes.ai/v1"))


def test_a_key_given_later_is_used(service: Echoing) -> None:
    """``with_options`` may bring another key, as in the stock client."""
    at(service).with_options(api_key="cpk_other").models.list()
    assert service.requests[0].headers["authorization"] == "Bearer cpk_other"


async def test_without_a_key_nothing_is_sent(service: Echoing) -> None:
    """No key is a MissingKeyError at once, untried and unwrapped, blocking and async."""
    client = openai_client(http_client=httpx.Client(transport=httpx.MockTransport(service)))
    with pytest.raises(MissingKeyError) as caught:
        client.models.list()
    assert isinstance(caught.value, openai.OpenAIError)
    with pytest.raises(MissingKeyError):
        await async_openai_client().models.list()
    assert service.requests == []


async def test_a_key_that_was_renewed_is_tried_once(service: Echoing) -> None:
    """After a 401 a function is asked again, and a new key gets one more try."""
    seen: list[str] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200 if seen[-1].endswith("new") else 401, json={"data": [], "detail": "no"})

    def keys(*values: str) -> Callable[[], str]:
        left = iter(values)
        return lambda: next(left)

    http, other = (kind(transport=httpx.MockTransport(serve)) for kind in (httpx.Client, httpx.AsyncClient))
    openai_client(keys("cpk_old", "cpk_new"), http_client=http, max_retries=0).models.list()
    await async_openai_client(keys("cpk_old", "cpk_new"), http_client=other, max_retries=0).models.list()
    assert seen == ["Bearer cpk_old", "Bearer cpk_new"] * 2
    with pytest.raises(openai.AuthenticationError):
        openai_client(keys("cpk_old", "cpk_old"), http_client=http, max_retries=0).models.list()


async def test_an_async_key_function(service: Echoing) -> None:
    """The async client takes an async function."""

    async def key() -> str:
        return KEY

    http = httpx.AsyncClient(transport=httpx.MockTransport(service))
    await async_openai_client(key, http_client=http).models.list()
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_closing(service: Echoing) -> None:
    """A client that was given stays open, and one client may be used after another was closed."""
    http = httpx.Client(transport=httpx.MockTransport(service))
    with openai_client(KEY, http_client=http) as client:
        client.models.list()
    assert not http.is_closed
    with openai_client(KEY):
        pass


def test_compressed_replies_are_read() -> None:
    """The guard reads what the service wrote, not its compression, and the SDK is not told of any."""
    import gzip

    body = gzip.compress(b"".join(b"data: %s\n\n" % row for row in _rows()))
    headers = {"content-encoding": "gzip", "content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, content=body))
    client = openai_client(KEY, http_client=httpx.Client(transport=transport))
    assert text(streamed(client)) == "Hi"


def _rows() -> list[bytes]:
    first = {"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
    return [json.dumps(first).encode(), b"[DONE]"]


def test_one_async_client_serves_many_loops() -> None:
    """A client made once works under one ``asyncio.run`` after the other."""
    transport = FaultyTransport()
    client = async_openai_client(KEY, http_client=httpx.AsyncClient(transport=transport))

    async def ask() -> str | None:
        return (await client.chat.completions.create(model=MODEL, messages=SAID)).choices[0].message.content

    assert [asyncio.run(ask()) for _ in range(2)] == [TEXT, TEXT]
