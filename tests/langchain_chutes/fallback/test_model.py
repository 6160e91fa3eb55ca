"""A model made of several: whatever happens to some of them, there is one whole answer or one honest error."""

from __future__ import annotations

import asyncio
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import get_usage_metadata_callback
from langchain_core.exceptions import LangChainException
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables.fallbacks import RunnableWithFallbacks
from langchain_core.tracers.context import collect_runs

from chutes_core import APIError, CapacityError, ChutesWarning, StreamInterruptedError
from chutes_core.errors import RequestRefusedError
from chutes_core.fallback.report import report
from chutes_core.testing import FAULTS, Answer, Fault
from langchain_chutes import ChatChutes, ChutesFallback, FallbackError, FallbackPolicy, Health
from langchain_chutes.fallback import acollect, collect, is_restart, render
from tests.langchain_chutes.fallback_stage import (
    ANSWER,
    NAMES,
    PAYING,
    POLICY,
    RESTART,
    STREAMED,
    Other,
    Person,
    Plain,
    RateLimitError,
    Recorder,
    Tree,
    pay,
    stage,
)
from tests.langchain_chutes.models import KEY, MODES

# ------------------------------------------------------------------------------------------ invariants


FAULT = st.builds(
    Fault, st.sampled_from(sorted(FAULTS)), after=st.integers(0, 4), answer=st.sampled_from([ANSWER, PAYING])
)


@hypothesis_settings(max_examples=60)
@given(st.lists(FAULT, max_size=6), st.sampled_from([POLICY, RESTART]), st.booleans())
def test_the_invariants_hold_sync_and_async(script: list[Any], policy: FallbackPolicy, whole: bool) -> None:
    """One whole answer or one error, no cut tool call, in time, attempts listed once; the same sync and async."""
    told = []
    for mode in ("sync-whole", "async-whole") if whole else ("sync-stream", "async-stream"):
        random.seed(0)  # the same waits
        made = stage(script, policy=policy).call(mode)
        assert made.transport.open_replies == 0
        assert made.clock.now() <= 60 + 1e-6
        assert len(made.transport.requests) <= policy.max_attempts
        if made.error is None:
            assert made.message.text in (ANSWER.text, PAYING.text, "")
            assert all(call["args"] == {"amount": 1000} for call in made.message.tool_calls)
            assert [each["model"] for each in made.attempts] == made.models
            outcome: Any = (made.message.text, [(each["model"], each["kind"]) for each in made.attempts])
        else:
            assert isinstance(made.error, APIError | FallbackError)
            assert [each.model for each in made.error.attempts] == made.models  # type: ignore[union-attr]
            outcome = str(made.error)
        attempts = made.attempts if made.error is None else list(map(report, made.error.attempts))  # type: ignore[union-attr]
        assert sum(each["elapsed"] for each in attempts) <= made.clock.now() + 1e-6
        total = made.model.members[0].ledger.totals()  # type: ignore[attr-defined]
        assert sum(each["usage"]["total_tokens"] for each in attempts if each["usage"]) == total.usage.total_tokens
        told.append((outcome, ["" if is_restart(each) else each.text for each in made.chunks], made.clock.now()))
    assert told[0] == told[1]


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_is_at_fault_costs_one_attempt(mode: str) -> None:
    """What no member can put right is not asked again."""
    made = stage(["bad_request"]).call(mode)
    assert isinstance(made.error, FallbackError)
    assert len(made.transport.requests) == 1


@pytest.mark.parametrize("mode", MODES)
def test_when_nobody_answers_one_error_says_all(mode: str) -> None:
    """The error is a group with every failure, and one of LangChain's too."""
    made = stage(["cold"] * 20, policy=FallbackPolicy(deadline=60, max_attempts=4)).call(mode)
    error = made.error
    assert isinstance(error, FallbackError)
    assert isinstance(error, LangChainException)
    assert len(error.exceptions) == 4
    assert all(name in str(error) for name in NAMES)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# ------------------------------------------------------------------------------------------ after a part was seen


