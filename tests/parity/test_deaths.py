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


def shared(machines: Machines, policy: Any) -> dict[str, Any]:
    made = policy if isinstance(policy, FallbackPolicy) else rules(policy)
    return {"policy": made, "api_key": "cpk_test", "clock": machines.clock, "catalog": catalog()}


def langchain(machines: Machines, policy: Any, **options: Any) -> Any:
    package: Any = http_package()
    clients = {
        "http_client": package.Client(transport=machines.transport),
        "http_async_client": package.AsyncClient(transport=machines.transport),
    }
    return langchain_chutes.ChutesFallback(NAMES, **{**shared(machines, policy), **clients, **options})


def llama_index(machines: Machines, policy: Any, **options: Any) -> Any:
    package: Any = http_package()
    clients = {
        "http_client": package.Client(transport=machines.transport),
        "async_http_client": package.AsyncClient(transport=machines.transport),
    }
    return llama_index_chutes.ChutesFallback(NAMES, **{**shared(machines, policy), **clients, **options})


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
    in_first = where in ("reasoning", "call", "said_call")
    first = machines.calls and (in_first or not reader.agent)
    broken = machines.text("a/one", first=first)
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
