"""The fallback as a model of the framework: every fault in every place and style, tools, objects, agents, strangers."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import PromptTemplate, SummaryIndex
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.schema import Document

import llama_index_chutes
from chutes_core import APIError, ChutesWarning, ConfigurationError, Kind, RequestRefusedError
from chutes_core.testing import FAULTS, Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from llama_index_chutes import Chutes, ChutesFallback, FallbackError, FallbackPolicy, Health
from llama_index_chutes.fallback import AttemptEvent, acollect, arender, collect, is_restart, render

from .rigs import CHAT_STYLES, HELLO, KEY, STREAMS, STYLES, TOOLS, Entry, Outcome, ask, connection, gather, text_of

MEMBERS = ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"]
ANSWER = Answer("The answer is forty-two.", pieces=4)
OTHER = Answer("Forty-two, says the other.", pieces=3)
PAYING = Answer("Paying.", tool_calls=[("pay", {"amount": 1000, "to": "bob"})], pieces=3)
POLICY = FallbackPolicy(first_token=5, gap=5, deadline=60)
RESTART = replace(POLICY, after_commit="restart")
PAID = {"amount": 1000, "to": "bob"}
# What a fault of one member does: nothing (the answer is whole), or an error for every member at once.
WHOLE = {"no_done", "no_usage", "cumulative_usage", "slow_drip", "reasoning_only"}
FINAL = {"bad_request", "account_limit", "keyless", "quota", "auth"}
# Of these a part of the answer has been given out before they show.
LATE = {"stall", "reset", "no_finish", "error_line", "error_event", "restart", "malformed", "done_only"}


@dataclass
class Stage:
    """A fallback over one scripted service."""

    llm: ChutesFallback
    transport: FaultyTransport
    clock: VirtualClock

    @property
    def asked(self) -> list[str]:
        return [request.model for request in self.transport.requests]


def stage(script: Sequence[Entry] = (), members: Sequence[Any] = MEMBERS, **settings: Any) -> Stage:
    """Members that share a scripted transport; what the script does not say is a whole answer."""
    made = FaultScript(list(script), default=ANSWER)
    transport, clock, connected = connection(made)
    if not any(isinstance(each, str) for each in members):
        connected = {"clock": clock}
    llm = ChutesFallback(members, **{"policy": POLICY, **connected, **settings})
    llm._chance = lambda: 0.5
    return Stage(llm, transport, clock)


def attempts(outcome: Outcome) -> list[dict[str, Any]]:
    """What the answer, or the error, says of the attempts."""
    if outcome.error is None:
        rows: list[dict[str, Any]] = outcome.last.raw["chutes_attempts"]
        return rows
    assert isinstance(outcome.error, FallbackError)
    return [{"model": each.model, "outcome": each.outcome, "kind": each.kind} for each in outcome.error.attempts]


# --------------------------------------------------------------------------------- every fault, place and style


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_in_a_place_in_a_style(fault: str, position: int, style: str) -> None:
    """A whole answer of the next member, or the right error; in time, nothing open, each attempt told once."""
    script: list[Entry] = [*["cold"] * position, replace(Fault.parse(fault), answer=OTHER)]
    if fault == "slow_drip":
        script[-1] = Fault("slow_drip", seconds=0.01, answer=OTHER)
    made = stage(script)
    outcome = ask(made.llm, style)
    assert made.transport.open_replies == 0
    assert made.clock.now() <= 60
    # Of the windows the second member's is the largest: after it nobody is left for what is too long.
    if fault in FINAL or (fault == "overflow" and position == 1):
        assert isinstance(outcome.error, FallbackError)
        assert len(made.transport.requests) == position + 1 == len(outcome.error.attempts)
    elif fault in LATE and style in STREAMS:
        assert isinstance(outcome.error, APIError)
        assert outcome.error.partial == outcome.streamed != ""
    else:
        assert outcome.error is None
        served = position if fault in WHOLE else position + 1
        text = "" if fault == "reasoning_only" else OTHER.text if fault in WHOLE else ANSWER.text
        assert text_of(outcome.last) == text
        assert outcome.last.raw["model_name"] == MEMBERS[served]
        assert [row["outcome"] for row in attempts(outcome)] == [*["failed"] * served, "answered"]
        if style in STREAMS:
            assert outcome.streamed == text
    assert made.asked == MEMBERS[: len(made.asked)]


FAULT = st.builds(
    Fault, st.sampled_from(sorted(FAULTS)), after=st.integers(0, 4), answer=st.sampled_from([ANSWER, PAYING])
)


@settings(max_examples=60)
@given(st.lists(FAULT, max_size=6), st.sampled_from(["chat", "stream_chat"]), st.sampled_from([POLICY, RESTART]))
def test_the_invariants(script: list[Entry], style: str, policy: FallbackPolicy) -> None:
    """One whole answer of one member or one error; no cut call; in time; the same story blocking and async."""
    blocking, waiting = stage(script, policy=policy), stage(script, policy=policy)
    outcome = ask(blocking.llm, style, tools=TOOLS)
    other = ask(waiting.llm, f"a{style}", tools=TOOLS)
    assert (outcome.chunks, str(outcome.error)) == (other.chunks, str(other.error))
    assert blocking.clock.now() == waiting.clock.now() <= 60 + 1e-6
    assert blocking.asked == waiting.asked
    assert len(blocking.asked) <= policy.max_attempts
    assert blocking.transport.open_replies == waiting.transport.open_replies == 0
    calls = [call.tool_kwargs for chunk in outcome.chunks for call in selections(blocking.llm, chunk)]
    assert all(call == PAID for call in calls)
    if outcome.error is not None:
        assert style == "stream_chat" or not outcome.chunks
        return
    rows = attempts(outcome)
    assert [row["model"] for row in rows if row["outcome"] != "skipped"] == blocking.asked
    assert text_of(outcome.last) in (ANSWER.text, PAYING.text, "")
    assert last_text(outcome.chunks) == text_of(outcome.last) or style == "chat"


def selections(llm: ChutesFallback, chunk: ChatResponse) -> list[Any]:
    if chunk.message.additional_kwargs.get("invalid_tool_calls"):
        return []
    return llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False)


def last_text(chunks: Sequence[Any]) -> str:
    """What a reader of deltas has after the last reset marker."""
    text = ""
    for chunk in chunks:
        text = "" if is_restart(chunk) else text + (chunk.delta or "")
    return text


# ----------------------------------------------------------------------------------------------- what is told


def test_an_answer_says_who_gave_it_and_what_was_tried() -> None:
    """The attempts are plain data, with kind, status, time, tokens and cost."""
    made = stage([Fault("error_line", after=2, answer=OTHER)])
    raw = ask(made.llm, "chat").last.raw
    first, second = json.loads(json.dumps(raw["chutes_attempts"]))
    assert (first["model"], first["kind"], first["usage"]["completion_tokens"]) == (MEMBERS[0], "stream_error", 2)
    assert (second["model"], second["outcome"], second["kind"]) == (MEMBERS[1], "answered", None)
    assert second["usage"]["completion_tokens"] == raw["usage"]["completion_tokens"]
    assert second["cost"] > 0
    assert second["elapsed"] >= 0


def test_nobody_answers() -> None:
    """The error lists every attempt in order and is a group of the failures."""
    made = stage(["cold"] * 20, policy=replace(POLICY, max_attempts=4))
    error = ask(made.llm, "chat").error
    assert isinstance(error, FallbackError)
    assert [attempt.model for attempt in error.attempts] == [*MEMBERS, MEMBERS[0]] == made.asked
    assert {each.kind for each in error.exceptions if isinstance(each, APIError)} == {Kind.COLD}


class Listener(BaseEventHandler):
    """Remembers the attempts."""

    heard: list[Any] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        if isinstance(event, AttemptEvent):
            self.heard.append((event.attempt["model"], event.attempt["outcome"], event.span_id is None))


@pytest.mark.parametrize("style", STYLES)
def test_each_attempt_is_an_event(style: str) -> None:
    """Whoever listens to the framework's events hears of each attempt once."""
    listener = Listener()
    root = get_dispatcher()
    root.add_event_handler(listener)
    try:
        ask(stage(["cold"]).llm, style)
    finally:
        root.event_handlers.remove(listener)
    assert [each[:2] for each in listener.heard] == [(MEMBERS[0], "failed"), (MEMBERS[1], "answered")]


