"""Calls of any chute: what is sent where, what comes back, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chutes_core import (
    E2EE,
    AsyncChutesClient,
    Budget,
    BudgetExceededError,
    Catalog,
    ChuteReply,
    ChutesClient,
    IncompleteAnswerError,
    InvalidRequestError,
    Kind,
    Ledger,
    MalformedReplyError,
    ModelInfo,
    ModelNotFoundError,
    RequestRefusedError,
    UnknownModelError,
    hooks,
)
from chutes_core.catalog.kinds import is_path
from chutes_core.testing import VirtualClock

KEY = "cpk_" + "fake" * 8
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
PAINTER = ModelInfo(
    id="acme/painter",
    kind="image",
    chute_id="c-1",
    host="https://acme-painter.chutes.ai",
    paths=frozenset({"/generate", "/v1/edit"}),
)
VECTORS = ModelInfo(id="acme/embed", kind="embedding", chute_id="c-2", host="https://acme-embed.chutes.ai/v1")
MISLED = ModelInfo(id="acme/misled", kind="image", chute_id="c-3", host="https://acme.chutes.ai.evil.example")
CATALOG = Catalog((PAINTER, VECTORS, MISLED, ModelInfo(id="acme/chat", chute_id="c-4")), "live", 0.0, "2026-08-22")
Handler = Callable[[httpx.Request], httpx.Response]
MODES = ["blocking", "async"]


class Service:
    """A client over a handler, and the requests that arrived."""

    def __init__(self, mode: str, *answers: httpx.Response, **options: Any) -> None:
        self.requests: list[httpx.Request] = []
        answer = iter(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            return next(answer)

        self.clock = VirtualClock()
        self.mode, transport = mode, httpx.MockTransport(handle)
        options = {"catalog": CATALOG, "clock": self.clock, **options}
        self.client: Any
        if mode == "async":
            self.client = AsyncChutesClient(KEY, http_client=httpx.AsyncClient(transport=transport), **options)
        else:
            self.client = ChutesClient(KEY, http_client=httpx.Client(transport=transport), **options)

    def call(self, *args: Any, **options: Any) -> ChuteReply:
        made = self.client.call(*args, **options)
        reply = asyncio.run(made) if self.mode == "async" else made
        assert isinstance(reply, ChuteReply)
        return reply


def picture(**headers: str) -> httpx.Response:
    return httpx.Response(200, content=PNG, headers={"content-type": "image/png; x=1", **headers})


@pytest.mark.parametrize("mode", MODES)
def test_json_goes_to_the_chutes_own_host_and_bytes_come_back(mode: str) -> None:
    """The payload is the body, the key goes along, and the picture is as it was sent."""
    service = Service(mode, picture(**{"x-chutes-invocationid": "i-1"}))
    reply = service.call("acme/painter", "/generate", {"prompt": "a cat"})
    (sent,) = service.requests
    assert (sent.method, str(sent.url)) == ("POST", "https://acme-painter.chutes.ai/generate")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert (sent.headers["content-type"], sent.read()) == ("application/json", b'{"prompt":"a cat"}')
    assert (reply.content, reply.media_type, reply.value) == (PNG, "image/png", None)
    assert reply.meta.invocation_id == "i-1"
    assert "PNG" not in repr(reply)


@pytest.mark.parametrize("mode", MODES)
def test_bytes_go_as_they_are_and_json_comes_back_as_a_value(mode: str) -> None:
    """What the bytes are is said by their sender; a reply that says it is JSON is read."""
    service = Service(mode, httpx.Response(200, json={"text": "hello"}), httpx.Response(200, json=[1]))
    assert service.call("acme/painter", "/v1/edit", PNG, media_type="image/png").value == {"text": "hello"}
    assert service.call("acme/painter", "/v1/edit", PNG).value == [1]
    assert [sent.headers["content-type"] for sent in service.requests] == ["image/png", "application/octet-stream"]
    assert [sent.read() for sent in service.requests] == [PNG, PNG]


def test_without_a_payload_it_is_a_get_and_an_embedding_host_loses_its_version() -> None:
    """A host of an embedding model ends with the version that paths begin with."""
    service = Service("blocking", httpx.Response(200, json={}))
    service.call("c-2", "/v1/models")
    assert (service.requests[0].method, str(service.requests[0].url)) == (
        "GET",
        "https://acme-embed.chutes.ai/v1/models",
    )


@pytest.mark.parametrize("changed", ["base_url", "management_url"])
def test_at_another_service_a_chute_has_an_address_there(changed: str) -> None:
    """Nothing goes to Chutes' hosts from a client of another service but what its management host would get."""
    service = Service("blocking", picture(), **{changed: "http://127.0.0.1:9/api"})
    service.call("acme/painter", "/generate", {})
    host = "http://127.0.0.1:9/api" if changed == "management_url" else "https://api.chutes.ai"
    assert str(service.requests[0].url) == f"{host}/chutes/c-1/generate"


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("acme/chat", "/v1/chat/completions", {}), {}, "has no host of its own"),
        (("acme/misled", "/generate", {}), {}, "is none of the service's"),
        (("acme/painter", "generate", {}), {}, "path must be"),
        (("acme/painter", "/../users/me", {}), {}, "path must be"),
        (("acme/painter", "/a?b=c", {}), {}, "path must be"),
        (("acme/painter", "//evil.example/x", {}), {}, "path must be"),
        (("acme/painter", "/generate", "text"), {}, "payload must be a mapping, bytes or None, not a str"),
        (("acme/painter", "/generate", {}), {"media_type": "image/png"}, "media_type is for"),
        (("acme/painter", "/generate", b""), {"media_type": "image/png\r\nX: y"}, "media_type must say"),
        (("acme/painter", "/generate", {}), {"max_bytes": 0}, "max_bytes must be"),
        (("acme/painter", "/generate", {"a": object()}), {}, "cannot be encoded"),
        (("", "/generate", {}), {}, "model must be"),
    ],
)
def test_what_cannot_be_right_is_refused_before_it_is_sent(args: Any, options: Any, message: str) -> None:
    """A mistake costs nothing, and no key leaves for a host that is not the service's."""
    service = Service("blocking")
    with pytest.raises(RequestRefusedError, match=message):
        service.call(*args, **options)
    assert service.requests == []


