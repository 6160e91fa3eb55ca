"""The stock openai clients over several models: whole and streamed, blocking and async, whoever answers."""

from __future__ import annotations

import asyncio
import copy
import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from chutes_core import (
    AsyncFallbackClient,
    Attempt,
    Budget,
    BudgetExceededError,
    Catalog,
    Choice,
    ChutesClient,
    ChutesError,
    ConfigurationError,
    Delta,
    FallbackClient,
    FallbackPolicy,
    FallbackReply,
    Kind,
    Ledger,
    MissingKeyError,
    RequestRefusedError,
    Restart,
    async_openai_client,
    openai_client,
)
from chutes_core.openai_sdk.completion import Chunks
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock

KEY = "cpk_" + "0123456789abcdef"
TWO = ["acme/one", "acme/two"]
SAID: Any = [{"role": "user", "content": "Say something."}]
ANSWER = Answer("The quick brown fox.", reasoning="It is a pangram.", pieces=3, cached_tokens=4)
PAYING = Answer("", tool_calls=[("pay", {"amount": 5}), ("thank", {"whom": "you"})], pieces=3)
WAYS = ["whole", "streamed", "awhole", "astreamed"]


class Stage:
    """A scripted service, and stock clients over fallbacks that ask it."""

    def __init__(self, *script: Answer | Fault | str, **by_model: Any) -> None:
        self.clock = VirtualClock()
        self.transport = FaultyTransport(FaultScript(script, default=ANSWER, **by_model), clock=self.clock)

    def fallback(self, members: Any = TWO, **options: Any) -> FallbackClient:
        given = {"catalog": Catalog.bundled(), "clock": self.clock, "chance": lambda: 0.5, **options}
        return FallbackClient(members, KEY, http_client=httpx.Client(transport=self.transport), **given)

    def async_fallback(self, members: Any = TWO, **options: Any) -> AsyncFallbackClient:
        given = {"catalog": Catalog.bundled(), "clock": self.clock, "chance": lambda: 0.5, **options}
        return AsyncFallbackClient(members, KEY, http_client=httpx.AsyncClient(transport=self.transport), **given)

    def client(self, **options: Any) -> openai.OpenAI:
        return openai_client(fallback=self.fallback(**options))

    def ask(self, way: str, options: Any = None, **settings: Any) -> Any:
        """Ask in one way, and return the completion: a stream's is put together from its chunks."""
        given: Any = {"model": "fallback", "messages": SAID, **settings}

        async def waiting() -> Any:
            client = async_openai_client(fallback=self.async_fallback(**(options or {})))
            if way == "awhole":
                return await client.chat.completions.create(**given)
            return joined([chunk async for chunk in await client.chat.completions.create(**given, stream=True)])

        try:
            if way.startswith("a"):
                return asyncio.run(waiting())
            client = self.client(**(options or {}))
            if way == "whole":
                return client.chat.completions.create(**given)
            return joined(list(client.chat.completions.create(**given, stream=True)))
        finally:
            assert self.transport.open_replies == 0

    @property
    def asked(self) -> list[str]:
        return [request.model for request in self.transport.requests]


def joined(chunks: list[Any]) -> Any:
    """Put chunks together as a reader does, and return them as a completion."""
    message: dict[str, Any] = {"role": None, "content": "", "reasoning_content": "", "tool_calls": []}
    last: Any = None
    for chunk in chunks:
        assert chunk.object == "chat.completion.chunk"
        assert chunk.id == chunks[0].id
        for choice in chunk.choices:
            assert last is None
            last = chunk if choice.finish_reason else None
            told = choice.delta.model_dump(exclude_none=True)
            message["role"] = message["role"] or told["role"]
            message["content"] += told.get("content", "")
            message["reasoning_content"] += told.get("reasoning_content", "")
            for call in told.get("tool_calls", ()):
                assert call["index"] == len(message["tool_calls"])
                message["tool_calls"].append({name: call[name] for name in call if name != "index"})
    body = last.model_dump()
    choice = {**body["choices"][0], "message": {name: value or None for name, value in message.items()}}
    return openai.types.chat.ChatCompletion.model_validate({**body, "object": "chat.completion", "choices": [choice]})