@pytest.mark.parametrize("mode", sorted(STREAMED))
def test_a_broken_answer_is_raised_with_its_part(mode: str) -> None:
    """By default a stream that breaks after a part was seen raises the failure itself."""
    made = stage([Fault("error_line", after=2, answer=ANSWER)]).call(mode)
    assert isinstance(made.error, APIError)
    assert made.error.partial == "".join(chunk.text for chunk in made.chunks)


@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_what_is_not_streamed_may_always_begin_anew(mode: str) -> None:
    """Under invoke nobody saw the part, so another member answers."""
    made = stage([Fault("error_line", after=2, answer=ANSWER)]).call(mode)
    assert made.message.text == ANSWER.text


def test_a_restart_is_marked_and_every_sum_is_right() -> None:
    """Whoever adds chunks up, or renders them, has the whole answer once."""
    made = stage([Fault("error_line", after=2, answer=ANSWER)], policy=RESTART).call("sync-stream")
    assert sum(map(is_restart, made.chunks)) == 1
    one_by_one = made.chunks[0]
    for chunk in made.chunks[1:]:
        one_by_one += chunk
    assert one_by_one.text == collect(made.chunks).text == ANSWER.text
    assert type(one_by_one) is AIMessageChunk
    assert list(render(made.chunks))[-1] == ANSWER.text
    assert "" in list(render(made.chunks))
    assert [each["outcome"] for each in made.attempts] == ["failed", "answered"]


async def test_an_async_stream_is_collected_too() -> None:
    """The same helper for async streams."""
    made = stage([Fault("error_line", after=2, answer=ANSWER)], policy=RESTART)
    assert (await acollect(made.model.astream("Hi"))).text == ANSWER.text


def test_a_run_with_a_restart_is_recorded_right() -> None:
    """What LangChain adds up for tracers is the answer, not the broken part and the answer."""
    seen = Recorder()
    stage([Fault("error_line", after=2, answer=ANSWER)], policy=RESTART).call(
        "sync-stream", config={"callbacks": [seen]}
    )
    assert seen.ends[-1] == ANSWER.text


def test_tool_calls_wait_until_they_are_whole() -> None:
    """With restart no piece of a tool call is given out before the answer is whole."""
    broken = Fault("error_line", after=5, answer=PAYING)
    made = stage([broken, PAYING], policy=RESTART).call("sync-stream")
    assert [call["args"] for call in made.message.tool_calls] == [{"amount": 1000}]
    marker = next(position for position, chunk in enumerate(made.chunks) if is_restart(chunk))
    assert not any(chunk.tool_call_chunks for chunk in made.chunks[:marker])


@pytest.mark.skipif(not hasattr(ChutesFallback, "stream_events"), reason="langchain-core has it since 1.4")
def test_the_event_protocol_gets_no_restart() -> None:
    """Where LangChain has no word for forgetting, the failure is raised."""
    made = stage([Fault("error_line", after=2, answer=ANSWER)], policy=RESTART)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = made.model.stream_events("Hi", version="v3")
        with pytest.raises(APIError):
            _ = events.output


