"""Embeddings: decoding, order, and stepping down where a machine refuses an option."""

from __future__ import annotations

import array
import asyncio
import base64
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import (
    APIError,
    AsyncChutesClient,
    ChutesClient,
    ConfigurationError,
    Embeddings,
    InvalidRequestError,
    Kind,
    MalformedReplyError,
    RequestRefusedError,
    TimeLimitError,
    UnavailableError,
)
from chutes_core.calls.effects import Open, StatusFailure, WireRequest
from chutes_core.calls.embeddings import EmbedCall
from chutes_core.calls.flows import CallPolicy
from chutes_core.reply.vectors import decode_vectors, fit_dimensions
from chutes_core.settings import TimeLimits
from chutes_core.testing import VirtualClock

KEY = "cpk_test"
MODEL = "Qwen/Qwen3-Embedding-8B-TEE"
Handler = Callable[[dict[str, Any]], httpx.Response]


def packed(vector: list[float]) -> str:
    numbers = array.array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def vector_of(text: str) -> list[float]:
    """A vector that tells its text."""
    return [float(len(text)), 1.0, 0.5, 0.25]


def machine(*, base64_too: bool = True, dimensions_too: bool = True, refusal: int = 400) -> Handler:
    """An embedding machine that refuses some options."""

    def answer(body: dict[str, Any]) -> httpx.Response:
        if ("dimensions" in body and not dimensions_too) or ("encoding_format" in body and not base64_too):
            detail = "exhausted all available targets to no avail" if refusal == 500 else "unsupported option"
            return httpx.Response(refusal, json={"detail": detail})
        vectors = [vector_of(text)[: body.get("dimensions", 4)] for text in body["input"]]
        if body.get("encoding_format") == "base64":
            data = [{"index": n, "embedding": packed(vector)} for n, vector in enumerate(vectors)]
        else:
            data = [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        data.reverse()
        usage = {"prompt_tokens": len(vectors), "total_tokens": len(vectors), "completion_tokens": 0}
        return httpx.Response(200, json={"object": "list", "model": body["model"], "data": data, "usage": usage})

    return answer


class Service:
    """A client over a handler, and the bodies that arrived."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.urls: list[str] = []
        self.clock = VirtualClock()

        def receive(request: httpx.Request) -> httpx.Response:
            self.urls.append(str(request.url))
            self.bodies.append(json.loads(request.content))
            return handler(self.bodies[-1])

        transport = httpx.MockTransport(receive)
        options = {"clock": self.clock, **options}
        self.sync = ChutesClient(KEY, http_client=httpx.Client(transport=transport), **options)
        self.waiting = AsyncChutesClient(KEY, http_client=httpx.AsyncClient(transport=transport), **options)

    def embed(self, mode: str, texts: Any, **options: Any) -> Embeddings:
        options = {"model": MODEL, **options}
        if mode == "sync":
            return self.sync.embed(texts, **options)
        return asyncio.run(self.waiting.embed(texts, **options))


BOTH = pytest.mark.parametrize("mode", ["sync", "async"])


@BOTH
def test_vectors_come_in_the_order_of_their_texts(mode: str) -> None:
    """Rows in any order are put back by their index, over several requests at a time."""
    texts = ["x" * (1 + number % 50) for number in range(101)]
    service = Service(machine())
    result = service.embed(mode, texts, batch_size=10, concurrency=4)
    assert [vector[0] for vector in result.vectors] == [float(len(text)) for text in texts]
    assert len(service.bodies) == 11
    assert result.usage is not None
    assert result.usage.prompt_tokens == 101
    assert result.model == MODEL


@BOTH
@pytest.mark.parametrize("refusal", [400, 422, 500])
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 1),
        ({"dimensions_too": False}, 2),
        ({"dimensions_too": False, "base64_too": False}, 3),
    ],
)
def test_refused_options_are_left_out_one_after_the_other(
    mode: str, refusal: int, options: dict[str, bool], steps: int
) -> None:
    """Whatever a machine refuses, the vectors have the dimensions that were asked for and length one where cut."""
    service = Service(machine(refusal=refusal, **options))
    result = service.embed(mode, ["abc"], dimensions=2)
    assert len(result.vectors[0]) == 2
    assert len(service.bodies) == steps
    if steps > 1:
        assert math.hypot(*result.vectors[0]) == pytest.approx(1)
        assert result.vectors[0][0] / result.vectors[0][1] == pytest.approx(3)
    service.embed(mode, ["abcd"], dimensions=2)
    assert len(service.bodies) == steps + 1, "what was learned of the machine is remembered"


@BOTH
@pytest.mark.parametrize(("status", "error"), [(400, InvalidRequestError), (500, UnavailableError)])
def test_a_refusal_of_everything_is_the_last_refusal(mode: str, status: int, error: type[APIError]) -> None:
    """When the plain request fails as well, its own failure is raised."""
    service = Service(
        lambda body: httpx.Response(status, json={"detail": "exhausted all available targets to no avail"})
    )
    with pytest.raises(error):
        service.embed(mode, ["abc"])
    assert "encoding_format" not in service.bodies[-1]


@BOTH
def test_what_the_options_cannot_have_caused_is_raised_at_once(mode: str) -> None:
    """A text that is too long, or a busy model, is no reason to leave options out."""
    too_long = "This model's maximum context length is 8 tokens"
    service = Service(lambda body: httpx.Response(400, json={"detail": too_long}))
    with pytest.raises(APIError) as caught:
        service.embed(mode, ["abc"])
    assert caught.value.kind is Kind.CONTEXT_LENGTH
    assert len(service.bodies) == 1


@BOTH
def test_busy_is_waited_for(mode: str) -> None:
    """Capacity failures are retried with their waits, option by option unchanged."""
    busy = iter([True, True, False])
    ready = machine()

    def answer(body: dict[str, Any]) -> httpx.Response:
        if next(busy, False):
            return httpx.Response(429, json={"detail": "Infrastructure is at maximum capacity, try again later"})
        return ready(body)

    service = Service(answer)
    assert len(service.embed(mode, ["abc"]).vectors) == 1
    assert len(service.clock.sleeps) == 2
    assert {body["encoding_format"] for body in service.bodies} == {"base64"}


@BOTH
def test_one_failed_batch_fails_the_call(mode: str) -> None:
    """Half of the vectors is no answer: the first failure is raised as itself."""
    ready = machine()

    def answer(body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(401, json={"detail": "no"}) if "bad" in body["input"] else ready(body)

    service = Service(answer)
    with pytest.raises(APIError) as caught:
        service.embed(mode, ["a", "b", "bad", "c"], batch_size=1)
    assert caught.value.kind is Kind.AUTHENTICATION


@BOTH
@pytest.mark.parametrize(
    "reply",
    [
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 7, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]},
        {"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]},
        {"data": [{"index": 0, "embedding": ["x"]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": "not base64!"}, {"index": 1, "embedding": "AACAPw=="}]},
        {"data": [{"index": 0, "embedding": "AAA="}, {"index": 1, "embedding": "AACAPw=="}]},
        {"data": [{"index": 0, "embedding": packed([math.nan])}, {"index": 1, "embedding": "AACAPw=="}]},
        {"data": [{"index": 0}, 7]},
        {"data": [7, 7]},
        {"data": None},
        [],
    ],
)
def test_a_reply_that_is_not_the_vectors_asked_for_is_malformed(mode: str, reply: Any) -> None:
    """Missing, doubled, uneven, empty and unreadable vectors are never handed on."""
    service = Service(lambda body: httpx.Response(200, json=reply), max_retries=0)
    with pytest.raises(MalformedReplyError):
        service.embed(mode, ["a", "b"])


def test_too_few_dimensions_are_an_error() -> None:
    """A model that has fewer dimensions than were asked for says so."""
    with pytest.raises(ValueError, match="8 dimensions were asked for and the model has 4"):
        fit_dimensions([vector_of("a")], 8)


def test_an_error_in_a_success_is_an_error() -> None:
    """A 200 whose body is an error is the failure that it reports."""
    service = Service(lambda body: httpx.Response(200, json={"detail": "No instances available (yet)"}), max_retries=0)
    with pytest.raises(UnavailableError):
        service.embed("sync", ["a"])


@BOTH
def test_no_texts_need_no_request(mode: str) -> None:
    """An empty list is an empty list of vectors."""
    service = Service(machine())
    assert service.embed(mode, []).vectors == []
    assert service.bodies == []


@BOTH
@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("one text", {}, "list of texts"),
        ([1], {}, "Text 0 is a int"),
        (["a"], {"batch_size": 0}, "batch_size"),
        (["a"], {"dimensions": 0}, "dimensions"),
        (["a"], {"dimensions": True}, "dimensions"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(mode: str, texts: Any, options: dict[str, Any], message: str) -> None:
    """Mistakes are named before anything is sent."""
    service = Service(machine())
    with pytest.raises(ConfigurationError, match=message):
        service.embed(mode, texts, **options)
    assert service.bodies == []
    assert issubclass(RequestRefusedError, ConfigurationError)


@pytest.mark.parametrize(
    ("options", "model", "host"),
    [
        ({}, MODEL, "https://chutes-qwen-qwen3-embedding-8b-tee.chutes.ai/v1/embeddings"),
        ({}, "Qwen/Qwen3-Embedding-8B", "https://chutes-qwen-qwen3-embedding-8b-tee.chutes.ai/v1/embeddings"),
        ({}, "acme/unlisted", "https://embed.chutes.ai/v1/embeddings"),
        ({"embedding_base_url": "http://127.0.0.1:1/e"}, MODEL, "http://127.0.0.1:1/e/embeddings"),
        ({"base_url": "http://127.0.0.1:1/v1"}, MODEL, "http://127.0.0.1:1/v1/embeddings"),
    ],
)
def test_embeddings_go_to_their_own_host(options: dict[str, str], model: str, host: str) -> None:
    """Each model's own host, unless one was set; where only the gateway was replaced, nothing leaves it."""
    service = Service(machine(), **options)
    service.embed("sync", ["a"], model=model)
    assert service.urls == [host]
    if model.startswith("Qwen"):
        assert service.bodies[0]["model"] == MODEL


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_limit_holds_for_all_that_a_batch_tries(mode: str) -> None:
    """Stepping down takes from the same time; the next batch has its own."""

    def slow(body: dict[str, Any]) -> httpx.Response:
        service.clock.advance(4.0)
        return machine(base64_too=len(body["input"]) == 1, dimensions_too=False)(body)

    service = Service(slow)
    with pytest.raises(TimeLimitError):
        service.embed(mode, ["a", "b"], dimensions=2, timeout=10.0)
    assert len(service.bodies) == 3
    assert len(service.embed(mode, ["a"] * 4, batch_size=1, concurrency=1, timeout=10.0).vectors) == 4


@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), max_size=5)
)
def test_both_encodings_give_the_same_vectors(vectors: list[list[float]]) -> None:
    """Base64 and lists of numbers decode to the same."""
    if not all(math.isfinite(math.fsum(vector)) for vector in vectors):
        return
    plain = {"data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)]}
    coded = {"data": [{"index": n, "embedding": packed(vector)} for n, vector in enumerate(vectors)]}
    assert decode_vectors(plain, len(vectors)) == decode_vectors(coded, len(vectors)) == vectors


@BOTH
@pytest.mark.parametrize(("dimensions", "widths"), [(None, (4, 6)), (None, (6, 4)), (2, (4, 6)), (4, (6, 8))])
def test_batches_of_one_call_have_one_width(mode: str, dimensions: int | None, widths: tuple[int, int]) -> None:
    """Also where both are cut to the dimensions that were asked for: they are of two models."""

    def answer(body: dict[str, Any]) -> httpx.Response:
        width = widths["odd" in body["input"]]
        rows = [{"index": n, "embedding": [1.0] * width} for n in range(len(body["input"]))]
        return httpx.Response(200, json={"data": rows})

    service = Service(answer, max_retries=0)
    with pytest.raises(MalformedReplyError, match=f"the width is {widths[1]} for texts 2 to 3 and {widths[0]}"):
        service.embed(mode, ["a", "b", "odd", "c"], batch_size=2, concurrency=1, dimensions=dimensions)
    assert len(service.embed(mode, ["odd", "c"], dimensions=dimensions).vectors) == 2, "another call may find another"


@BOTH
def test_dimensions_that_one_server_grants_and_another_leaves_to_us(mode: str) -> None:
    """Both give the width that was asked for, so they go together."""

    def answer(body: dict[str, Any]) -> httpx.Response:
        return machine(dimensions_too="a" in body["input"])(body)

    vectors = Service(answer).embed(mode, ["a", "b", "a"], batch_size=1, concurrency=1, dimensions=2).vectors
    assert [len(vector) for vector in vectors] == [2, 2, 2]


@BOTH
def test_batches_of_one_call_are_of_one_model(mode: str) -> None:
    """An alias may lead to another model each time; vectors of two models cannot be compared."""

    def answer(body: dict[str, Any]) -> httpx.Response:
        rows = [{"index": n, "embedding": vector_of(text)} for n, text in enumerate(body["input"])]
        return httpx.Response(200, json={"model": f"acme/{body['input'][0]}", "data": rows})

    service = Service(answer, max_retries=0)
    with pytest.raises(MalformedReplyError, match="the model is acme/b for text 1 and acme/a"):
        service.embed(mode, ["a", "b"], batch_size=1, concurrency=1)
    assert service.embed(mode, ["b"]).model == "acme/b", "another name than was asked for is told, and no error"
    with pytest.raises(RequestRefusedError, match="Name one embedding model"):
        service.embed(mode, ["a"], model="acme/a,acme/b:latency")


@BOTH
def test_a_reply_that_is_no_answer_is_asked_for_again_and_counted(mode: str) -> None:
    """As any other failure of a machine; what it says it used was used."""
    replies = iter([{"index": "0"}, {"embedding": [1.0, True, 1.0, 1.0]}, {}])

    def answer(body: dict[str, Any]) -> httpx.Response:
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        row = {"index": 0, "embedding": vector_of("abc"), **next(replies)}
        return httpx.Response(200, json={"data": [row], "usage": usage})

    service = Service(answer)
    assert service.embed(mode, ["abc"]).vectors == [vector_of("abc")]
    assert len(service.bodies) == 3
    client = service.sync if mode == "sync" else service.waiting
    assert client.ledger.totals().usage.prompt_tokens == 15


@BOTH
def test_a_width_that_another_machine_mends_costs_nothing_but_a_request(mode: str) -> None:
    """The odd batch is asked for again."""
    widths = iter([4, 6, 4])

    def answer(body: dict[str, Any]) -> httpx.Response:
        return httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0] * next(widths)}]})

    vectors = Service(answer).embed(mode, ["a", "b"], batch_size=1, concurrency=1).vectors
    assert [len(vector) for vector in vectors] == [4, 4]