def outcomes(answer: Any) -> list[tuple[str, str, str | None]]:
    return [(each["model"], each["outcome"], each["kind"]) for each in answer.chutes_attempts]


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_is_complete(way: str) -> None:
    """Everything that the service says is in it, under OpenAI's names, with the attempts beside it."""
    answer = Stage("capacity").ask(way)
    assert openai.types.chat.ChatCompletion.model_validate(answer.model_dump()) == answer
    assert (answer.id, answer.created, answer.model) == ("chatcmpl-0", 1_780_000_000, "acme/two")
    choice = answer.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER.text, "stop")
    assert choice.message.reasoning_content == ANSWER.reasoning
    assert choice.message.tool_calls is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.chutes_verification == "0" * 32
    assert outcomes(answer) == [("acme/one", "failed", "capacity"), ("acme/two", "answered", None)]
    assert json.loads(json.dumps(answer.chutes_attempts))[0]["status_code"] == 429


FAULTS = [
    "capacity", "cold", "exhausted", "not_found", "refused", "hang", "hang_after_headers", Fault("stall", after=0),
    Fault("reset", after=0), "empty", "role_only", "reasoning_only", Fault("no_finish", after=0),
    Fault("error_line", after=0), Fault("error_event", after=0), Fault("malformed", after=0),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: getattr(fault, "kind", fault))
def test_the_next_member_takes_over(fault: str | Fault, way: str) -> None:
    """Whatever the first does wrong before its answer begins, the reader gets the answer of the second."""
    stage = Stage(fault)
    answer = stage.ask(way)
    assert answer.choices[0].message.content == ANSWER.text
    assert (answer.model, stage.asked) == ("acme/two", TWO)
    assert [outcome for _, outcome, _ in outcomes(answer)] == ["failed", "answered"]


@pytest.mark.parametrize("way", ["whole", "awhole"])
@pytest.mark.parametrize("after", ["raise", "restart"])
def test_a_whole_answer_survives_a_break_in_its_middle(way: str, after: Any) -> None:
    """Nobody has seen the part that was lost."""
    answer = Stage(Fault("reset", after=4)).ask(way, {"policy": FallbackPolicy(after_commit=after)})
    assert answer.choices[0].message.content == ANSWER.text
    assert outcomes(answer) == [("acme/one", "failed", "reset"), ("acme/two", "answered", None)]


@pytest.mark.parametrize("way", WAYS)
def test_tool_calls(way: str) -> None:
    """They come whole, after a member died in the middle of its own."""
    answer = Stage(Fault("reset", after=2, answer=PAYING), PAYING).ask(way)
    calls = answer.choices[0].message.tool_calls
    assert [(call.id, call.type) for call in calls] == [("call_0", "function"), ("call_1", "function")]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == list(PAYING.tool_calls)
    assert answer.choices[0].message.content is None
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.model == "acme/two"


def test_the_sdks_own_reader_puts_a_stream_together() -> None:
    """Its helper gets text and calls from the chunks."""
    client = Stage("capacity", ANSWER, PAYING).client()
    with client.chat.completions.stream(model="fallback", messages=SAID) as stream:
        assert stream.get_final_completion().choices[0].message.content == ANSWER.text
    with client.chat.completions.stream(model="fallback", messages=SAID) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.name for call in calls or ()] == ["pay", "thank"]