def test_health_is_shared_and_printed() -> None:
    """What one fallback learns another one knows, and a person can read it."""
    first = stage(["cold"])
    ask(first.llm, "chat")
    second = stage(health=first.llm.health)
    ask(second.llm, "chat")
    assert first.asked == MEMBERS[:2]
    assert second.asked == MEMBERS[1:2]
    assert MEMBERS[0] in str(second.llm.health)
    assert "cold" in str(second.llm.health)


def test_members_of_one_account_share_its_failures() -> None:
    """An account without money is not asked again under another model; a member with another key is."""
    transport, clock, connected = connection(FaultScript(["quota"], default=ANSWER))
    other = Chutes(model=MEMBERS[2], **{**connected, "api_key": "cpk_other"})
    llm = ChutesFallback([*MEMBERS[:2], other], policy=POLICY, **connected)
    outcome = ask(llm, "chat")
    assert [request.model for request in transport.requests] == [MEMBERS[0], MEMBERS[2]]
    assert outcome.last.raw["model_name"] == MEMBERS[2]
    assert "cpk" not in str(llm.health)
    assert clock.now() == 0


def test_the_same_model_with_two_keys_is_two_chances() -> None:
    """Each key's model has a health of its own; the same twice is a mistake."""
    transport, _, connected = connection(FaultScript(["capacity"], default=ANSWER))
    twins = [Chutes(model=MEMBERS[0], **{**connected, "api_key": key}) for key in (KEY, "cpk_other")]
    assert ask(ChutesFallback(twins), "chat").error is None
    assert len(transport.requests) == 2
    with pytest.raises(ConfigurationError, match="twice"):
        ChutesFallback([MEMBERS[0], MEMBERS[0]], **connected).chat(HELLO)


