"""ChatChutes as an object of LangChain: arguments, calls, protocols of streaming, and what LangChain asks of it."""

from __future__ import annotations

import asyncio
import copy
import pickle
import warnings
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from pydantic import SecretStr, ValidationError

from chutes_core import Catalog, ChutesWarning, ConfigurationError, ModelInfo, RequestRefusedError, TimeLimits, Usage
from chutes_core.catalog.model_info import Traits
from chutes_core.errors import TimeLimitError
from chutes_core.testing import Answer
from langchain_chutes import ChatChutes

from .models import KEY, MODEL, MODES, call, scripted

ANSWER = Answer("Hello there.", pieces=3)
QWEN = "Qwen/Qwen3-32B-TEE"


def test_an_unset_parameter_is_not_sent() -> None:
    """The body has what was given and nothing else."""
    body = call("sync-whole", [ANSWER]).body
    assert body == {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "stream": False}


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_is_sent_under_the_services_name(mode: str) -> None:
    """Arguments of the constructor, and those of the call over them."""
    given: dict[str, Any] = {
        "temperature": 0.5, "max_tokens": 9, "top_p": 0.9, "top_k": 4, "min_p": 0.1, "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "repetition_penalty": 1.1, "stop": ["a"], "seed": 3, "logit_bias": {"5": 1.0},
        "user": "anna",
    }  # fmt: skip
    outcome = call(
        mode,
        [ANSWER],
        **given,
        reasoning="low",
        extra_body={"one": 1, "two": 1},
        model_kwargs={"guided_choice": ["a"]},
        params={"temperature": 0, "stop": ["b"], "extra_body": {"two": 2}, "model": "acme/two"},
    )
    body = outcome.body
    expected = {**given, "temperature": 0, "stop": ["b"], "one": 1, "two": 2, "guided_choice": ["a"]}
    assert {name: body[name] for name in expected} == expected
    assert body["model"] == "acme/two"
    assert body["chat_template_kwargs"] == {"thinking": True, "enable_thinking": True, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("name", "near"),
    [("temprature", "temperature"), ("modle", "model"), ("max_token", "max_tokens"), ("http_clients", "http_client")],
)
def test_a_misspelt_argument_names_the_nearest(name: str, near: str) -> None:
    """A slip of the pen is an error and not a parameter that is never sent."""
    with pytest.raises(ValidationError, match=f"no argument '{name}'.*Did you mean '{near}'"):
        ChatChutes(**{"model": MODEL, name: 1})
    with pytest.raises(RequestRefusedError, match="temperature"):
        scripted().model.invoke("Hi", temprature=0)


@pytest.mark.parametrize(
    ("other", "name", "value"),
    [
        ("model_name", "model", "acme/two"),
        ("max_completion_tokens", "max_tokens", 7),
        ("stop_sequences", "stop", ["x"]),
        ("request_timeout", "timeout", 3.0),
        ("chutes_api_base", "base_url", "http://127.0.0.1:1/v1"),
    ],
)
def test_names_of_other_integrations_are_understood(other: str, name: str, value: Any) -> None:
    """What hands are used to works; given twice it is an error."""
    base: dict[str, Any] = {} if name == "model" else {"model": MODEL}
    assert getattr(ChatChutes(**base, **{other: value}), name) == value
    with pytest.raises(ValidationError, match="twice"):
        ChatChutes(**{**base, name: value, other: value})


def test_the_numbers_of_tokens_are_understood() -> None:
    """As ChatOpenAI takes them; JSON has names."""
    assert ChatChutes(model=MODEL, logit_bias={50256: -100}).logit_bias == {"50256": -100.0}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"base_url": "chutes"}, "http"),
        ({"timeout": -1}, "time limit|greater"),
        ({"max_retries": -1}, "max_retries"),
        ({"model": ""}, "at least 1"),
        ({"temperature": "hot"}, "number"),
        ({"reasoning": "sometimes"}, "reasoning"),
        ({"model_kwargs": {"temperature": 0}}, "outside model_kwargs"),
    ],
)
def test_a_wrong_argument_is_refused_at_the_door(arguments: dict[str, Any], why: str) -> None:
    """Before any call, with what is wrong."""
    with pytest.raises((ValidationError, ConfigurationError), match=why):
        _ = ChatChutes(**{"model": MODEL, "api_key": KEY, **arguments}).client