def test_a_name_that_the_catalogue_lacks_is_told_with_the_nearest() -> None:
    """An unknown chute is refused here, since its host is not known."""
    with pytest.raises(UnknownModelError, match="acme/painter"):
        Service("blocking").call("acme/paint", "/generate", {})


def test_an_encrypted_client_sends_nothing_in_the_clear() -> None:
    """A client that seals its requests refuses to call a chute otherwise."""
    service = Service("blocking", e2ee=E2EE())
    with pytest.raises(RequestRefusedError, match="encrypts end to end"):
        service.call("acme/painter", "/generate", {})


@pytest.mark.parametrize("mode", MODES)
def test_a_busy_chute_is_asked_again_by_the_one_rule(mode: str) -> None:
    """Capacity is waited for, and hooks are told of the call by the chute's name."""
    busy = httpx.Response(429, json={"detail": "Infrastructure is at maximum capacity, try again later"})
    service, told = Service(mode, busy, picture()), list[hooks.Event]()
    hooks.on_end.add(told.append)
    try:
        assert service.call("acme/painter", "/generate", {}).content == PNG
    finally:
        hooks.on_end.remove(told.append)
    assert len(service.requests) == 2
    assert service.clock.now() > 0
    assert [(event.operation, event.model, event.number) for event in told] == [("request", "acme/painter", 2)]


def test_a_path_that_is_not_there_is_told_with_those_that_are() -> None:
    """The failure names what the chute publishes."""
    service = Service("blocking", httpx.Response(404, json={"detail": "No matching cord found!"}))
    with pytest.raises(ModelNotFoundError, match="It publishes /generate, /v1/edit"):
        service.call("acme/painter", "/draw", {})