# ---------------------------------------------------------------------------------------------------- restart


@pytest.mark.parametrize("style", STREAMS)
def test_a_restart_is_marked(style: str) -> None:
    """The marker says that what came before is void; what follows is the whole answer."""
    made = stage([Fault("reset", after=2, answer=OTHER)], policy=RESTART)
    outcome = ask(made.llm, style)
    assert outcome.error is None
    marks = [chunk for chunk in outcome.chunks if is_restart(chunk)]
    assert [mark.raw for mark in marks] == [{"chutes_restart": MEMBERS[1]}]
    assert last_text(outcome.chunks) == text_of(outcome.last) == ANSWER.text
    assert list(render(outcome.chunks))[-1] == ANSWER.text
    assert "" in list(render(outcome.chunks))
    assert collect(outcome.chunks) is outcome.last


async def test_a_restarted_async_stream_is_read_the_same() -> None:
    """The helpers for async streams."""
    fault = Fault("reset", after=2, answer=OTHER)
    whole = await acollect(await stage([fault], policy=RESTART).llm.astream_chat(HELLO))
    assert whole.message.content == ANSWER.text
    shown = [text async for text in arender(await stage([fault], policy=RESTART).llm.astream_chat(HELLO))]
    assert shown[-1] == ANSWER.text
    with pytest.raises(ValueError, match="no chunks"):
        collect([])


@pytest.mark.parametrize("after", range(6))
def test_a_tool_call_is_held_until_it_is_whole(after: int) -> None:
    """Where an answer may begin anew no part of a call is seen early."""
    made = stage([Fault("reset", after=after, answer=PAYING), PAYING], policy=RESTART)
    outcome = ask(made.llm, "stream_chat", tools=TOOLS)
    seen = [block for chunk in outcome.chunks[:-4] for block in chunk.message.blocks if block.block_type == "tool_call"]
    assert outcome.error is None
    assert seen == []
    assert [call.tool_kwargs for call in selections(made.llm, outcome.last)] == [PAID]


