"""Tools, objects, agents and engines through a fallback whose members fail."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import Document

from chutes_core import APIError, ConfigurationError, Kind
from chutes_core.testing import Answer, Fault
from llama_index_chutes import FallbackPolicy
from tests.llama_index_chutes.rigs import HELLO, TOOLS, gather
from tests.llama_index_chutes.stages import (
    ANSWER,
    BERN,
    CITY,
    HOLD,
    MEMBERS,
    PAID,
    PAYING,
    PREDICT,
    PROMPT,
    RESTART,
    City,
    stage,
)


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


@pytest.mark.parametrize("style", PREDICT)
def test_objects(style: str) -> None:
    """An answer of which no object can be made is a failure, and the next member gives one."""
    made = stage(["cold", Answer("I would rather not.") if "stream" not in style else "capacity", CITY])
    outcome = gather(made.llm, style, City, PROMPT, place="Bern {and} more")
    assert outcome.error is None
    assert outcome.last == BERN
    assert made.asked == MEMBERS
    forms = {json.dumps(request.body.get("response_format")) for request in made.transport.requests}
    assert any("City" in form for form in forms)
    assert made.llm.health.vitals(f"|{MEMBERS[1]}").last_kind is (
        Kind.CAPACITY if "stream" in style else Kind.MALFORMED
    )


def test_an_object_through_the_frameworks_own_wrapper() -> None:
    """as_structured_llm works through it."""
    made = stage(["cold", CITY])
    assert made.llm.as_structured_llm(City).complete("Bern?").raw == BERN


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


DYING = Fault("reset", after=2, answer=Answer("Half an ans", pieces=4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_agent_whose_model_dies_in_the_middle() -> None:
    """With "hold" nobody sees it; an agent joins the text of its chunks, so a restart is an error that says so."""

    async def run(policy: FallbackPolicy) -> tuple[str, list[AgentStream]]:
        agent = FunctionAgent(tools=TOOLS, llm=stage([DYING, Answer("It is 3.")], policy=policy).llm, streaming=True)
        handler = agent.run("Add 1 and 2.")
        events = [event async for event in handler.stream_events() if isinstance(event, AgentStream)]
        return str(await handler), events

    answer, events = asyncio.run(run(HOLD))
    assert answer == "".join(event.delta for event in events) == "It is 3."
    assert events[-1].raw is not None
    assert [row["outcome"] for row in events[-1].raw["chutes_attempts"]] == ["failed", "answered"]
    with pytest.raises(ConfigurationError, match=r"would get two answers in one\. Use .*hold"):
        asyncio.run(run(RESTART))


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # the engine's own, raised again here
@pytest.mark.parametrize("policy", ["hold", "restart", "raise"])
def test_a_chat_engine_whose_model_dies_in_the_middle(policy: str) -> None:
    """It never has two answers in one, in its stream, its answer or its memory."""
    rules = FallbackPolicy(after_commit=policy)  # type: ignore[arg-type]
    llm = stage([DYING, Answer("It is 3.")], policy=rules).llm
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemoryBuffer.from_defaults(token_limit=1000))
    response = engine.stream_chat("What is 1 and 2?")
    if policy == "hold":
        assert "".join(response.response_gen) == response.response == "It is 3."
        assert engine.chat_history[-1].content == "It is 3."
        return
    with pytest.raises(ConfigurationError if policy == "restart" else APIError):
        "".join(response.response_gen)
    assert all("It is 3." not in str(message.content) for message in engine.chat_history)


@pytest.mark.parametrize("style", PREDICT[2:])
def test_an_object_that_breaks_in_the_middle(style: str) -> None:
    """The pieces of the next member's object replace those before, and the last is whole."""
    made = stage([Fault("reset", after=3, answer=CITY), CITY], policy=RESTART)
    outcome = gather(made.llm, style, City, PROMPT, place="Bern")
    assert outcome.error is None
    assert outcome.last == BERN
    assert made.asked == MEMBERS[:2]