def test_one_stream_carries_one_answer() -> None:
    """Several answers come with invoke, and are refused in a stream, where they would be mixed."""
    with pytest.raises(RequestRefusedError, match="n > 1"):
        list(scripted([ANSWER], extra_body={"n": 2}).model.stream("Hi"))
    model = scripted([ANSWER], n=2).model
    with pytest.raises(RequestRefusedError, match="n > 1"):
        next(model.stream("Hi"))
    with pytest.raises(RequestRefusedError, match="without streaming=True"):
        scripted([ANSWER], n=2, streaming=True).model.invoke("Hi")


@pytest.mark.parametrize("mode", MODES)
def test_a_call_understands_what_the_model_understands(mode: str) -> None:
    """Names of other integrations go for parameters of a call too, and one thing is given once."""
    params = {"stop_sequences": ["x"], "max_completion_tokens": 5, "request_timeout": 3, "model_name": "acme/two"}
    body = call(mode, [ANSWER], max_tokens=9, params=params).body
    assert (body["stop"], body["max_tokens"], body["model"]) == (["x"], 5, "acme/two")
    assert not {"timeout", "max_completion_tokens"} & body.keys()
    late = call(mode, ["hang"], params={"request_timeout": 3})
    assert isinstance(late.error, TimeLimitError)
    assert late.clock.now() == pytest.approx(3)
    twice = call(mode, [ANSWER], params={"max_tokens": 5, "max_completion_tokens": 9})
    assert isinstance(twice.error, RequestRefusedError)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("choice", "sent"),
    [("any", "required"), (True, "required"), ("auto", "auto"), (False, None), (None, None), ("add", "add")],
)
def test_a_choice_of_a_tool_may_be_given_with_the_call(choice: Any, sent: str | None, mode: str) -> None:
    """It is understood as bind_tools understands it, over one that is bound, and checked."""

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    wish = {"type": "function", "function": {"name": "add"}} if sent == "add" else sent
    body = call(mode, [ANSWER], params={"tools": [add], "tool_choice": choice}).body
    assert body.get("tool_choice") == wish
    bound = call(mode, [ANSWER], runnable=lambda m: m.bind_tools([add], tool_choice="none").bind(tool_choice=choice))
    assert bound.body.get("tool_choice") == wish
    wrong = call(mode, [ANSWER], params={"tools": [add], "tool_choice": "ad"})
    assert "Did you mean 'add'?" in str(wrong.error)


def test_several_answers_are_several_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """With n each choice is a generation."""
    whole = Answer.body

    def twice(self: Answer, model: str) -> dict[str, Any]:
        body = whole(self, model)
        (choice,) = body["choices"]  # type: ignore[misc]
        return {**body, "choices": [choice, {**choice, "index": 1}]}

    monkeypatch.setattr(Answer, "body", twice)
    result = scripted([ANSWER], n=2).model.generate([[HumanMessage("Hi")]])
    assert [generation.text for generation in result.generations[0]] == [ANSWER.text] * 2


@pytest.mark.parametrize("echo", [True, False, None])
def test_reasoning_is_echoed_by_the_models_trait(echo: bool | None) -> None:
    """The catalogue knows which models want their thoughts back."""
    info = ModelInfo(id=MODEL, traits=Traits(echo_reasoning=echo))
    known = Catalog((info,), "live", 0.0, "2026-01-01", offline=True)
    history = [HumanMessage("Hi"), AIMessage("Yes.", additional_kwargs={"reasoning_content": "Hm."}), HumanMessage("?")]
    body = call("sync-whole", [ANSWER], history, catalog=known).body
    assert body["messages"][1].get("reasoning_content") == ("Hm." if echo else None)


def test_cost_is_told_where_the_price_is_known() -> None:
    """From the catalogue's prices and the tokens that were used; the ledger has it too."""
    info = ModelInfo(id=MODEL, price_in=1.0, price_out=2.0)
    outcome = call("sync-stream", [ANSWER], catalog=Catalog((info,), "live", 0.0, "2026-01-01", offline=True))
    assert outcome.message is not None
    assert outcome.message.response_metadata["cost"] == pytest.approx((11 + 2 * 3) / 1e6)
    assert outcome.model.ledger.totals().usage == Usage(11, 3, 14)
    assert "cost" not in call("sync-whole", [ANSWER]).message.response_metadata  # type: ignore[union-attr]