def test_words_alone_have_no_room_for_a_marker() -> None:
    """Where only words come out, as in query engines, a broken answer is raised and never joined with another."""
    made = stage([Fault("reset", after=2, answer=OTHER)] * 2, policy=RESTART)
    words: list[str] = []
    with pytest.raises(APIError):
        words.extend(made.llm.stream(PromptTemplate("Hello")))

    async def listen() -> None:
        async for word in await made.llm.astream(PromptTemplate("Hello")):
            words.append(word)

    with pytest.raises(APIError):
        asyncio.run(listen())
    assert made.llm.policy.after_commit == "restart"


# ------------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("style", ["stream_chat", "astream_chat"])
def test_leaving_a_stream_is_no_failure(style: str, taken: int) -> None:
    """A reader who stops leaves no connection open and no mark on any member."""
    made = stage()

    def leave() -> None:
        chunks = made.llm.stream_chat(HELLO)
        for _ in range(taken):
            next(chunks)
        chunks.close()

    async def aleave() -> None:
        chunks: Any = await made.llm.astream_chat(HELLO)
        for _ in range(taken):
            await anext(chunks)
        await chunks.aclose()
        await asyncio.sleep(0)

    asyncio.run(aleave()) if style.startswith("a") else leave()
    assert made.transport.open_replies == 0
    assert made.llm.health.snapshot()["members"] == {}


@pytest.mark.parametrize("waits", range(0, 24, 2))
async def test_a_cancel_at_any_await_is_no_failure(waits: int) -> None:
    """The caller's cancel marks nobody and leaves nothing open."""
    made = stage(["cold"])
    task = asyncio.create_task(made.llm.achat(HELLO))
    for _ in range(waits):
        await asyncio.sleep(0)
    finished = task.done()
    task.cancel()
    if not finished:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert made.transport.open_replies == 0
    members: Any = made.llm.health.snapshot()["members"]
    assert finished or f"|{MEMBERS[1]}" not in members


def test_two_event_loops_and_threads() -> None:
    """One fallback serves several loops and threads."""
    made = stage()

    async def both() -> list[Any]:
        return list(await asyncio.gather(*(made.llm.achat(HELLO) for _ in range(3))))

    answers = [*asyncio.run(both()), *asyncio.run(both())]
    threads = [threading.Thread(target=lambda: answers.append(made.llm.chat(HELLO))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.message.content for answer in answers] == [ANSWER.text] * 10


# --------------------------------------------------------------------------------- tools, objects, agents, engines


@pytest.mark.parametrize("style", ["chat", "stream_chat", "achat", "astream_chat"])
def test_tools(style: str) -> None:
    """chat_with_tools and its twins send the tools to whoever is asked."""
    made = stage(["cold", PAYING])
    outcome = gather(made.llm, f"{style}_with_tools", TOOLS, user_msg="Pay.", tool_required=True)
    assert [call.tool_kwargs for call in made.llm.get_tool_calls_from_response(outcome.last)] == [PAID]
    for request in made.transport.requests:
        assert request.body["tool_choice"] == "required"
        assert request.body["parallel_tool_calls"] is False


def test_no_tool_call_is_an_error_only_if_asked() -> None:
    """As with every model of the framework."""
    made = stage()
    response = made.llm.chat(HELLO)
    assert made.llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ValueError, match=MEMBERS[0]):
        made.llm.get_tool_calls_from_response(response)


class City(BaseModel):
    """A city."""

    name: str
    people: int


CITY = Answer('{"name": "Bern", "people": 134000}', pieces=6)
PROMPT = PromptTemplate("Tell of {place}.")
PREDICT = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]