def test_usage_is_in_one_chunk() -> None:
    """In one of its own if that was asked for, else in the last; the role is in the first."""
    client = Stage().client()
    chunks = list(client.chat.completions.create(model="fallback", messages=SAID, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(chunk.choices for chunk in chunks)
    asked = list(
        client.chat.completions.create(
            model="fallback", messages=SAID, stream=True, stream_options={"include_usage": True}
        )
    )
    assert (asked[-1].choices, asked[-1].usage) == ([], chunks[-1].usage)
    assert not any(chunk.usage for chunk in asked[:-1])


@pytest.mark.parametrize("way", WAYS)
def test_the_ledger_has_each_token_once(way: str) -> None:
    """What a failed member used, too, and nothing twice."""
    ledger = Ledger()
    answer = Stage(Fault("reset", after=2)).ask(way, {"ledger": ledger})
    used = [each["usage"]["total_tokens"] for each in answer.chutes_attempts if each["usage"]]
    assert ledger.totals().usage.total_tokens == sum(used) > answer.usage.total_tokens
    assert used[-1] == answer.usage.total_tokens


@pytest.mark.parametrize("way", ["streamed", "astreamed"])
def test_reasoning_goes_on_with_the_next_member(way: str) -> None:
    """After a blank line, and under the same id: no marker is sent that a stock reader would not know."""
    answer = Stage(Fault("reset", after=2)).ask(way)
    first = ANSWER.reasoning[: 2 * -(-len(ANSWER.reasoning) // 3)]
    assert answer.choices[0].message.reasoning_content == f"{first}\n\n{ANSWER.reasoning}"
    assert (answer.choices[0].message.content, answer.model) == (ANSWER.text, "acme/two")


@pytest.mark.parametrize("way", ["streamed", "astreamed"])
@pytest.mark.parametrize("after", ["raise", "restart"])
def test_text_that_was_read_is_not_answered_anew(way: str, after: Any) -> None:
    """A stock reader has no marker for a restart, so the error is raised, with what came and the attempts."""
    stage = Stage(Fault("error_line", after=4))
    fallback: dict[str, Any] = {"policy": FallbackPolicy(after_commit=after)}
    with pytest.raises(openai.APIError) as caught:
        stage.ask(way, fallback)
    error: Any = caught.value
    assert isinstance(error, ChutesError)
    assert (error.code, error.partial) == ("stream_error", ANSWER.text[:7])
    assert [each.outcome for each in error.attempts] == ["failed"]
    assert stage.asked == ["acme/one"]


@pytest.mark.parametrize("way", ["streamed", "astreamed"])
def test_an_answer_that_is_held_back_survives(way: str) -> None:
    """With ``hold`` nothing is read before it is whole."""
    answer = Stage(Fault("error_line", after=4)).ask(way, {"policy": FallbackPolicy(after_commit="hold")})
    assert (answer.choices[0].message.content, answer.model) == (ANSWER.text, "acme/two")


ERRORS: list[tuple[str, type[openai.APIError], str]] = [
    ("capacity", openai.RateLimitError, "capacity"),
    ("cold", openai.InternalServerError, "cold"),
    ("auth", openai.AuthenticationError, "authentication"),
    ("not_found", openai.NotFoundError, "model_not_found"),
    ("bad_request", openai.BadRequestError, "bad_request"),
    ("quota", openai.APIStatusError, "payment"),
    ("refused", openai.APIConnectionError, "connect"),
    ("hang", openai.APITimeoutError, "first_token_timeout"),
    ("empty", openai.APIError, "empty"),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("fault", "kind", "code"), ERRORS)
def test_a_failure_of_all_is_the_sdks_own(fault: str, kind: type[openai.APIError], code: str, way: str) -> None:
    """Of the class of the last one, with the words and attempts of all; the SDK adds no attempt of its own."""
    stage = Stage(*[fault] * 30)
    with pytest.raises(kind) as caught:
        stage.ask(way, {"policy": FallbackPolicy(max_attempts=2)})
    error: Any = caught.value
    assert error.code == code
    asked = len(stage.asked)
    assert asked == (1 if fault in ("auth", "bad_request", "quota") else 2)
    body: Any = error.body
    attempts = getattr(error, "attempts", None) or body["chutes_attempts"]
    assert len([each for each in attempts if "skipped" not in str(each)]) == asked
    if asked == 2:
        assert "No model gave a whole answer (2 attempts" in str(error)


def test_no_option_of_a_call_adds_attempts() -> None:
    """Not even with retries of the SDK's own."""
    stage = Stage(*["capacity"] * 9, *["refused"] * 9)
    client = stage.client(policy=FallbackPolicy(max_attempts=2))
    assert client.max_retries == 0
    with pytest.raises(openai.RateLimitError):
        client.with_options(max_retries=5).chat.completions.create(model="fallback", messages=SAID)
    assert len(stage.asked) == 2


@pytest.mark.parametrize("way", WAYS)
def test_refused_here(way: str) -> None:
    """What is refused before anything is sent is both the SDK's and ours, whichever way it is asked."""
    stage = Stage()
    with pytest.raises(RequestRefusedError, match="one answer") as caught:
        stage.ask(way, n=2)
    assert isinstance(caught.value, openai.OpenAIError)
    with pytest.raises(RequestRefusedError, match="messages must be"):
        stage.ask(way, messages=["Hi"])
    with pytest.raises(BudgetExceededError) as over:
        stage.ask(way, {"ledger": Budget(tokens=5)})
    assert isinstance(over.value, openai.OpenAIError)
    with pytest.raises(MissingKeyError):
        stage.ask(way, {"members": [{"model": "acme/one", "api_key": lambda: ""}]})
    assert stage.asked == []


def test_a_named_model_is_asked_alone() -> None:
    """A member, or another one with the first member's client."""
    stage = Stage("capacity", "capacity", "capacity")
    client = stage.client(policy=FallbackPolicy(max_attempts=1))
    for model in ("acme/two", "acme/three"):
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=model, messages=SAID)
    assert stage.asked == ["acme/two", "acme/three"]


def test_parameters_are_those_of_the_core() -> None:
    """What it knows is fitted to the gateway, what it does not know is sent as it is, and the members' own stay."""
    stage = Stage()
    client = stage.client(members=[{"model": "acme/one", "temperature": 0.5}])
    client.chat.completions.create(
        model="fallback", messages=SAID, max_completion_tokens=9, stop=None, store=True, extra_body={"top_a": 0.1}
    )
    sent = stage.transport.requests[0].body
    assert (sent["max_tokens"], sent["top_a"], sent["temperature"]) == (9, 0.1, 0.5)
    assert sent.keys() == {"model", "messages", "max_tokens", "top_a", "temperature", "stream", "stream_options"}
    client.chat.completions.create(model="fallback", messages=SAID, stream=True, stream_options={}).close()


@pytest.mark.parametrize("way", WAYS)
def test_a_time_limit_is_one_for_the_call(way: str) -> None:
    """However many members are silent, it does not add up."""
    stage = Stage(*["hang"] * 30)
    with pytest.raises(openai.APITimeoutError):
        stage.ask(way, timeout=7)
    assert stage.clock.now() <= 7
    assert len(stage.asked) == 1
    waited = Stage("hang")
    waited.ask(way, timeout=90)
    assert waited.clock.now() == 20  # the policy's limit for a first token


@pytest.mark.parametrize("way", ["streamed", "astreamed"])
def test_leaving_a_stream_closes_it(way: str) -> None:
    """In its middle, before its beginning, and when its task is cancelled."""
    stage = Stage()
    if way == "streamed":
        client = stage.client()
        with client.chat.completions.create(model="fallback", messages=SAID, stream=True) as stream:
            next(iter(stream))
            assert stage.transport.open_replies == 1
        assert stage.transport.open_replies == 0
        client.chat.completions.create(model="fallback", messages=SAID, stream=True).close()
        assert stage.transport.open_replies == 0
        return

    async def leave() -> None:
        client = async_openai_client(fallback=stage.async_fallback())
        async with await client.chat.completions.create(model="fallback", messages=SAID, stream=True) as stream:
            await anext(aiter(stream))
            assert stage.transport.open_replies == 1
        assert stage.transport.open_replies == 0
        await (await client.chat.completions.create(model="fallback", messages=SAID, stream=True)).close()
        assert stage.transport.open_replies == 0
        begun = asyncio.Event()

        async def read() -> None:
            async with await client.chat.completions.create(model="fallback", messages=SAID, stream=True):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.transport.open_replies == 0

    asyncio.run(leave())


async def test_a_cancelled_wait_closes_what_was_asked() -> None:
    """Before an answer has begun, whole or streamed."""
    closed: list[str] = []

    class Silent(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            waiting.set()
            await asyncio.Event().wait()
            yield b""

        async def aclose(self) -> None:
            closed.append("closed")

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Silent()))
    fallback = AsyncFallbackClient(TWO, KEY, http_client=httpx.AsyncClient(transport=transport))
    client = async_openai_client(fallback=fallback)
    for streams in (False, True):
        waiting = asyncio.Event()
        asked: Any = client.chat.completions.create(model="fallback", messages=SAID, stream=streams)
        task = asyncio.create_task(asked)
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert closed == ["closed"] * 2


def test_other_paths_go_to_the_first_members_client() -> None:
    """With its address, key and headers; none of them can be asked of all members."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"object": "list", "data": [{"id": "acme/one", "object": "model"}]})

    fallback = FallbackClient(
        TWO, KEY, base_url="https://example.org/v1", policy=FallbackPolicy(confidential=True),
        default_headers={"X-Title": "me"}, clock=VirtualClock(),
        http_client=httpx.Client(transport=httpx.MockTransport(answer)),
    )  # fmt: skip
    client = openai_client(fallback=fallback)
    assert [model.id for model in client.models.list()] == ["acme/one"]
    assert str(seen[0].url) == "https://example.org/v1/models"
    client.with_options(timeout=7).models.list()
    assert [request.extensions["timeout"]["wait"] for request in seen] == [600, 7]
    del seen[1]
    assert (seen[0].headers["authorization"], seen[0].headers["x-title"]) == (f"Bearer {KEY}", "me")
    assert seen[0].headers["x-tee-only"] == "true"
    with pytest.raises(RequestRefusedError, match="answers chat"):
        client.embeddings.create(model="fallback", input="Hello")
    with pytest.raises(RequestRefusedError, match="answers chat"):
        client.completions.create(model="fallback", prompt="Hello")
    assert len(seen) == 1
    assert KEY not in repr(vars(client))


async def test_other_paths_go_there_on_an_event_loop_too() -> None:
    """With the door that waits."""
    listed = {"object": "list", "data": [{"id": "acme/one", "object": "model"}]}
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=listed)))
    async with async_openai_client(fallback=AsyncFallbackClient(TWO, KEY, http_client=http)) as client:
        assert [model.id async for model in client.models.list()] == ["acme/one"]
        with pytest.raises(RequestRefusedError, match="answers chat"):
            await client.embeddings.create(model="fallback", input="Hello")


def test_embeddings_of_a_named_model() -> None:
    """They go to its host with the first member's key, and are counted in the ledger of all."""

    def answer(request: httpx.Request) -> httpx.Response:
        row = {"object": "embedding", "index": 0, "embedding": [0.5]}
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        return httpx.Response(200, json={"object": "list", "model": "acme/vectors", "data": [row], "usage": usage})

    fallback = FallbackClient(TWO, KEY, http_client=httpx.Client(transport=httpx.MockTransport(answer)))
    with openai_client(fallback=fallback) as client:
        found = client.embeddings.create(model="acme/vectors", input="Hello", encoding_format="float")
    assert found.data[0].embedding == [0.5]
    assert fallback.ledger.totals().usage.total_tokens == 2


def test_a_sealed_member_sends_nothing_unsealed() -> None:
    """The SDK's other paths cannot be encrypted, so nothing is sent on them."""
    pytest.importorskip("cryptography")
    stage = Stage()
    client = stage.client(e2ee=True)
    with pytest.raises(RequestRefusedError, match="encrypts"):
        client.embeddings.create(model="acme/vectors", input="Hello")
    assert stage.asked == []


@pytest.mark.parametrize(
    ("changed", "lost"),
    [
        ({"api_key": "cpk_" + "1" * 16}, "api_key"),
        ({"base_url": "https://example.org/v1"}, "base_url"),
        ({"default_headers": {"X-TEE-Only": "true"}}, "x-tee-only"),
        ({"default_query": {"version": "2"}}, "extra_query"),
    ],
)
def test_what_a_call_cannot_set_is_refused(changed: Any, lost: str) -> None:
    """A key, an address, a query or a header that the members would not be sent with is no silent loss."""
    stage = Stage()
    client = stage.client().with_options(**changed)
    with pytest.raises(RequestRefusedError, match=lost):
        client.chat.completions.create(model="fallback", messages=SAID)
    assert stage.asked == []


def test_an_address_may_be_written_in_any_way() -> None:
    """The HTTP package writes it its own way, which is no other address."""
    stage = Stage()
    client = stage.client(base_url="https://Example.ORG:443/v1/")
    client.chat.completions.create(model="fallback", messages=SAID)
    assert stage.transport.requests[0].url == "https://example.org/v1/chat/completions"


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_in_another_form_is_the_next_members_turn(way: str) -> None:
    """Where JSON was asked for, as with ``parse`` of the SDK."""
    stage = Stage(Answer("Here you are: 4"), Answer('{"sum": 4}'))
    answer = stage.ask(way, response_format={"type": "json_object"})
    assert (answer.choices[0].message.content, answer.model) == ('{"sum": 4}', "acme/two")


def test_the_sdks_own_parser() -> None:
    """It gets an object of its class."""

    class Sum(BaseModel):
        total: int

    client = Stage(Answer('{"total": "many"}'), Answer('{"total": 4}')).client()
    answer = client.chat.completions.parse(model="fallback", messages=SAID, response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(total=4)


GIVEN: list[dict[str, Any]] = [
    {"api_key": KEY}, {"base_url": "https://example.org/v1"}, {"timeout": 5}, {"max_retries": 2},
    {"default_headers": {}}, {"ledger": Budget(tokens=5)}, {"catalog": Catalog.bundled()},
]  # fmt: skip


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: next(iter(given)))
def test_a_fallback_has_its_own_arguments(given: dict[str, Any]) -> None:
    """Any other one beside it is refused by name, and without what was given."""
    stage = Stage()
    for make, fallback in ((openai_client, stage.fallback()), (async_openai_client, stage.async_fallback())):
        with pytest.raises(ConfigurationError, match=next(iter(given))) as caught:
            make(fallback=fallback, **given)  # type: ignore[operator]
        assert KEY not in str(caught.value)


def test_a_fallback_is_of_the_same_kind() -> None:
    """A blocking one for a blocking client; a list of names is not one yet."""
    stage = Stage()
    with pytest.raises(ConfigurationError, match="only FallbackClient here, not AsyncFallbackClient"):
        openai_client(fallback=stage.async_fallback())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="only AsyncFallbackClient here, not FallbackClient"):
        async_openai_client(fallback=stage.fallback())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="not list"):
        openai_client(fallback=TWO)  # type: ignore[arg-type]