def test_the_client_is_made_once_and_shared() -> None:
    """No call makes a client of its own."""
    model = scripted([ANSWER, ANSWER]).model
    assert model.client is model.client
    assert model.async_client is model.async_client
    assert model.model_copy().client is model.client
    assert model.model_copy(update={"max_retries": 5}).client is not model.client


def test_one_model_serves_two_event_loops() -> None:
    """A second asyncio.run works as the first did."""
    outcome = scripted([ANSWER, ANSWER])
    for _ in range(2):
        assert asyncio.run(outcome.model.ainvoke("Hi")).text == ANSWER.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_keeps_its_order(asynchronous: bool) -> None:
    """Each question has its answer."""
    outcome = scripted([ANSWER] * 3)
    questions: list[Any] = ["a", "b", "c"]
    answers = asyncio.run(outcome.model.abatch(questions)) if asynchronous else outcome.model.batch(questions)
    assert [answer.text for answer in answers] == [ANSWER.text] * 3
    assert sorted(request.body["messages"][0]["content"] for request in outcome.transport.requests) == questions  # type: ignore[index]


def test_a_stream_that_is_left_gives_its_connection_back() -> None:
    """Whether it is closed or forgotten."""
    outcome = scripted([ANSWER, ANSWER])
    stream = outcome.model.stream("Hi")
    next(stream)
    assert outcome.transport.open_replies == 1
    stream.close()  # type: ignore[attr-defined]
    assert outcome.transport.open_replies == 0

    async def leave() -> None:
        steps = outcome.model.astream("Hi")
        await anext(steps)
        await steps.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert outcome.transport.open_replies == 0


def _texts(events: list[Any]) -> str:
    deltas = [event["delta"] for event in events if event["event"] == "content-block-delta"]
    return "".join(delta.get("text", "") for delta in deltas)


@pytest.mark.filterwarnings("ignore:The method `BaseChatModel._a?chat_model_stream_v3` is in beta")
@pytest.mark.parametrize("output_version", [None, "v1"])
def test_the_event_protocol_tells_the_same_story(output_version: str | None) -> None:
    """stream_events v3: reasoning, text and tool calls as blocks, and usage once."""
    answer = Answer("Two.", reasoning="Hm.", tool_calls=[("add", {"a": 1})])
    model = scripted([answer, answer], output_version=output_version).model
    stream = model.stream_events("Hi", version="v3")
    events: list[Any] = list(stream)
    assert events[0]["metadata"]["provider"] == "chutes"
    assert _texts(events) == "Two."
    finished = [event["content"] for event in events if event["event"] == "content-block-finish"]
    assert [block["type"] for block in finished] == ["reasoning", "text", "tool_call"]
    assert finished[-1]["args"] == {"a": 1}
    assert events[-1]["usage"]["input_tokens"] == 11
    message = stream.output
    assert message.tool_calls[0]["args"] == {"a": 1}
    assert message.response_metadata["finish_reason"] == "tool_calls"

    async def again() -> list[Any]:
        return [event async for event in await model.astream_events("Hi", version="v3")]

    assert [event["event"] for event in asyncio.run(again())] == [event["event"] for event in events]


def test_astream_events_v2() -> None:
    """The events of v2 carry the chunks, and the end the whole."""
    model = scripted([ANSWER]).model

    async def collect() -> list[Any]:
        return [event async for event in model.astream_events("Hi", version="v2")]

    events = asyncio.run(collect())
    streamed = "".join(event["data"]["chunk"].text for event in events if event["event"] == "on_chat_model_stream")
    assert streamed == ANSWER.text
    assert events[-1]["data"]["output"].usage_metadata["output_tokens"] == 3


