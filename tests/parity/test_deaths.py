"""Wherever a machine dies in a stream, and however, each reader has one whole answer, a marker, or an honest error.

What must come out is computed from the rules of docs/fallback.md alone, by :func:`expected`, for every place of a
death, every policy and every reader: plain streams, chains, chat engines and agents of both frameworks, and the
clients of the core. No two machines say the same, so an answer that was put together from two is seen.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ThinkingBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from pydantic import ValidationError

import langchain_chutes
import llama_index_chutes
from chutes_core import (
    APIError,
    AsyncFallbackClient,
    Catalog,
    ChutesError,
    ConfigurationError,
    FallbackClient,
    FallbackPolicy,
    Restart,
)
from chutes_core.catalog.model_info import ModelInfo, Traits
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from langchain_chutes import fallback as of_langchain
from llama_index_chutes import fallback as of_llama_index
from tests.langchain_chutes.fallback_stage import Other

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # LlamaIndex' agents look at attributes of pydantic's
    # The chat engine's own thread, whose error is raised again where it is read.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

NAMES = ["a/one", "b/two", "c/three"]
PLACES = ["reasoning", "call", "said_call", "boundary", "inside"]
HOWS = ["reset", "no_finish", "restart", "stall", "error_line"]
POLICIES = ["raise", "hold", "restart", "resume"]
ARGUMENTS = {"amount": 100000, "to": "bob"}
QUESTION = "Pay bob, and say why rays bend."
THOUGHTS = {"a/one": "One: it may be cold.", "b/two": "Two: let me look up.", "c/three": "Three: so it goes on."}
SAID = {"a/one": "I pay at once, dear.", "b/two": "So money goes out now", "c/three": "The third is to pay it."}
TEXTS = {
    "a/one": "Many rays bend here when they meet cold rain",  # in three pieces, a word begins each; in six, not
    "b/two": "Some said that blue wins over reds each dusk",
    "c/three": "Third one tells what none else told you yet!",
}


def thought(action: str) -> Callable[[str], str]:
    return lambda model: f"Thought: {SAID[model]}\n{action.format(text=TEXTS[model])}"


ACTION = thought("Action: pay\nAction Input: " + json.dumps(ARGUMENTS).replace("{", "{{").replace("}", "}}"))
CONCLUSION = thought("Answer: {text}")


class Machines(FaultScript):
    """Machines that say what nobody else says, one of which dies once; all of them go on with what they have begun."""

    def __init__(self, where: str, how: str, *, calls: bool = False, react: bool = False, deaths: int = 1) -> None:
        super().__init__()
        self.where, self.how, self.calls, self.react, self.deaths = where, how, calls, react, deaths
        self.clock = VirtualClock()
        self.transport = FaultyTransport(self, clock=self.clock)

    def text(self, model: str, *, first: bool) -> str:
        """What a model says in a turn."""
        if self.react:
            return ACTION(model) if first else CONCLUSION(model)
        if first:
            return SAID[model] if self.where == "said_call" else ""
        return TEXTS[model]

    def answer(self, model: str, *, first: bool) -> Answer:
        """A model's answer in a turn."""
        calls = [("pay", ARGUMENTS)] if first and not self.react else []
        pieces = 6 if self.where == "inside" or self.react else 3
        return Answer(self.text(model, first=first), reasoning=THOUGHTS[model], tool_calls=calls, pieces=pieces)

    @property
    def after(self) -> int:
        """How many pieces come before the death: those of the reasoning, of the text, of the arguments."""
        if self.react:
            return {"reasoning": 2, "call": 8, "boundary": 9, "inside": 7}[self.where]
        return {"reasoning": 2, "call": 5, "said_call": 8, "boundary": 4, "inside": 9}[self.where]

    def next(self, model: str) -> Answer | Fault:
        """Answer, go on, or die."""
        body = self.transport.requests[-1].body
        messages: Any = body["messages"]
        done = any(each["role"] == "tool" or str(each["content"]).startswith("Observation: ") for each in messages)
        first = self.calls and not done
        if body.get("continue_final_message"):
            begun = str(messages[-1]["content"])
            whole = next(
                text for each in NAMES if (text := self.text(each, first=first)).startswith(begun)
            )  # a seam that is nobody's text is an error here
            return Answer(whole[len(begun) :], tool_calls=self.answer(model, first=first).tool_calls, pieces=3)
        answer = self.answer(model, first=first)
        in_first = self.where in ("reasoning", "call", "said_call")
        if self.deaths and (not self.calls or first == in_first):
            self.deaths -= 1
            return Fault(self.how, after=self.after, answer=answer)
        return answer