@BOTH
def test_fewer_dimensions_than_were_asked_for_are_an_error(mode: str) -> None:
    """Whether the server ignores what it was asked for, or it was not asked because it had refused."""
    for refuses in (True, False):
        service = Service(machine(dimensions_too=not refuses), max_retries=0)
        with pytest.raises(MalformedReplyError, match="8 dimensions were asked for and 4 came"):
            service.embed(mode, ["a"], dimensions=8)


@BOTH
def test_what_was_learned_with_dimensions_holds_without_them(mode: str) -> None:
    """Refused dimensions say nothing of base64; refused base64 says so for both."""
    service = Service(machine(dimensions_too=False))
    service.embed(mode, ["abc"], dimensions=2)
    service.embed(mode, ["abc"])
    service.embed(mode, ["abc"], dimensions=2)
    assert [sorted({*body} - {"model", "input"}) for body in service.bodies[1:]] == [["encoding_format"]] * 3
    service = Service(machine(base64_too=False))
    service.embed(mode, ["abc"])
    service.embed(mode, ["abc"], dimensions=2)
    assert [sorted({*body} - {"model", "input"}) for body in service.bodies[1:]] == [[], []]


def test_what_concurrent_batches_learn_is_kept() -> None:
    """A batch that began before another learned of a refusal does not undo what it learned."""
    known: dict[str, int] = {}
    calls = [
        EmbedCall(WireRequest("http://x"), CallPolicy(TimeLimits(), 0, VirtualClock()), ["a"], model="m", known=known)
        for _ in range(2)
    ]
    whole = json.dumps({"data": [{"index": 0, "embedding": [1.0]}]}).encode()
    slow, quick = calls[0].run(), calls[1].run()
    next(slow)
    next(quick)
    for flow in (slow, quick):
        flow.send(None)  # the key
    quick.throw(StatusFailure(400, {}, b'{"detail": "unsupported option"}'))
    assert isinstance(quick.send(None), Open)
    quick.send({})
    quick.send(whole)
    with pytest.raises(StopIteration):
        quick.send(None)
    assert known == {"m": 0}
    slow.send({})
    slow.send(whole)
    with pytest.raises(StopIteration):
        slow.send(None)
    assert known == {"m": 0}


def test_usage_is_unknown_when_one_batch_did_not_say() -> None:
    """A sum over batches that do not all report is no sum."""
    part = Embeddings([[1.0]], None, None)
    assert Embeddings.join([part, part], "m") == Embeddings([[1.0], [1.0]], "m", None)