class Tokens(BaseCallbackHandler):
    """Counts what callbacks hear."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        self.heard.append(token)


@pytest.mark.parametrize("streaming", [True, False])
def test_callbacks_hear_every_token_once(streaming: bool) -> None:
    """With streaming=True also under invoke; never twice."""
    handler = Tokens()
    model = scripted([ANSWER, ANSWER], streaming=streaming).model
    message = model.invoke("Hi", config={"callbacks": [handler]})
    assert message.text == ANSWER.text
    assert "".join(handler.heard) == (ANSWER.text if streaming else "")
    handler.heard.clear()
    assert "".join(chunk.text for chunk in scripted([ANSWER]).model.stream("Hi", config={"callbacks": [handler]}))
    assert "".join(handler.heard) == ANSWER.text


def test_usage_callbacks_count_a_stream_once() -> None:
    """Cumulative usage on every chunk is not summed."""
    handler = UsageMetadataCallbackHandler()
    list(scripted([ANSWER]).model.stream("Hi", config={"callbacks": [handler]}))
    assert handler.usage_metadata[MODEL]["input_tokens"] == 11
    assert handler.usage_metadata[MODEL]["output_tokens"] == 3


def test_a_cache_answers_the_second_time() -> None:
    """The same question to the same model costs one request."""
    outcome = scripted([ANSWER], cache=InMemoryCache())
    assert outcome.model.invoke("Hi").text == outcome.model.invoke("Hi").text
    assert len(outcome.transport.requests) == 1
    outcome.model.invoke("Hi", temperature=0)
    assert len(outcome.transport.requests) == 2


def test_a_rate_limiter_is_asked() -> None:
    """LangChain's limiter stands before every call."""
    asked: list[bool] = []

    class Limiter(InMemoryRateLimiter):
        def acquire(self, *, blocking: bool = True) -> bool:
            asked.append(blocking)
            return True

    scripted([ANSWER], rate_limiter=Limiter()).model.invoke("Hi")
    assert asked == [True]


@pytest.mark.parametrize("mode", MODES)
def test_with_fallbacks_takes_the_next_model(mode: str) -> None:
    """Where the first model is busy another one answers."""
    spare = scripted([ANSWER], model="acme/two").model
    outcome = call(mode, ["capacity"], runnable=lambda model: model.with_fallbacks([spare]))
    assert outcome.message is not None
    assert outcome.message.text == ANSWER.text


def test_the_profile_is_the_catalogues() -> None:
    """What agents choose by; unknown models have none."""
    profile = ChatChutes(model=QWEN, api_key=KEY).profile
    assert profile is not None
    assert (profile["max_input_tokens"], profile["tool_calling"], profile["image_inputs"]) == (40960, True, False)
    assert ChatChutes(model=MODEL, api_key=KEY).profile is None
    assert ChatChutes(model=MODEL, api_key=KEY, profile={"tool_calling": True}).profile == {"tool_calling": True}


def test_tokens_are_counted_without_a_network() -> None:
    """An estimate, or the tokenizer that was given."""
    model = ChatChutes(model=QWEN, api_key=KEY)
    assert 8 <= model.get_num_tokens("The quick brown fox jumps over the lazy dog.") <= 14
    messages = [SystemMessage("Be brief."), HumanMessage("How are you?")]
    assert 12 <= model.get_num_tokens_from_messages(messages) <= 24
    with pytest.raises(ConfigurationError, match="custom_get_token_ids"):
        model.get_token_ids("Hi")
    own = ChatChutes(model=QWEN, api_key=KEY, custom_get_token_ids=lambda text: list(range(len(text))))
    assert own.get_num_tokens("four") == 4
    assert own.get_token_ids("four") == [0, 1, 2, 3]
    assert own.get_num_tokens_from_messages([HumanMessage("four")]) > 4


def test_tracing_names() -> None:
    """Traces say which service, which model and how it was asked, and never the key."""
    model = ChatChutes(model=QWEN, api_key=KEY, temperature=0.5, max_tokens=9, stop="x")
    assert model._get_ls_params(stop=["y"]) == {
        "ls_provider": "chutes",
        "ls_model_type": "chat",
        "ls_model_name": QWEN,
        "ls_temperature": 0.5,
        "ls_max_tokens": 9,
        "ls_stop": ["y"],
    }
    assert model._get_ls_params()["ls_stop"] == ["x"]
    assert model._identifying_params == {"model": QWEN, "temperature": 0.5, "max_tokens": 9, "stop": "x"}
    assert model._llm_type == "chutes-chat"
    assert model.model_name == QWEN
    assert model.metadata is not None
    assert "chutes-connect" in model.metadata["lc_versions"]