@dataclass
class Seen:
    """What a reader has seen in the end.

    Attributes:
        shown: What is on its screen.
        before: What was there at a marker.
        final: The text of the message, or of the agent's answer.
        reasoning: The reasoning of that message.
        calls: The tool calls of that message.
        ran: With what the tool was run.
        history: What is remembered: pairs of a role and a text.
        thought: The reasoning in what is remembered.
    """

    shown: str = ""
    before: list[str] = field(default_factory=list)
    final: str | None = None
    reasoning: str | None = None
    calls: list[Any] = field(default_factory=list)
    ran: list[dict[str, Any]] = field(default_factory=list)
    history: list[tuple[str, str]] | None = None
    thought: list[str] | None = None
    error: ChutesError | None = None

    def take(self, text: str, *, marker: bool = False) -> None:
        if marker:
            self.before.append(self.shown)
            self.shown = ""
        self.shown += text

    def pay(self, amount: int, to: str) -> str:
        """Pay somebody."""
        self.ran.append({"amount": amount, "to": to})
        return f"paid {amount} to {to}"


def original(error: BaseException) -> ChutesError:
    """The error of ours in what a framework raised."""
    seen: list[BaseException] = []
    open_ends: list[BaseException | None] = [error]
    while open_ends:
        at = open_ends.pop(0)
        if at is None or at in seen:
            continue
        if isinstance(at, ChutesError):
            return at
        seen.append(at)
        open_ends += [at.__cause__, at.__context__, *getattr(at, "exceptions", ())]
        if isinstance(at, ValidationError):  # LangChain makes a generation of every chunk that it parses
            open_ends += [each.get("ctx", {}).get("error") for each in at.errors()]
    raise AssertionError(f"no error of ours: {error!r}") from error


def catalog() -> Catalog:
    models = [
        ModelInfo(
            id=name, features=frozenset({"tools", "structured_outputs", "json_mode"}), context_length=100_000,
            price_in=1.0, price_out=2.0, traits=Traits(prefill="as_is"),
        )
        for name in NAMES
    ]  # fmt: skip
    return Catalog(models, source="here", fetched_at=0.0, snapshot_date="2026-01-01")


def rules(policy: Any, **changes: Any) -> FallbackPolicy:
    return FallbackPolicy(**{"first_token": 5, "gap": 5, "deadline": 60, "after_commit": policy, **changes})


def shared(machines: Any, policy: Any) -> dict[str, Any]:
    made = policy if isinstance(policy, FallbackPolicy) else rules(policy)
    return {"policy": made, "api_key": "cpk_test", "clock": machines.clock, "catalog": catalog()}


def langchain(machines: Any, policy: Any) -> Any:
    package: Any = http_package()
    clients = {
        "http_client": package.Client(transport=machines.transport),
        "http_async_client": package.AsyncClient(transport=machines.transport),
    }
    return langchain_chutes.ChutesFallback(NAMES, **{**shared(machines, policy), **clients})


def llama_index(machines: Any, policy: Any) -> Any:
    package: Any = http_package()
    clients = {
        "http_client": package.Client(transport=machines.transport),
        "async_http_client": package.AsyncClient(transport=machines.transport),
    }
    return llama_index_chutes.ChutesFallback(NAMES, **{**shared(machines, policy), **clients})


async def again(steps: Any) -> AsyncIterator[Any]:
    """Go through either kind of iterator."""
    if hasattr(steps, "__aiter__"):
        async for step in steps:
            yield step
    else:
        for step in steps:
            yield step


# ------------------------------------------------------------------------------------------------ readers