def test_a_refusal_of_the_chute_keeps_its_words_and_not_the_key() -> None:
    """A 422 is an invalid request; an echo of the key is masked."""
    service = Service("blocking", httpx.Response(422, json={"detail": f"no prompt for {KEY}"}))
    with pytest.raises(InvalidRequestError, match="no prompt") as caught:
        service.call("acme/painter", "/generate", {})
    assert KEY not in str(caught.value)


def test_a_redirect_to_another_host_is_not_followed() -> None:
    """The key does not go where a chute points."""
    service = Service("blocking", httpx.Response(307, headers={"location": "https://evil.example/generate"}))
    with pytest.raises(Exception, match=r"evil\.example"):
        service.call("acme/painter", "/generate", {})
    assert len(service.requests) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_reply_that_is_too_large_is_not_kept(mode: str) -> None:
    """Reading stops at the limit, and nobody draws it once more, since that would be as large."""
    service = Service(mode, picture())
    with pytest.raises(MalformedReplyError, match=r"larger than 100 bytes.*max_bytes"):
        service.call("acme/painter", "/generate", {}, max_bytes=100)
    assert len(service.requests) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("media_type", "begun"), [("text/event-stream", b'data: {"a": 1}\n\n'), ("audio/wav", b"RIFF"), ("image/png", PNG)]
)
def test_a_reply_that_the_gateway_broke_off_is_a_failure(mode: str, media_type: str, begun: bytes) -> None:
    """What it appends where a chute did not end is no part of the reply, which is asked for again."""
    said = b'{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}'
    headers = {"content-type": media_type}
    broken, whole = (httpx.Response(200, content=content, headers=headers) for content in (begun + said, begun))
    service = Service(mode, broken, whole)
    assert service.call("acme/painter", "/generate", {}).content == begun
    assert len(service.requests) == 2
    service = Service(mode, httpx.Response(200, content=begun + said, headers=headers), max_retries=0)
    with pytest.raises(IncompleteAnswerError, match="exhausted all available targets") as caught:
        service.call("acme/painter", "/generate", {})
    assert caught.value.kind is Kind.STREAM_ERROR


@pytest.mark.parametrize("body", [b"{", b"[" + b"1," * 400_000 + b"1]", b'{"a": NaN}'])
def test_json_that_is_none_is_a_failure(body: bytes) -> None:
    """A reply that says it is JSON must be, and no bomb."""
    reply = httpx.Response(200, content=body, headers={"content-type": "application/json"})
    service = Service("blocking", reply, max_retries=0)
    with pytest.raises(MalformedReplyError) as caught:
        service.call("acme/painter", "/generate", {})
    assert caught.value.kind is Kind.MALFORMED


def test_a_call_is_in_the_ledger_and_a_budget_in_dollars_refuses_what_has_no_price() -> None:
    """A picture counts as a call without a price; what a reply reports in tokens is recorded."""
    ledger = Ledger()
    usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}}
    service = Service("blocking", picture(), httpx.Response(200, json=usage), ledger=ledger)
    service.call("acme/painter", "/generate", {})
    service.call("acme/painter", "/v1/edit", {})
    totals = ledger.totals("acme/painter")
    assert (totals.calls, totals.unpriced_calls, totals.usage.prompt_tokens) == (2, 2, 3)
    strict = Service("blocking", ledger=Budget(usd=1.0))
    with pytest.raises(BudgetExceededError):
        strict.call("acme/painter", "/generate", {})
    assert strict.requests == []
    allowed = Service("blocking", picture(), ledger=Budget(usd=1.0, unpriced="allow"))
    assert allowed.call("acme/painter", "/generate", {}).content == PNG


def test_a_path_is_one_of_the_chutes_own() -> None:
    """What leads elsewhere is none."""
    assert [is_path(value) for value in ("/a/b.c", "/a/./b", "", None, "/a b", "/a%2e")] == [True, *[False] * 5]