def test_the_key_is_masked_everywhere() -> None:
    """No repr, dump, pickle or trace has it."""
    model = ChatChutes(model=QWEN, api_key=KEY, timeout=TimeLimits(total=3))
    for shown in (repr(model), str(model), str(dumpd(model)), repr(model.client), str(model.asdict())):
        assert KEY not in shown
    assert KEY.encode() not in pickle.dumps(model)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_a_model_written_down_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangChain's serialisation round-trips, time limits included; the key comes from the environment."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_other")
    model = ChatChutes(model=QWEN, api_key=KEY, temperature=0, timeout=TimeLimits(total=3), reasoning="low")
    again = load(
        dumpd(model), allowed_objects=[ChatChutes], valid_namespaces=["langchain_chutes"], secrets_from_env=True
    )
    assert isinstance(again, ChatChutes)
    assert again.timeout == TimeLimits(total=3)
    assert again._identifying_params == model._identifying_params
    assert isinstance(again.api_key, SecretStr)
    assert again.api_key.get_secret_value() == "cpk_other"


def test_a_pickled_model_finds_its_own_key() -> None:
    """It travels without its key and its connections."""
    model = ChatChutes(model=QWEN, api_key=KEY, temperature=0)
    _ = model.client
    again = pickle.loads(pickle.dumps(model))
    assert (again.model, again.temperature, again.api_key) == (QWEN, 0, None)
    assert again.client is not model.client
    assert isinstance(copy.copy(model), ChatChutes)
    with pytest.raises(TypeError, match="connections cannot be serialized"):
        pickle.dumps(scripted().model)


def test_the_environment_is_read_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment is shown, and a token there wins over it as in the core."""
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    shown = ChatChutes(model=QWEN)
    assert isinstance(shown.api_key, SecretStr)
    assert repr(shown.client).endswith("api_key=Credential(from the environment))")
    monkeypatch.setenv("CHUTES_OAUTH_TOKEN", "cak_0123")
    assert ChatChutes(model=QWEN).api_key is None


def test_a_function_as_a_key() -> None:
    """A key that changes is asked for at every call."""
    outcome = scripted([ANSWER, ANSWER], api_key=lambda: KEY)
    assert outcome.model.invoke("Hi").text == ANSWER.text


def test_warnings_of_the_core_reach_the_caller() -> None:
    """A parameter that the gateway drops is told of."""
    with pytest.warns(ChutesWarning, match="logprobs"):
        scripted([ANSWER], logprobs=True).model.invoke("Hi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scripted([ANSWER]).model.invoke("Hi")


def test_chunks_are_of_langchains_class() -> None:
    """Nobody has to know ours."""
    assert {type(chunk) for chunk in scripted([ANSWER]).model.stream("Hi")} == {AIMessageChunk}


@pytest.mark.parametrize("mistake", [{"timeout": -1}, {"temperature": "hot"}, {"temprature": 0}, {"model": ""}])
def test_an_error_at_the_door_does_not_show_the_key(mistake: dict[str, Any]) -> None:
    """Whichever argument is wrong, what was given beside it is not in the message."""
    with pytest.raises(ValidationError) as caught:
        ChatChutes(**{"model": "acme/one", "api_key": "cpk_fakefakefake", **mistake})
    assert "fakefakefake" not in str(caught.value) + repr(caught.value)


def test_a_conversation_counts_all_that_is_sent() -> None:
    """Texts, calls, images and tools; the bytes of an image are not text."""
    count = ChatChutes(model="acme/one").get_num_tokens_from_messages
    plain = count([HumanMessage("Hello")])
    picture = {"type": "image", "base64": "iVBORw0KGgo" + "A" * 100_000, "mime_type": "image/png"}
    assert plain < 1_000 < count([HumanMessage(["Hello", picture])]) < 2_000
    calling = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c"}])
    assert count([calling, ToolMessage("3", tool_call_id="c")]) > 2 * plain

    def add(a: int) -> int:
        """Add."""
        return a

    assert count([HumanMessage("Hello")], [add]) > plain + 10