@pytest.mark.skipif(not hasattr(ChutesFallback, "stream_events"), reason="langchain-core has it since 1.4")
@pytest.mark.parametrize("kind", ["model", "fallback"])
def test_callbacks_hear_the_tokens_of_the_event_protocol(kind: str) -> None:
    """Of a fallback as of a model: LangChain itself tells them the events alone."""
    made, recorder = stage(["capacity" if kind == "fallback" else ANSWER]), Recorder()
    model = made.model if kind == "fallback" else made.model.members[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = model.stream_events("Hi", {"callbacks": [recorder]}, version="v3")
        assert events.output.text == ANSWER.text
    assert "".join(token for _, token in recorder.tokens) == ANSWER.text
    assert len({run for run, _ in recorder.tokens}) == 1


# ------------------------------------------------------------------------------------------ tools and forms


@pytest.mark.parametrize("mode", MODES)
def test_tools_reach_every_member(mode: str) -> None:
    """A member that takes over has the same tools and choice."""
    made = stage(["capacity", PAYING])
    made.call(mode, made.model.bind_tools([pay], tool_choice="any"))
    assert [call["name"] for call in made.message.tool_calls] == ["pay"]
    first, second = (request.body for request in made.transport.requests)
    assert first["tools"] == second["tools"]
    assert second["tool_choice"] == "required"


def test_tools_reach_others_in_their_own_way() -> None:
    """A model of another provider is given the tools themselves, through its own bind_tools."""
    other = Other.of("Done.")
    made = stage(["cold"] * 9, ["acme/one", other])
    bound = made.model.bind_tools([pay], tool_choice={"type": "function", "function": {"name": "pay"}})
    assert bound.invoke("Pay").text == "Done."
    assert other._asked[0]["other_tools"] == [pay]
    assert other._asked[0]["other_choice"] == "pay"


def test_a_choice_that_is_no_tool_is_refused() -> None:
    """At the door, with the nearest name."""
    with pytest.raises(RequestRefusedError, match="Did you mean 'pay'"):
        stage().model.bind_tools([pay], tool_choice="pya")


@pytest.mark.parametrize("method", [None, "json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_an_answer_without_the_form_is_a_failure(mode: str, method: Any) -> None:
    """The next member gives the form that was asked for."""
    good = Answer('{"name": "Ada", "age": 36}')
    if method == "function_calling":
        good = Answer("", tool_calls=[("Person", {"name": "Ada", "age": 36})])
    made = stage([Answer("I will not."), good])
    made.call(mode, made.model.with_structured_output(Person, method=method))
    assert made.message == Person(name="Ada", age=36)
    assert len(made.transport.requests) == 2


def test_a_cut_form_is_not_asked_for_again() -> None:
    """An answer that met its length limit would meet it everywhere."""
    made = stage([Answer('{"name": "Ada"', finish_reason="length")])
    with pytest.raises(Exception, match="length limit"):
        made.model.with_structured_output(Person).invoke("Who?")
    assert len(made.transport.requests) == 1


def test_the_raw_answer_may_have_another_form() -> None:
    """With include_raw nothing is raised."""
    made = stage([Answer("I will not.")])
    got = made.model.with_structured_output(Person, include_raw=True).invoke("Who?")
    assert got["raw"].text == "I will not."
    assert got["parsed"] is None
    assert got["parsing_error"] is not None


def test_a_form_comes_out_of_others_too() -> None:
    """A model of another provider is asked by its own with_structured_output."""
    called = AIMessageChunk(
        content="", tool_call_chunks=[{"name": "Person", "args": '{"name": "Ada", "age": 36}', "id": "1", "index": 0}]
    )
    made = stage(["cold"] * 9, ["acme/one", Other.of(called)])
    assert made.model.with_structured_output(Person).invoke("Who?") == Person(name="Ada", age=36)


# ------------------------------------------------------------------------------------------ arguments of a call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["timeout", "request_timeout"])
def test_a_call_may_have_a_shorter_limit(name: str, mode: str) -> None:
    """Each attempt is held to it."""
    made = stage(["hang"]).call(mode, **{name: 2.0})
    assert made.message.text == ANSWER.text
    assert [each["kind"] for each in made.attempts] == ["total_timeout", None]
    assert made.clock.now() == pytest.approx(2)


@pytest.mark.parametrize("mode", MODES)
def test_a_choice_of_a_tool_may_be_given_to_the_call(mode: str) -> None:
    """Every member is given it in its own way."""
    made = stage([PAYING]).call(mode, tools=[pay], tool_choice="any")
    assert made.transport.requests[0].body["tool_choice"] == "required"
    made = stage([PAYING])
    made.call(mode, made.model.bind_tools([pay], tool_choice="pay"))
    assert made.transport.requests[0].body["tool_choice"] == {"type": "function", "function": {"name": "pay"}}


# ------------------------------------------------------------------------------------------ others


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([RateLimitError("slow down")], "rate_limit"),
        ([""], "empty"),
        ([ConnectionResetError("gone")], "reset"),
    ],
)
def test_what_others_fail_with_is_read(script: list[Any], kind: str, mode: str) -> None:
    """The failures of another provider's model hand over to ours, in every way to call."""
    made = stage([], [Other.of(*script), "acme/one"]).call(mode)
    assert made.message.text == ANSWER.text
    assert [(each["model"], each["kind"]) for each in made.attempts] == [("other/model", kind), ("acme/one", None)]


@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_a_cut_answer_of_others_is_seen(mode: str) -> None:
    """A provider that says how answers end, and did not, cut this one; nor is a cut tool call ever given out."""
    made = stage([], [Other.of("Half an ans", provider="openai"), "acme/one"]).call(mode)
    assert made.attempts[0]["kind"] == "truncated"
    cut = AIMessageChunk("", tool_call_chunks=[{"name": "pay", "args": '{"am', "id": "1", "index": 0}])
    made = stage([], [Other.of(cut), "acme/one"]).call(mode)
    assert made.attempts[0]["kind"] == "malformed"
    assert made.message.tool_calls == []


@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
@pytest.mark.parametrize("arguments", ['{"amount": 1', "[1]", None, '{"amount": 1}'])
def test_an_invalid_call_beside_text_is_no_answer(arguments: str | None, mode: str) -> None:
    """Also where another provider's model gives its answer in one piece, with a text that is whole."""
    broken = {"type": "invalid_tool_call", "name": "pay", "args": arguments, "id": "1", "error": "cut"}
    told: Any = {"model_provider": "openai", "finish_reason": "length"}
    answer = AIMessage("Let me pay.", invalid_tool_calls=[broken], response_metadata=told)
    with pytest.warns(ChutesWarning, match="Plain"):
        made = stage([PAYING], [Plain(answer=answer), "acme/one"])
    made.call(mode, made.model.bind_tools([pay]))
    assert [each["kind"] for each in made.attempts] == ["malformed", None]
    assert [each["args"] for each in made.message.tool_calls] == [{"amount": 1000}]
    assert made.message.invalid_tool_calls == []


def test_a_mistake_in_somebody_elses_code_is_no_failure() -> None:
    """It goes through as it is, and marks nobody."""
    made = stage([], [Other.of(KeyError("typo")), "acme/one"])
    with pytest.raises(KeyError):
        made.model.invoke("Hi")
    assert made.model.health.snapshot()["members"] == {}


def test_what_does_not_stream_answers_in_one_piece() -> None:
    """A model without a stream is a member as well; that its retries cannot be turned off is said once."""
    with pytest.warns(ChutesWarning, match="Plain"):
        made = stage(["cold"] * 9, ["acme/one", Plain()])
    assert made.call("sync-stream").message.text == "Plainly."


def test_the_retries_of_others_are_turned_off_in_a_copy() -> None:
    """The model that was listed stays as it is."""
    mine, other = ChatChutes(model="acme/one", api_key=KEY), Other()
    model = ChutesFallback([mine, other])
    assert [member.max_retries for member in model.members] == [0, 0]  # type: ignore[attr-defined]
    assert (mine.max_retries, other.max_retries) == (2, 2)


# ------------------------------------------------------------------------------------------ LangChain


@pytest.mark.parametrize("mode", MODES)
def test_a_run_and_a_child_for_each_attempt(mode: str) -> None:
    """Tracers and callbacks see one run of a model, and below it a run of a chain per attempt, with all it used."""
    seen, tree = Recorder(), Tree()
    made = stage([Fault("reset", after=2)], policy=RESTART).call(mode, config={"callbacks": [seen, tree]})
    ((parent, above),) = seen.starts
    assert (above, {run for run, _ in seen.tokens}) == (None, {parent} if mode in STREAMED else set())
    assert [(name, isinstance(error, StreamInterruptedError), under) for name, error, under in seen.attempts] == [
        ("Attempt acme/one", True, parent),
        ("Attempt acme/two", False, parent),
    ]
    assert seen.events == [("acme/one", "failed"), ("acme/two", "answered")]
    (root,) = tree.roots
    failed, answered = root.child_runs
    assert [root.run_type, failed.run_type, answered.run_type] == ["llm", "chain", "chain"]
    assert (root.error, bool(failed.error), answered.error) == (None, True, None)
    assert [failed.inputs["usage"], answered.outputs["usage"]] == [each["usage"] for each in made.attempts]
    assert failed.start_time <= failed.end_time <= answered.start_time <= answered.end_time


async def test_events_come_once() -> None:
    """The stream of events has each piece of the answer once, and an event for each attempt."""
    made = stage(["capacity"])
    text, attempts = "", []
    async for event in made.model.astream_events("Hi", version="v2"):
        if event["event"] == "on_chat_model_stream":
            text += event["data"]["chunk"].text  # type: ignore[typeddict-item]
        if event["event"] == "on_custom_event":
            attempts.append(event["data"]["outcome"])  # type: ignore[typeddict-item]
    assert text == ANSWER.text
    assert attempts == ["failed", "answered"]


def test_usage_is_counted_once() -> None:
    """LangChain's own counter has the tokens of the answer."""
    with get_usage_metadata_callback() as counted:
        stage(["capacity"]).call("sync-whole")
    assert [each["total_tokens"] for each in counted.usage_metadata.values()] == [15]


def test_chains_and_batches() -> None:
    """A prompt, the model and a parser in line, for several inputs."""
    made = stage(["capacity", "cold"])
    chain = ChatPromptTemplate.from_template("Say {word}") | made.model | StrOutputParser()
    assert chain.batch([{"word": "a"}, {"word": "b"}], config={"max_concurrency": 1}) == [ANSWER.text] * 2
    assert "".join(chain.stream({"word": "a"})) == ANSWER.text


def test_a_cached_answer_asks_nobody() -> None:
    """LangChain's cache works, and errors do not get into it."""
    made = stage(["capacity"], cache=InMemoryCache())
    first, second = made.model.invoke("Hi"), made.model.invoke("Hi")
    assert first.text == second.text
    assert len(made.transport.requests) == 2


def test_by_langchains_own_habit() -> None:
    """with_fallbacks of our model gives a fallback, and honours the exceptions to handle."""
    made = stage(["capacity"])
    one, two = made.model.members[:2]
    taken = one.with_fallbacks([two])  # type: ignore[list-item]
    assert isinstance(taken, ChutesFallback)
    assert taken.invoke("Hi").text == ANSWER.text
    strict = stage(["capacity"]).model.members[0].with_fallbacks([two], exceptions_to_handle=(KeyError,))  # type: ignore[list-item]
    with pytest.raises(CapacityError):
        strict.invoke("Hi")
    odd = ChutesFallback([Other.of(KeyError("odd")), two], handled=(KeyError,))
    assert odd.invoke("Hi").text == ANSWER.text


def test_what_it_cannot_honour_stays_langchains() -> None:
    """Chains as fallbacks, and exceptions handed on as input, are LangChain's own."""
    one, two = stage().model.members[:2]
    assert isinstance(one.with_fallbacks([two | StrOutputParser()]), RunnableWithFallbacks)
    assert isinstance(one.with_fallbacks([two], exception_key="error"), RunnableWithFallbacks)


# ------------------------------------------------------------------------------------------ asyncio


def test_two_event_loops() -> None:
    """One model serves any number of event loops."""
    made = stage(["cold"])
    assert [asyncio.run(made.model.ainvoke("Hi")).text for _ in range(2)] == [ANSWER.text] * 2


@pytest.mark.parametrize("waits", range(0, 24, 3))
async def test_a_cancel_is_no_failure(waits: int) -> None:
    """Wherever it comes, it leaves nothing open and marks nobody."""
    made = stage([])
    task = asyncio.create_task(made.model.ainvoke("Hi"))
    for _ in range(waits):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert made.transport.open_replies == 0
    assert "failed" not in str([each for each in made.model.health.snapshot()["members"].values() if each["failures"]])  # type: ignore[attr-defined]


def test_leaving_a_stream_is_no_failure() -> None:
    """A reader who stops leaves no connection open."""
    made = stage([])
    stream = made.model.stream("Hi")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert made.transport.open_replies == 0
    assert made.model.health.snapshot()["members"] == {}


# ------------------------------------------------------------------------------------------ making one


def test_routes_and_lines(tmp_path: Path) -> None:
    """A line of names, a mapping, and a file make the same model."""
    file = tmp_path / "routes.toml"
    file.write_text('[routes.short]\nmodels = ["acme/one", "acme/two"]\ntemperature = 0\npolicy = { deadline = 30 }\n')
    by_file = ChutesFallback.route("short", file, api_key=KEY)
    by_line = ChutesFallback.from_models("acme/one,acme/two", api_key=KEY, temperature=0, policy={"deadline": 30})
    assert repr(by_file) == repr(by_line) == "ChutesFallback(['acme/one', 'acme/two'], deadline=30)"
    assert all(member.temperature == 0 for member in by_file.members)  # type: ignore[attr-defined]


def test_an_account_that_cannot_pay_is_left() -> None:
    """A failure of the account skips all its members, and another account answers."""
    made = stage(["quota"], ["acme/one", "acme/two", Other.of("Paid for.")])
    assert made.call("sync-whole").message.text == "Paid for."
    assert len(made.transport.requests) == 1


def test_who_cannot_take_it_is_skipped() -> None:
    """An image goes only to models that see, and the trace says why."""
    made = stage([], ["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"])
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}])
    made.call("sync-whole", ask=[image])
    assert [(each["outcome"], each["detail"][:8]) for each in made.attempts] == [
        ("skipped", "no image"),
        ("answered", ""),
    ]