@pytest.mark.parametrize("style", PREDICT)
def test_objects(style: str) -> None:
    """An answer of which no object can be made is a failure, and the next member gives one."""
    made = stage(["cold", Answer("I would rather not.") if "stream" not in style else "capacity", CITY])
    outcome = gather(made.llm, style, City, PROMPT, place="Bern {and} more")
    assert outcome.error is None
    assert outcome.last == City(name="Bern", people=134000)
    assert made.asked == MEMBERS
    forms = {json.dumps(request.body.get("response_format")) for request in made.transport.requests}
    assert any("City" in form for form in forms)
    assert made.llm.health.vitals(f"|{MEMBERS[1]}").last_kind is (
        Kind.CAPACITY if "stream" in style else Kind.MALFORMED
    )


def test_an_object_through_the_frameworks_own_wrapper() -> None:
    """as_structured_llm works through it."""
    made = stage(["cold", CITY])
    assert made.llm.as_structured_llm(City).complete("Bern?").raw == City(name="Bern", people=134000)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("streaming", [True, False])
def test_a_function_agent(streaming: bool) -> None:
    """An agent's turns go on through failures; the history made by one member is read by another."""
    adding = Answer("", tool_calls=[("add", {"a": 1, "b": 2})])
    made = stage(["cold", adding, "capacity", Answer("It is 3.")], policy=RESTART)
    agent = FunctionAgent(tools=TOOLS, llm=made.llm, streaming=streaming)

    async def run() -> tuple[str, list[Any]]:
        handler = agent.run("Add 1 and 2.")
        events = [event async for event in handler.stream_events() if isinstance(event, AgentStream)]
        return str(await handler), events

    answer, _ = asyncio.run(run())
    assert answer == "It is 3."
    messages: Any = made.transport.requests[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert len(set(made.asked)) == 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("streaming", [True, False])
def test_a_query_engine(streaming: bool) -> None:
    """A query engine answers through it."""
    made = stage(["cold"])
    index = SummaryIndex.from_documents([Document(text="The bridge is red.")])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        answer = index.as_query_engine(llm=made.llm, streaming=streaming).query("What colour is the bridge?")
        assert str(answer) == ANSWER.text
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    assert made.asked == MEMBERS[:2]


# ------------------------------------------------------------------------------------------------ what is needed


def test_who_cannot_is_not_asked() -> None:
    """A member whose window is too small is skipped, and the reason is told."""
    made = stage()
    long = [ChatMessage("word and word " * 25_000)]
    outcome = ask(made.llm, "chat", long)
    skipped = [row for row in attempts(outcome) if row["outcome"] == "skipped"]
    assert [row["model"] for row in skipped] == [MEMBERS[0]]
    assert "window" in skipped[0]["detail"]
    assert made.asked == [MEMBERS[1]]


def test_nothing_is_sent_when_nobody_can() -> None:
    """Constraints hold, and say so."""
    made = stage(policy=replace(POLICY, max_price=0.000001))
    error = ask(made.llm, "chat").error
    assert isinstance(error, RequestRefusedError)
    assert made.asked == []


def test_the_system_prompt_comes_once() -> None:
    """Whether the framework has put it in or not."""
    made = stage(system_prompt="Be brief.")
    made.llm.chat(HELLO)
    made.llm.predict(PromptTemplate("Hello"))
    made.llm.chat([ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), *HELLO])
    for request in made.transport.requests:
        messages: Any = request.body["messages"]
        assert [message["role"] for message in messages] == ["system", "user"]


# ---------------------------------------------------------------------------------------------------- strangers


class RateLimitError(Exception):
    """As another provider's client raises it."""

    status_code = 429

    def __init__(self) -> None:
        super().__init__("slow down")
        self.response = httpx.Response(429, headers={"retry-after": "7"})


def said(
    text: str, *, raw: Any = None, calls: Sequence[tuple[str, Any]] = (), delta: str | None = None
) -> ChatResponse:
    """One chunk of a stranger's stream."""
    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
    message.blocks += [ToolCallBlock(tool_call_id="c1", tool_name=name, tool_kwargs=given) for name, given in calls]
    return ChatResponse(message=message, delta=text if delta is None else delta, raw=raw)