def test_the_fallback_stays_as_it_was() -> None:
    """Its own policy, for those who ask it directly; both share health and ledger."""
    stage = Stage("capacity")
    fallback = stage.fallback(policy=FallbackPolicy(after_commit="restart", deadline=60))
    before = copy.copy(fallback.policy)
    client = openai_client(fallback=fallback)
    client.chat.completions.create(model="fallback", messages=SAID, timeout=30)
    assert fallback.policy == before
    assert fallback.chat(SAID).attempts[0].model == "acme/two"  # the first has failed, and comes last
    assert fallback.ledger.totals().calls == 2
    client.close()
    assert fallback.chat(SAID).content == ANSWER.text


def test_over_a_client_that_is_there() -> None:
    """As with any other fallback."""
    stage = Stage("cold")
    there = ChutesClient(KEY, http_client=httpx.Client(transport=stage.transport), clock=stage.clock)
    client = openai_client(fallback=FallbackClient.over(there, TWO))
    answer: Any = client.chat.completions.create(model="fallback", messages=SAID)
    assert outcomes(answer)[-1] == ("acme/two", "answered", None)
    assert outcomes(answer)[0][2] == Kind.COLD


def test_a_refusal_beside_text_log_probabilities_and_calls_that_are_not_valid() -> None:
    """They come as they are: to judge them is the reader's, as with the service."""
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    message = {"role": "assistant", "content": "Hi", "refusal": "Not that."}
    call = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "pay", "arguments": '{"amount": '}}
    steps = [
        {"delta": {**message, "tool_calls": [call]}, "logprobs": {"content": [token]}, "finish_reason": None},
        {"delta": {}, "finish_reason": "length", "matched_stop": 7},
    ]
    head = {"id": "7", "object": "chat.completion.chunk", "created": 7, "model": "acme/one"}
    events = [b"data: %s\n\n" % json.dumps({**head, "choices": [{"index": 0, **step}]}).encode() for step in steps]
    reply = b"".join([*events, b"data: [DONE]\n\n"])
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, content=reply)))
    client = openai_client(fallback=FallbackClient(TWO, KEY, http_client=http))
    whole: Any = client.chat.completions.create(model="fallback", messages=SAID)
    given: Any = client.chat.completions.create(model="fallback", messages=SAID, stream=True)
    chunks = list(given)
    last = chunks[-1].choices[0]
    assert whole.choices[0].message.refusal == last.delta.refusal == "Not that."
    for choice in (whole.choices[0], last):
        assert choice.logprobs.content[0].token == "Hi"
        assert (choice.finish_reason, choice.matched_stop) == ("length", 7)
    assert whole.usage is chunks[-1].usage is None
    (told,) = whole.choices[0].message.tool_calls
    assert (told.id, told.function.arguments) == ("call_7", '{"amount": ')
    (piece,) = chunks[-2].choices[0].delta.tool_calls
    assert (piece.id, piece.index, piece.function.arguments) == (told.id, 0, told.function.arguments)


def test_a_stream_keeps_its_id() -> None:
    """A reader takes chunks with another id for another answer; the model is the one that goes on."""
    chunks = Chunks(include_usage=False)
    first, second = (FallbackReply(each, each, (Choice(0, "Hi", "", (), (), "stop"),)) for each in ("one", "two"))
    second = replace(second, attempts=(Attempt("two", "answered"),), created=None)
    told = [*chunks.take(Delta(reasoning="Hm."), first), *chunks.take(Restart(model="two", text=False), first)]
    told += [*chunks.take(Delta(content="Hi"), second), *chunks.end(second)]
    bodies = [json.loads(each.removeprefix(b"data: ")) for each in told if b"[DONE]" not in each]
    assert [body["id"] for body in bodies] == ["one"] * 4
    assert [body["model"] for body in bodies] == ["one", "one", "two", "two"]