def test_a_long_prompt_goes_to_a_larger_window() -> None:
    """Before anything is sent."""
    made = stage([], ["Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"])
    made.call("sync-whole", ask="word " * 50_000)
    assert made.models == ["google/gemma-4-31B-turbo-TEE"]


def test_health_is_shared() -> None:
    """What one model learns the other knows."""
    health = Health()
    first = stage(["cold"], health=health)
    first.call("sync-whole")
    second = stage([], health=health)
    second.call("sync-whole")
    assert second.models == ["acme/two"]
    assert "acme/one" in str(first.model.health)


def test_keys_do_not_travel() -> None:
    """Neither in pickles nor in JSON nor in what is printed; and a copy works."""
    model = ChutesFallback.from_models("acme/one,acme/two", api_key="cpk_verysecret", policy=POLICY)
    for told in (str(pickle.dumps(model)), dumps(model), repr(model), str(model.model_dump())):
        assert "verysecret" not in told
    copy = pickle.loads(pickle.dumps(model))
    assert repr(copy) == repr(model)
    assert copy.policy == POLICY
    assert isinstance(copy.health, Health)


def test_what_is_known_of_it() -> None:
    """The profile is what holds whoever answers."""
    model = ChutesFallback.from_models("Qwen/Qwen3-32B-TEE,google/gemma-4-31B-turbo-TEE", api_key=KEY)
    assert model.profile is not None
    assert model.profile["max_input_tokens"] == 40960
    assert model.profile["image_inputs"] is False
    assert model.get_num_tokens("Hello there") > 0


def test_usage_is_counted_once_under_a_tracer() -> None:
    """Also where attempts have runs of their own; and whoever collects runs has them."""
    with get_usage_metadata_callback() as counted, collect_runs() as collected:
        stage(["capacity"]).call("sync-stream", config={"callbacks": [Tree()]})
    assert [each["total_tokens"] for each in counted.usage_metadata.values()] == [15]
    assert len(collected.traced_runs[0].child_runs) == 2