def chunk_raw(reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


class Stranger(FunctionCallingLLM):
    """Another provider's model: plays its list of failures and streams."""

    model: str = "other/model"
    api_key: str | None = "not-for-others"
    max_retries: int = 2
    calls_tools: bool = True
    streams: bool = True
    plays: list[Any] = Field(default_factory=list)
    asked: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name=self.model, is_function_calling_model=self.calls_tools, is_chat_model=True)

    def _play(self, messages: Sequence[ChatMessage], given: dict[str, Any]) -> list[ChatResponse]:
        self.asked.append({"messages": list(messages), "max_retries": self.max_retries, **given})
        play = self.plays.pop(0) if self.plays else [said("I am another.")]
        if isinstance(play, Exception):
            raise play
        return list(play)

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._play(messages, kwargs)[-1]

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._play(messages, kwargs)[-1]

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        if not self.streams:
            raise NotImplementedError

        def chunks() -> Generator[ChatResponse, None, None]:
            for chunk in self._play(messages, kwargs):
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

        return chunks()

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        chunks = self.stream_chat(messages, **kwargs)

        async def given() -> AsyncGenerator[ChatResponse, None]:
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk

        return given()

    def complete(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("it is asked for chats")

    acomplete = stream_complete = astream_complete = complete

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        kwargs.pop("verbose", None)
        return {"messages": chat_history, "tools": [tool.metadata.name for tool in tools], **kwargs}

    def get_tool_calls_from_response(self, response: Any, error_on_no_tool_call: bool = True, **kwargs: Any) -> Any:
        from llama_index.core.llms.llm import ToolSelection

        return [
            ToolSelection(
                tool_id=block.tool_call_id,
                tool_name=block.tool_name,
                tool_kwargs=json.loads(block.tool_kwargs) if isinstance(block.tool_kwargs, str) else block.tool_kwargs,
            )
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]


@pytest.mark.parametrize("style", STYLES)
def test_a_stranger_takes_over(style: str) -> None:
    """Another provider's model is a member like any other, without its own retries."""
    stranger = Stranger()
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == "I am another."
    assert outcome.last.raw["model_name"] == "other/model"
    assert [row["outcome"] for row in attempts(outcome)] == ["failed", "answered"]
    assert stranger.asked[0]["max_retries"] == 0
    assert stranger.max_retries == 2, "the model that was listed stays as it is"


@pytest.mark.parametrize("style", STYLES)
def test_a_stranger_fails(style: str) -> None:
    """Its client's exceptions are read for what they mean, and the next member takes over."""
    made = stage(members=[Stranger(plays=[RateLimitError()]), MEMBERS[0]])
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == ANSWER.text
    first = attempts(outcome)[0]
    assert (first["kind"], first["status_code"]) == ("rate_limit", 429)


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize(
    ("play", "kind"),
    [
        ([], "empty"),
        ([said("")], "empty"),
        ([said("Half", raw=chunk_raw()), said("Half a", raw=chunk_raw())], "truncated"),
        ([said("", calls=[("pay", '{"amount": 1000')])], "malformed"),
        ([said("Half"), ConnectionResetError("gone")], "reset"),
    ],
)
def test_what_a_stranger_cuts_is_not_whole(play: list[Any], kind: str, style: str) -> None:
    """An empty stream, one without a finish, a cut call, a broken connection: failures, and never an answer."""
    made = stage(members=[Stranger(plays=[play]), MEMBERS[0]])
    outcome = ask(made.llm, style)
    if style in STREAMS and any(getattr(chunk, "delta", "") for chunk in play):
        assert isinstance(outcome.error, APIError)
        assert outcome.error.kind.value == kind
        assert outcome.error.partial == text_of(outcome.last) != ""
        return
    assert attempts(outcome)[0]["kind"] == kind
    assert text_of(outcome.last) == ANSWER.text


def test_a_strangers_finish_is_seen() -> None:
    """A stream in OpenAI's form that says its finish is whole, and its usage is told."""
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    play = [said("Whole", raw=chunk_raw()), said("Whole", raw=chunk_raw("stop"), delta=""), said("Whole", raw=usage)]
    outcome = ask(stage(members=[Stranger(plays=[play]), MEMBERS[0]]).llm, "chat")
    assert text_of(outcome.last) == "Whole"
    assert attempts(outcome)[0]["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_stranger_gets_tools_its_own_way(style: str) -> None:
    """Tools go through its own preparation, and its calls come out like everybody's."""
    stranger = Stranger(plays=[[said("", calls=[("pay", json.dumps(PAID))])]])
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = gather(made.llm, f"{style}_with_tools", TOOLS, user_msg="Pay.")
    assert [call.tool_kwargs for call in made.llm.get_tool_calls_from_response(outcome.last)] == [PAID]
    assert stranger.asked[0]["tools"] == ["add", "pay"]


def test_a_stranger_without_tools_is_not_asked_for_them() -> None:
    """It says itself that it has none, and is skipped."""
    stranger = Stranger(calls_tools=False)
    made = stage(["cold", PAYING], members=[stranger, *MEMBERS[:2]])
    response = made.llm.chat_with_tools(TOOLS, user_msg="Pay.")
    assert isinstance(response.raw, dict)
    assert response.raw["chutes_attempts"][0]["detail"] == "no tools"
    assert stranger.asked == []


class Predictor(CustomLLM):
    """Another provider's model that only completes, and has no retries to turn off."""

    text: str = '{"name": "Bern", "people": 134000}'
    prompts: list[str] = Field(default_factory=list)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="other/plain")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        from llama_index.core.base.llms.types import CompletionResponse

        self.prompts.append(prompt)
        return CompletionResponse(text=self.text)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", PREDICT[:2])
def test_a_strangers_object(style: str) -> None:
    """It is asked for an object by its own method, and what stands in a text is not taken for a variable."""
    stranger = Predictor()
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = gather(made.llm, style, City, PROMPT, place="{place} and {text_0}")
    assert outcome.last == City(name="Bern", people=134000)
    assert "Tell of {place} and {text_0}." in stranger.prompts[0]


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", PREDICT[:2])
def test_a_strangers_unusable_object(style: str) -> None:
    """What its program raises for an unusable answer is a failure of the model."""
    made = stage([CITY], members=[Predictor(text="no"), MEMBERS[0]])
    assert gather(made.llm, style, City, PROMPT, place="Bern").last == City(name="Bern", people=134000)
    assert made.asked == [MEMBERS[0]]


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", ["chat", "stream_chat", "complete"])
def test_a_stranger_that_cannot_stream_answers_whole(style: str) -> None:
    """It is asked for the whole instead."""
    made = stage(members=[Predictor(text="Plain."), MEMBERS[0]])
    assert text_of(ask(made.llm, style).last) == "Plain."


def test_a_stranger_whose_retries_cannot_be_turned_off_is_warned_about_once() -> None:
    """Once for its class."""

    class Restless(Predictor):
        pass

    with pytest.warns(ChutesWarning, match="Restless has no max_retries"):
        ChutesFallback([Restless(), Stranger()])
    ChutesFallback([Restless(), Stranger()])


def test_a_mistake_of_the_callers_code_is_raised_as_it_is() -> None:
    """An exception that is no failure of a model ends the call at once and marks nobody."""
    made = stage(members=[Stranger(plays=[KeyError("typo")]), MEMBERS[0]])
    with pytest.raises(KeyError):
        made.llm.chat(HELLO)
    assert made.asked == []
    assert made.llm.health.snapshot()["members"] == {}


# ------------------------------------------------------------------------------------------------- being made


def test_a_line_of_names_and_a_route(tmp_path: Path) -> None:
    """Configuration is one line, or a file."""
    assert [each.model for each in ChutesFallback.from_models("a/b, c/d", api_key=KEY).members] == ["a/b", "c/d"]
    file = tmp_path / "routes.toml"
    place = "llama_index.core.llms.mock:MockLLM"
    file.write_text(
        "[routes.summarization]\nmodels = ['acme/small', {model = 'acme/big', max_tokens = 9}]\ntemperature = 0\n"
        f"policy = {{deadline = 30}}\n[routes.bad]\nmodels = [{{model = 'x', provider = '{place}'}}]\n"
        "[routes.unknown]\nmodels = [{model = 'x', provider = 'nobody'}]\n"
    )
    made = ChutesFallback.route("summarization", file, api_key=KEY)
    assert [(each.model, each.temperature, each.max_tokens) for each in made.members] == [
        ("acme/small", 0, None),
        ("acme/big", 0, 9),
    ]
    assert made.policy.deadline == 30
    with pytest.raises(ConfigurationError, match="no provider 'nobody'"):
        ChutesFallback.route("unknown", file)
    with pytest.raises(ConfigurationError, match="summarization"):
        ChutesFallback.route("sumarization", file)


@pytest.mark.parametrize(
    ("members", "arguments", "said"),
    [
        ([], {}, "at least one"),
        ("acme/one", {}, "from_models"),
        ([3], {}, "not int"),
        (["acme/one"], {"max_retries": 2}, "max_attempts"),
        (["acme/one"], {"temprature": 1}, "temperature"),
        (["acme/one"], {"policy": {"dedline": 1}}, "deadline"),
        ([Stranger()], {"temperature": 1}, "listed by name"),
    ],
)
def test_mistakes_are_told_at_the_door(members: Any, arguments: dict[str, Any], said: str) -> None:
    """What cannot be meant is refused with a word of what to do."""
    with pytest.raises(ConfigurationError, match=said):
        ChutesFallback(members, **arguments)


def test_our_models_are_copied_without_retries() -> None:
    """The model that was listed keeps its own."""
    own = Chutes(model=MEMBERS[0], api_key=KEY, max_retries=3)
    made = ChutesFallback([own, ChutesFallback(["acme/two"], api_key=KEY)])
    assert [each.max_retries for each in made.members] == [0, 0]
    assert own.max_retries == 3
    assert [each.model for each in made.members] == [MEMBERS[0], "acme/two"]


def test_no_key_leaves() -> None:
    """Neither repr, data nor pickle has one, and what comes back answers with another."""
    made = ChutesFallback([*MEMBERS[:2], Stranger()], api_key="cpk_secret", policy=FallbackPolicy(deadline=9))
    seen = repr(made) + str(made) + made.to_json() + repr(pickle.dumps(made)) + str(made.to_payload())
    assert "cpk_secret" not in seen
    assert "not-for-others" not in seen
    back = pickle.loads(pickle.dumps(made))
    assert [each.model for each in back.members] == [*MEMBERS[:2], "other/model"]
    assert back.policy == made.policy
    own = ChutesFallback(MEMBERS[:2], api_key="cpk_secret", policy=FallbackPolicy(deadline=9))
    again = ChutesFallback.from_dict(own.to_dict())
    assert again.to_dict() == own.to_dict()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(ChutesFallback(MEMBERS[:2], policy=FallbackPolicy(order=lambda members: members)))
    with pytest.raises(ConfigurationError, match="not restored"):
        ChutesFallback.from_dict(made.to_dict())


def test_metadata_fits_every_member() -> None:
    """Prompts are made for the smallest window; tools are there when somebody has them."""
    data = stage().llm.metadata
    assert data.context_window == 40960
    assert data.is_function_calling_model
    assert data.model_name == ",".join(MEMBERS)


def test_a_changed_member_is_seen() -> None:
    """The next call uses what was changed."""
    made = stage()
    made.llm.chat(HELLO)
    made.llm.members[0].model = MEMBERS[2]
    made.llm.members.pop()
    made.llm.chat(HELLO)
    assert made.asked == [MEMBERS[0], MEMBERS[2]]


def test_a_calls_own_time_limit_is_refused() -> None:
    """The policy's hold, and a limit that nobody would look at is a mistake."""
    with pytest.raises(ConfigurationError, match="deadline"):
        stage().llm.chat(HELLO, timeout=3)


def test_the_packages_names() -> None:
    """What users import is there."""
    assert {"ChutesFallback", "FallbackPolicy", "FallbackError", "Health"} <= set(llama_index_chutes.__all__)
    assert isinstance(stage().llm.health, Health)