async def core_client(machines: Machines, policy: Any, seen: Seen, *, waits: bool) -> None:
    package: Any = http_package()
    tools = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]
    params: Any = {"tools": tools} if machines.calls else {}
    messages = [{"role": "user", "content": QUESTION}]
    stream: Any
    if waits:
        made = AsyncFallbackClient(
            NAMES, http_client=package.AsyncClient(transport=machines.transport), **shared(machines, policy)
        )
        stream = made.stream(messages, **params)
        async with stream:
            async for delta in stream:
                seen.take(delta.content, marker=isinstance(delta, Restart))
    else:
        blocking = FallbackClient(
            NAMES, http_client=package.Client(transport=machines.transport), **shared(machines, policy)
        )
        stream = blocking.stream(messages, **params)
        with stream:
            for delta in stream:
                seen.take(delta.content, marker=isinstance(delta, Restart))
    seen.final, seen.reasoning = stream.reply.content, stream.reply.reasoning
    seen.calls = [json.loads(call.arguments) for call in stream.reply.tool_calls]


async def langchain_stream(machines: Machines, policy: Any, seen: Seen, *, waits: bool) -> None:
    model = langchain(machines, policy)
    asked = model.bind_tools([seen.pay]) if machines.calls else model
    whole: Any = None
    chunks: list[AIMessageChunk] = []
    async for chunk in again(asked.astream(QUESTION) if waits else asked.stream(QUESTION)):
        marker = of_langchain.is_restart(chunk)
        seen.take("" if marker else chunk.text, marker=marker)
        chunks.append(chunk)
        whole = chunk if whole is None else whole + chunk
    seen.final, seen.reasoning = whole.text, whole.additional_kwargs.get("reasoning_content")
    seen.calls = [call["args"] for call in whole.tool_calls]
    collected = of_langchain.collect(chunks)
    assert (collected.text, collected.tool_calls) == (whole.text, whole.tool_calls)
    assert collected.additional_kwargs.get("reasoning_content") == seen.reasoning
    assert not whole.invalid_tool_calls


async def langchain_chain(machines: Machines, policy: Any, seen: Seen, *, waits: bool) -> None:
    chain = ChatPromptTemplate.from_template("{question}") | langchain(machines, policy) | StrOutputParser()
    ask = {"question": QUESTION}
    async for text in again(chain.astream(ask) if waits else chain.stream(ask)):
        seen.take(text)
    seen.final = seen.shown


async def langchain_agent(machines: Machines, policy: Any, seen: Seen, *, waits: bool, mode: str) -> None:
    agent: Any = create_agent(langchain(machines, policy), [seen.pay], checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    ask = {"messages": [("user", QUESTION)]}
    steps = agent.astream if waits else agent.stream
    last = None
    try:
        async for event in again(steps(ask, config, stream_mode=mode)):
            if mode == "messages":
                chunk, about = event
                if chunk.type in ("ai", "AIMessageChunk"):
                    if about["langgraph_step"] != last:
                        last, seen.shown = about["langgraph_step"], ""
                    marker = of_langchain.is_restart(chunk)
                    seen.take("" if marker else chunk.text, marker=marker)
                continue
            states = [event] if mode == "values" else event.values()
            for message in (message for state in states for message in state["messages"]):
                assert message.text in whole_texts(machines), "a message that is not whole"
    finally:
        state = (await agent.aget_state(config) if waits else agent.get_state(config)).values["messages"]
        seen.history = [(message.type, message.text) for message in state]
        seen.thought = [message.additional_kwargs.get("reasoning_content", "") for message in state]
    seen.final, seen.reasoning = state[-1].text, state[-1].additional_kwargs.get("reasoning_content")
    seen.shown = seen.shown if mode == "messages" else seen.final or ""


def thinking(message: ChatMessage) -> str:
    return "".join(block.content or "" for block in message.blocks if isinstance(block, ThinkingBlock))


async def llama_stream(machines: Machines, policy: Any, seen: Seen, *, waits: bool) -> None:
    llm = llama_index(machines, policy)
    tools = [FunctionTool.from_defaults(seen.pay)]
    steps: Any
    if machines.calls:
        asked = llm.astream_chat_with_tools if waits else llm.stream_chat_with_tools
        steps = asked(tools, user_msg=QUESTION)
    else:
        steps = (llm.astream_chat if waits else llm.stream_chat)([ChatMessage(QUESTION)])
    chunks = []
    async for chunk in again(await steps if waits else steps):
        marker = of_llama_index.is_restart(chunk)
        seen.take("" if marker else chunk.delta or "", marker=marker)
        chunks.append(chunk)
    last = chunks[-1]
    seen.final, seen.reasoning = last.message.content or "", thinking(last.message)
    calls = llm.get_tool_calls_from_response(last, error_on_no_tool_call=False)
    seen.calls = [call.tool_kwargs for call in calls]
    collected = of_llama_index.collect(chunks).message
    assert (collected.content or "", thinking(collected)) == (seen.final, seen.reasoning)


async def llama_engine(machines: Machines, policy: Any, seen: Seen, *, waits: bool) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    engine = SimpleChatEngine.from_defaults(llm=llama_index(machines, policy), memory=memory)
    response: Any
    try:
        if waits:
            response = await engine.astream_chat(QUESTION)
            async for text in response.async_response_gen():
                seen.take(text)
        else:
            response = engine.stream_chat(QUESTION)
            for text in response.response_gen:
                seen.take(text)
        seen.final = response.response
    finally:
        seen.history = [(message.role.value, message.content or "") for message in engine.chat_history]


async def llama_agent(machines: Machines, policy: Any, seen: Seen, *, kind: str) -> None:
    llm = llama_index(machines, policy)
    tools: Any = [FunctionTool.from_defaults(seen.pay)]
    agent: Any
    if kind == "react":
        agent = ReActAgent(tools=tools, llm=llm)
    else:
        agent = FunctionAgent(name="payer", description="Pays.", tools=tools, llm=llm)
    if kind == "workflow":
        agent = AgentWorkflow(agents=[agent], root_agent="payer")
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)
    try:
        handler = agent.run(QUESTION, memory=memory)
        turns: list[str] = [""]
        async for event in handler.stream_events():
            if isinstance(event, AgentStream):
                turns[-1] += event.delta
            elif type(event).__name__ == "AgentOutput":
                turns.append("")
            seen.shown = next(filter(None, reversed(turns)), "")
        response = await handler
        seen.final, seen.reasoning = response.response.content or "", thinking(response.response)
    finally:
        kept = memory.get_all()
        seen.history = [(message.role.value, message.content or "") for message in kept]
        seen.thought = [thinking(message) for message in kept]


@dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
        read: Reads.
        options: Of what kind.
        places: Where a machine may die for it.
        agent: Whether it runs tools, over two turns.
        react: Whether its tools are called in text.
        markers: Whether it sees a marker; one that does not is told that it cannot.
        streams: Whether it has the model's text as it comes.
    """

    read: Any
    options: dict[str, Any]
    places: tuple[str, ...] = tuple(PLACES)
    agent: bool = False
    react: bool = False
    markers: bool = True
    streams: bool = True


TEXT = ("reasoning", "boundary", "inside")
BOTH = (("", False), ("async ", True))
READERS = {
    **{f"{name}client": Reader(core_client, {"waits": waits}) for name, waits in BOTH},
    **{f"{name}LangChain stream": Reader(langchain_stream, {"waits": waits}) for name, waits in BOTH},
    **{f"{name}chain": Reader(langchain_chain, {"waits": waits}, TEXT, markers=False) for name, waits in BOTH},
    **{
        f"{name}agent, {mode}": Reader(
            langchain_agent, {"waits": waits, "mode": mode}, agent=True, streams=mode == "messages"
        )
        for name, waits in BOTH
        for mode in ("messages", "updates", "values")
    },
    **{f"{name}LlamaIndex stream": Reader(llama_stream, {"waits": waits}) for name, waits in BOTH},
    **{f"{name}engine": Reader(llama_engine, {"waits": waits}, TEXT, markers=False) for name, waits in BOTH},
    **{
        f"{kind} agent": Reader(llama_agent, {"kind": kind}, agent=True, markers=False)
        for kind in ("function", "workflow")
    },
    "react agent": Reader(
        llama_agent, {"kind": "react"}, ("reasoning", "call", *TEXT[1:]), agent=True, react=True, markers=False
    ),
}


# ------------------------------------------------------------------------------------------------ the rules


def expected(where: str, policy: str, reader: Reader) -> str:
    """What docs/fallback.md says: "next", "restarted", "same" (gone on with), "raised" or "told"."""
    if not reader.streams or policy == "hold":
        return "next"  # nothing is given out before it is whole
    if where == "reasoning" or (where == "call" and not reader.react):
        return "next"  # reasoning and tool calls commit nobody
    if policy == "raise":
        return "raised"
    if policy == "restart":
        return "restarted" if reader.markers else "told"
    return "same"


def whole_texts(machines: Machines) -> set[str]:
    """Whatever may stand in a history."""
    answers = {machines.text(model, first=first) for model in NAMES for first in (True, False)}
    if machines.react:  # the framework writes the arguments in its own way, and what it observed below
        acted = {acting(model) for model in NAMES}
        answers |= acted | {f"{each}\nObservation: paid 100000 to bob\n{said}" for each in acted for said in answers}
    return answers | set(TEXTS.values()) | {"", QUESTION, "paid 100000 to bob"}


def acting(model: str) -> str:
    """How an agent that reasons in text remembers what it did."""
    return f"Thought: {SAID[model]}\nAction: pay\nAction Input: {ARGUMENTS}"


def run(reader: Reader, where: str, how: str, policy: Any, **options: Any) -> tuple[Machines, Seen]:
    calls = reader.agent or where in ("call", "said_call")
    machines, seen = Machines(where, how, calls=calls, react=reader.react, **options), Seen()
    try:
        asyncio.run(reader.read(machines, policy, seen, **reader.options))
    except BaseException as error:
        if isinstance(error, AssertionError):
            raise
        seen.error = original(error)
    for thread in threading.enumerate():  # the chat engine's own, which has nothing left to do
        if thread is not threading.main_thread() and "_write" in thread.name:
            thread.join(5)
    return machines, seen


def check(reader: Reader, where: str, policy: str, machines: Machines, seen: Seen) -> None:
    outcome = expected(where, policy, reader)
    if (where, policy) == ("said_call", "resume") and seen.error is not None:
        outcome = "raised"  # the docs allow both: text is gone on with, an answer that has begun to call is not
    in_first = where in ("reasoning", "call", "said_call")
    first = machines.calls and (in_first or not reader.agent)
    broken = machines.text("a/one", first=first)
    if policy == "resume" and outcome in ("same", "raised") and seen.error is None:
        asked = [request.body.get("continue_final_message") for request in machines.transport.requests]
        if not any(asked):  # so few words are not given out, and nobody knows of them
            sent = "".join(
                each.get("content", "") for each in machines.answer("a/one", first=first).deltas()[: machines.after]
            )  # type: ignore[misc]
            assert len(sent.rpartition(" ")[0]) < 16, sent
            outcome = "next"
    by = "a/one" if outcome == "same" else "b/two"  # whose answer the broken one came to
    assert machines.transport.open_replies == 0
    assert all(given == ARGUMENTS for given in seen.ran), "run with cut arguments"
    assert len(seen.ran) == (reader.agent and not (in_first and outcome in ("raised", "told")))
    for request in machines.transport.requests:  # what a model is told that was said
        messages: Any = request.body["messages"]
        for message in messages[:-1] if request.body.get("continue_final_message") else messages:
            if message["role"] == "assistant":
                assert (message.get("content") or "") in whole_texts(machines)
                calls = [json.loads(call["function"]["arguments"]) for call in message.get("tool_calls") or []]
                assert calls == [ARGUMENTS] * (not reader.react)
    for role, text in seen.history or []:
        assert text in whole_texts(machines), (role, text)
    if outcome in ("raised", "told"):
        assert seen.final is None, "a truncated answer as success"
        assert isinstance(seen.error, ConfigurationError if outcome == "told" else APIError), seen.error
        assert broken.startswith(seen.shown), (seen.shown, broken)
        assert seen.shown or reader.read is llama_engine  # which may raise before what it has is read
        if isinstance(seen.error, APIError):
            assert broken.startswith(seen.error.partial)
            assert seen.error.partial.startswith(seen.shown)
            assert seen.error.attempts
        return
    assert seen.error is None, repr(seen.error)
    right = TEXTS[by]
    if machines.calls and not reader.agent:
        right = machines.text(by, first=True)
        assert seen.calls == [ARGUMENTS]
    shown = seen.shown.partition("Answer: ")[2] if reader.react else seen.shown
    assert (shown, seen.final) == (right, right)
    assert any(seen.before) == (outcome == "restarted")
    assert all(broken.startswith(each) for each in seen.before)
    if seen.reasoning is not None:
        assert seen.reasoning == THOUGHTS[by]
    turn = by if in_first else "a/one"
    if seen.history is not None and reader.react:
        acted = f"{acting(turn)}\nObservation: paid 100000 to bob\n{CONCLUSION(by)}"
        assert [text for _, text in seen.history] == [QUESTION, acted]
    elif seen.history is not None and reader.agent:
        called = machines.text(turn, first=True)
        assert [text for _, text in seen.history] == [QUESTION, called, "paid 100000 to bob", right]
        assert seen.thought == ["", THOUGHTS[turn], "", THOUGHTS[by]]
    elif seen.history is not None:
        assert [text for _, text in seen.history] == [QUESTION, right]


def cases() -> list[Any]:
    return [
        pytest.param(reader, where, policy, id=f"{name}-{policy}-{where}")
        for name, reader in READERS.items()
        for policy in POLICIES
        for where in reader.places
    ]


@pytest.mark.parametrize(("reader", "where", "policy"), cases())
def test_a_death(reader: Reader, where: str, policy: str) -> None:
    """One whole answer, a marker, or an honest error; nothing twice, nothing cut, nothing left open."""
    for how in HOWS:
        machines, seen = run(reader, where, how, policy)
        try:
            check(reader, where, policy, machines, seen)
        except AssertionError as error:
            models = [each.model for each in machines.transport.requests]
            error.add_note(f"{how}: expected {expected(where, policy, reader)!r}; {models}; {seen!r}")
            raise


# ------------------------------------------------------------------------------------------------ beside the matrix


class Going(FaultScript):
    """Plays a script of answers, the first of which may die, and goes on with each as it is told to."""

    def __init__(self, *entries: Answer | Fault, goes_on: Callable[[str], Answer] = Answer) -> None:
        super().__init__(entries)
        self.texts = [(each.answer or self.default).text if isinstance(each, Fault) else each.text for each in entries]
        self.goes_on = goes_on
        self.clock = VirtualClock()
        self.transport = FaultyTransport(self, clock=self.clock)

    def next(self, model: str) -> Answer | Fault:
        """Answer, die, or go on with what any of the answers has begun with."""
        body = self.transport.requests[-1].body
        if not body.get("continue_final_message"):
            return super().next(model)
        messages: Any = body["messages"]
        begun = str(messages[-1]["content"])
        return self.goes_on(next(text for text in self.texts if text.startswith(begun))[len(begun) :])


def client(script: Any, policy: Any) -> FallbackClient:
    package: Any = http_package()
    return FallbackClient(NAMES, http_client=package.Client(transport=script.transport), **shared(script, policy))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("after", [3, 4, 6])
def test_calls_in_parallel_are_run_together_or_not_at_all(after: int, how: str, policy: str) -> None:
    """Of two calls, the first is whole, the second has begun, or both are whole and the answer is not."""
    calls = [("pay", {"amount": 1, "to": "ann"}), ("pay", {"amount": 2, "to": "bob"})]
    both = Answer("", tool_calls=calls, pieces=3)
    script, seen = Going(Fault(how, after=after, answer=both), both, Answer("Done.")), Seen()
    agent: Any = create_agent(langchain(script, policy), [seen.pay])
    list(agent.stream({"messages": [("user", QUESTION)]}, stream_mode="messages"))
    assert sorted(made["amount"] for made in seen.ran) == [1, 2]
    assert [request.model for request in script.transport.requests] == ["a/one", "b/two", "b/two"]
    script, seen = Going(Fault(how, after=after, answer=both), both, Answer("Done.")), Seen()

    async def run_agent() -> str:
        agent = FunctionAgent(tools=[FunctionTool.from_defaults(seen.pay)], llm=llama_index(script, policy))
        handler = agent.run(QUESTION, memory=ChatMemoryBuffer.from_defaults(token_limit=1000))
        async for _ in handler.stream_events():
            pass
        return str(await handler)

    assert asyncio.run(run_agent()) == "Done."
    assert sorted(made["amount"] for made in seen.ran) == [1, 2]
    assert script.transport.open_replies == 0


@pytest.mark.parametrize("reader", ["client", "LangChain stream", "LlamaIndex stream", "function agent"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("deaths", [2, 3])
def test_several_deaths_in_a_row(deaths: int, policy: str, reader: str) -> None:
    """As after one: whoever takes over may die as well."""
    for how in HOWS:
        machines, seen = run(READERS[reader], "inside", how, policy, deaths=deaths)
        assert machines.transport.open_replies == 0
        if seen.error is not None:
            assert policy in ("raise", "restart")
            assert TEXTS["a/one"].startswith(seen.shown)
            assert policy == "raise" or not READERS[reader].markers
            continue
        assert seen.final == seen.shown
        assert seen.final == TEXTS["a/one" if deaths == 3 or policy == "resume" else "c/three"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("waits", [False, True])
def test_a_node_that_calls_invoke_while_somebody_listens(waits: bool, policy: str) -> None:
    """It is a stream then, with the same rules; the state has one whole answer, or none."""
    text = {name: Answer(TEXTS[name], pieces=6) for name in NAMES}
    script = Going(Fault("reset", after=4, answer=text["a/one"]), text["b/two"])
    model, shown = langchain(script, policy), ""

    async def asks(state: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("node", asks if waits else lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_edge(START, "node")
    built = graph.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    ask = {"messages": [("user", QUESTION)]}

    async def listen() -> None:
        nonlocal shown
        steps = built.astream if waits else built.stream
        async for chunk, _ in again(steps(ask, config, stream_mode="messages")):
            shown = "" if of_langchain.is_restart(chunk) else shown + chunk.text

    if policy == "raise":
        with pytest.raises(APIError):
            asyncio.run(listen())
        assert [message.text for message in built.get_state(config).values["messages"]] == [QUESTION]
        return
    asyncio.run(listen())
    right = TEXTS["a/one" if policy == "resume" else "b/two"]
    assert [message.text for message in built.get_state(config).values["messages"]] == [QUESTION, right]
    assert shown == right


REPEATS = [
    "ha ha ha ha ha ha ha ha ha ha ha ha ha.",
    "| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |\n| 1 | 2 |\n",
    "1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1",
    "import os\nimport os\nimport os\nimport sys\n",
    "We will, we will rock you.\nWe will, we will rock you.\nEverybody: we will rock you.",
]


@pytest.mark.parametrize("text", REPEATS)
def test_an_answer_that_repeats_itself_loses_nothing(text: str) -> None:
    """Where a continuation cannot be told from an echo, it is refused."""
    for after in range(1, 12):
        script = Going(Fault("reset", after=after, answer=Answer(text, pieces=13)))
        stream = client(script, "resume").stream([{"role": "user", "content": QUESTION}])
        try:
            told = stream.read().content
        except APIError:
            continue
        assert told in (text, script.default.text)


@pytest.mark.parametrize(
    "new", ["Because air scatters what is blue, all of it is.", "rain meets the sun and bends it all"]
)
def test_no_word_is_made_of_two_answers(new: str) -> None:
    """What is given out ends where a word does; what goes on without a space is no continuation of it."""
    broken = Fault("reset", after=4, answer=Answer(TEXTS["a/one"], pieces=6))
    script = Going(broken, goes_on=lambda rest: Answer(new))
    with pytest.raises(APIError) as caught:
        client(script, "resume").stream([{"role": "user", "content": QUESTION}]).read()
    assert TEXTS["a/one"].startswith(caught.value.partial)


@pytest.mark.parametrize("reader", ["client", "LangChain stream", "LlamaIndex stream"])
def test_a_call_that_was_begun_is_not_forgotten(reader: str) -> None:
    """Plain text alone can be gone on with: the rest of it without the call is not the whole answer."""
    said = Answer("I pay at once what is due to him.", tool_calls=[("pay", ARGUMENTS)], pieces=3)
    script, seen = Going(Fault("reset", after=5, answer=said)), Seen()
    script.calls = True  # type: ignore[attr-defined]
    with pytest.raises(APIError) as caught:
        asyncio.run(READERS[reader].read(script, "resume", seen, **READERS[reader].options))
    assert caught.value.partial.startswith("I pay at once")


@pytest.mark.parametrize("policy", ["resume", "resume_or_restart", "resume_or_hold"])
@pytest.mark.parametrize("said", ["", "Other text "])
def test_a_death_of_another_providers_model(said: str, policy: str) -> None:
    """The answer of the member that takes over is whole: its last word as well."""
    if said and policy != "resume_or_restart":
        said = ""  # its text cannot be gone on with
    script = Going(Answer(TEXTS["b/two"], pieces=6))
    other = Other.of(said, ConnectionError("Reset."))
    package: Any = http_package()
    http_client = package.Client(transport=script.transport)
    model = langchain_chutes.ChutesFallback([other, NAMES[1]], **shared(script, policy), http_client=http_client)
    chunks: Any = list(model.stream(QUESTION))
    assert of_langchain.collect(chunks).text == list(of_langchain.render(chunks))[-1] == TEXTS["b/two"]


class Chunks:
    """Streams of given deltas; one without a finish reason has died."""

    def __init__(self, *streams: tuple[list[dict[str, Any]], str | None]) -> None:
        self.streams = list(streams)
        self.clock = VirtualClock()

    def __call__(self, request: Any) -> Any:
        deltas, finish = self.streams.pop(0)
        steps: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}]
        steps += [{"delta": delta} for delta in deltas]
        steps += [{"delta": {}, "finish_reason": finish}] if finish else []
        usage = {"prompt_tokens": 600, "completion_tokens": 9, "total_tokens": 609}
        told = [{"index": 0, "finish_reason": None, **step} for step in steps]
        lines = [json.dumps({"id": "chat-1", "model": NAMES[0], "choices": [each], "usage": usage}) for each in told]
        body = "".join(f"data: {line}\n\n" for line in [*lines, *(["[DONE]"] if finish else [])])
        package: Any = http_package()
        return package.Response(200, headers={"content-type": "text/event-stream"}, content=body.encode())


@pytest.mark.parametrize("gone_on_with", [False, True])
def test_text_beside_a_call_comes_in_its_place(gone_on_with: bool) -> None:
    """A delta may have both; only the call waits for the end."""
    called = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "pay", "arguments": "{}"}}
    beside = {"content": " and the second goes to him,", "tool_calls": [called]}
    streams: Any = [([{"content": "The first is for her"}, beside, {"content": " as agreed."}], "tool_calls")]
    if gone_on_with:
        streams = [
            ([{"content": "The first is for her and"}], None),
            ([beside, {"content": " as agreed."}], "tool_calls"),
        ]
    service, seen = Chunks(*streams), Seen()
    package: Any = http_package()
    http_client = package.Client(transport=package.MockTransport(service))
    asked = FallbackClient(NAMES, http_client=http_client, **shared(service, "resume"))
    tools: Any = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]
    with asked.stream([{"role": "user", "content": QUESTION}], tools=tools) as stream:
        for delta in stream:
            seen.take(delta.content)
    assert seen.shown == stream.reply.content == "The first is for her and the second goes to him, as agreed."


@pytest.mark.filterwarnings("ignore:The gateway omits logprobs")
@pytest.mark.parametrize("params", [{"logprobs": True}, {"guided_choice": list(TEXTS.values())}])
def test_what_cannot_be_gone_on_with_is_held(params: dict[str, Any]) -> None:
    """resume_or_hold holds an answer back from the start if its request does not allow it."""
    script = Going(*(Fault("reset", after=4, answer=Answer(TEXTS["a/one"], pieces=6)), Answer(TEXTS["b/two"])))
    stream = client(script, "resume_or_hold").stream([{"role": "user", "content": QUESTION}], **params)
    assert stream.read().content == TEXTS["b/two"]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_a_function_after_a_model_that_restarts(version: str, waits: bool) -> None:
    """It is given the sum of the chunks, which LangChain may make of all of them at once."""
    broken = Fault("reset", after=4, answer=Answer(TEXTS["a/one"], pieces=6))
    script = Going(broken, Answer(TEXTS["b/two"], pieces=6))
    chain = langchain(script, "restart").model_copy(update={"output_version": version}) | (lambda message: message.text)

    async def read() -> list[str]:
        return [text async for text in again(chain.astream(QUESTION) if waits else chain.stream(QUESTION))]

    assert asyncio.run(read()) == [TEXTS["b/two"]]


def test_who_appends_the_content_of_a_marker_is_told() -> None:
    """As one is who takes its text: it would have two answers in one."""
    broken = Fault("reset", after=4, answer=Answer(TEXTS["a/one"], pieces=6))
    text = ""
    with pytest.raises(ConfigurationError, match="two answers in one"):  # noqa: PT012
        for chunk in langchain(Going(broken, Answer(TEXTS["b/two"], pieces=6)), "restart").stream(QUESTION):
            text += chunk.content
    assert TEXTS["a/one"].startswith(text)
