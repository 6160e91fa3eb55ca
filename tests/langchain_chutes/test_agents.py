"""Agents of LangChain on ChatChutes: several turns, several tools, structured answers, and honest failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.chat_models import init_chat_model
from langchain_core.exceptions import ModelAPIError, ModelAuthenticationError
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from chutes_core import CapacityError
from chutes_core.testing import Answer, Fault
from langchain_chutes import ChatChutes

from .models import MODEL, scripted

THREAD: Any = {"configurable": {"thread_id": "1"}}


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


class Total(BaseModel):
    """The result."""

    total: int


CALLS = Answer("", tool_calls=[("add", {"a": 1, "b": 2})])
BOTH = Answer("", tool_calls=[("add", {"a": 3, "b": 4}), ("shout", {"text": "seven"})])


def run(agent: Any, question: str, *, asynchronous: bool, config: Any = None) -> Any:
    ask = {"messages": [HumanMessage(question)]}
    return asyncio.run(agent.ainvoke(ask, config)) if asynchronous else agent.invoke(ask, config)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_two_tools_over_several_turns(asynchronous: bool) -> None:
    """The agent calls, reads the results, answers, and remembers in the next turn."""
    outcome = scripted([CALLS, Answer("It is 3."), BOTH, Answer("SEVEN.")])
    agent: Any = create_agent(outcome.model, [add, shout], system_prompt="Be brief.", checkpointer=InMemorySaver())
    first = run(agent, "1 + 2?", asynchronous=asynchronous, config=THREAD)
    assert first["messages"][-1].text == "It is 3."
    second = run(agent, "3 + 4, loudly?", asynchronous=asynchronous, config=THREAD)
    assert second["messages"][-1].text == "SEVEN."
    results = [message.content for message in second["messages"] if isinstance(message, ToolMessage)]
    assert results == ["3", "7", "SEVEN"]
    last: Any = outcome.transport.requests[-1].body["messages"]
    assert [message["role"] for message in last] == [
        "system", "user", "assistant", "tool", "assistant", "user", "assistant", "tool", "tool",
    ]  # fmt: skip
    assert {tool["function"]["name"] for tool in outcome.body["tools"]} == {"add", "shout"}


def test_an_agents_tokens_stream() -> None:
    """Each piece of the last answer is seen when it comes."""
    outcome = scripted([CALLS, Answer("It is three.", pieces=3)])
    agent: Any = create_agent(outcome.model, [add])
    steps = agent.stream({"messages": [HumanMessage("1 + 2?")]}, stream_mode="messages")
    texts = [chunk.text for chunk, _ in steps if isinstance(chunk, AIMessageChunk) and chunk.text]
    assert texts == ["It i", "s th", "ree."]


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_an_agents_answer_may_have_a_form(strategy: Any) -> None:
    """Through the service's own schemas or through a tool."""
    final = Answer('{"total": 3}') if strategy is ProviderStrategy else Answer("", tool_calls=[("Total", {"total": 3})])
    outcome = scripted([CALLS, final])
    agent: Any = create_agent(outcome.model, [add], response_format=strategy(Total))
    assert run(agent, "1 + 2?", asynchronous=False)["structured_response"] == Total(total=3)
    if strategy is ProviderStrategy:
        assert outcome.body["response_format"]["json_schema"]["name"] == "Total"


def test_an_agent_chooses_the_form_by_the_profile() -> None:
    """With a known model the service's own schemas are used unasked."""
    outcome = scripted([Answer('{"total": 3}')], model="Qwen/Qwen3-32B-TEE")
    agent: Any = create_agent(outcome.model, [add], response_format=Total)
    assert run(agent, "1 + 2?", asynchronous=False)["structured_response"] == Total(total=3)
    assert "response_format" in outcome.body


@pytest.mark.parametrize("kind", ["no_finish", "error_line", "restart"])
def test_a_call_that_broke_is_never_run(kind: str) -> None:
    """The agent stops with the error; the tool is not run on half of its arguments."""
    ran: list[int] = []

    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    paying = Answer("", tool_calls=[("pay", {"amount": 1000})], pieces=4)
    outcome = scripted([Fault(kind, after=3, answer=paying)], streaming=True)
    agent: Any = create_agent(outcome.model, [pay])
    with pytest.raises(ModelAPIError):
        run(agent, "Pay.", asynchronous=False)
    assert ran == []


def test_retry_middleware_reads_what_is_worth_a_retry() -> None:
    """LangChain's own retries can tell a busy model from a wrong key."""
    middleware: Any = ModelRetryMiddleware(max_retries=1, initial_delay=0, jitter=False, on_failure="error")
    outcome = scripted(["capacity", Answer("Yes.")])
    agent: Any = create_agent(outcome.model, [add], middleware=[middleware])
    assert run(agent, "Hi", asynchronous=False)["messages"][-1].text == "Yes."
    refused = scripted(["auth", Answer("Yes.")])
    agent = create_agent(refused.model, [add], middleware=[middleware])
    with pytest.raises(ModelAuthenticationError):
        run(agent, "Hi", asynchronous=False)
    assert len(refused.transport.requests) == 1


def test_without_middleware_the_error_comes_out_of_the_agent() -> None:
    """It is the core's."""
    agent: Any = create_agent(scripted(["capacity"]).model, [add])
    with pytest.raises(CapacityError):
        run(agent, "Hi", asynchronous=False)


def test_init_chat_model_is_told_where_it_is() -> None:
    """LangChain has a closed list of providers there, and the class itself is the way."""
    with pytest.raises(ValueError, match="chutes"):
        init_chat_model(MODEL, model_provider="chutes")
    assert ChatChutes(model=MODEL).model == MODEL
