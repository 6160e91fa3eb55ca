"""Agents over scripted answers: two tools, several turns, both kinds of agent, streaming or not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.memory import ChatMemoryBuffer

from chutes_core import MalformedReplyError, StreamFailedError
from chutes_core.testing import Answer, Fault

from .convert.test_tools import Broken
from .rigs import TOOLS, Rig, rig

# The framework's agents look at attributes of pydantic's that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BOTH_CALLS = Answer(
    "I will do both.",
    reasoning="Two things.",
    tool_calls=[("add", {"a": 1, "b": 2}), ("pay", {"amount": 3, "to": "bob"})],
)
SUM = Answer("", tool_calls=[("add", {"a": 3, "b": 4})])
DONE = Answer("All done.", pieces=3)


async def run(agent: Any, question: str, **kwargs: Any) -> tuple[str, list[Any]]:
    """Run an agent and return its answer and its events."""
    handler = agent.run(question, **kwargs)
    events = [event async for event in handler.stream_events()]
    return str(await handler), events


def roles(made: Rig, request: int) -> list[str]:
    return [message["role"] for message in made.bodies[request]["messages"]]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_function_agent_with_two_tools_over_several_turns(streaming: bool) -> None:
    """Both calls of a turn are run, their results go back, and the next question knows of them."""
    made = rig([BOTH_CALLS, SUM, DONE, DONE])
    agent = FunctionAgent(tools=TOOLS, llm=made.llm, system_prompt="Be brief.", streaming=streaming)

    async def talk() -> None:
        memory = ChatMemoryBuffer.from_defaults(llm=made.llm)
        answer, events = await run(agent, "Add and pay.", memory=memory)
        assert answer == "All done."
        results = [(event.tool_name, str(event.tool_output)) for event in events if isinstance(event, ToolCallResult)]
        assert sorted(results) == [("add", "3"), ("add", "7"), ("pay", "paid 3 to bob")]
        if streaming:
            streamed = [event for event in events if isinstance(event, AgentStream)]
            assert "".join(event.delta for event in streamed) == "I will do both.All done."
            assert "".join(event.thinking_delta or "" for event in streamed) == "Two things."
        await run(agent, "Thanks.", memory=memory)

    asyncio.run(talk())
    assert roles(made, 1) == ["system", "user", "assistant", "tool", "tool"]
    assert roles(made, 3) == [
        *("system", "user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user"),
    ]
    ids = [call["id"] for call in made.bodies[1]["messages"][2]["tool_calls"]]
    assert sorted(message["tool_call_id"] for message in made.bodies[1]["messages"][3:]) == sorted(ids)


def test_reasoning_goes_back_within_a_turn() -> None:
    """A model that needs its thoughts between tool calls has them in the agent's history."""
    made = rig([BOTH_CALLS, DONE], model="zai-org/GLM-5.1-TEE")
    asyncio.run(run(FunctionAgent(tools=TOOLS, llm=made.llm), "Add and pay."))
    assert made.bodies[1]["messages"][1]["reasoning_content"] == "Two things."


def test_an_agent_workflow_hands_over() -> None:
    """One agent gives the task to another, which uses its tool."""
    handoff = Answer("", tool_calls=[("handoff", {"to_agent": "payer", "reason": "money"})])
    paying = Answer("", tool_calls=[("pay", {"amount": 3, "to": "bob"})])
    made = rig([handoff, paying, DONE])
    first = FunctionAgent(name="clerk", description="Adds.", tools=[TOOLS[0]], llm=made.llm, can_handoff_to=["payer"])
    second = FunctionAgent(name="payer", description="Pays.", tools=[TOOLS[1]], llm=made.llm)
    workflow = AgentWorkflow(agents=[first, second], root_agent="clerk")
    answer, events = asyncio.run(run(workflow, "Pay bob 3."))
    assert answer == "All done."
    assert [event.tool_name for event in events if isinstance(event, ToolCallResult)] == ["handoff", "pay"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_react_agent_with_two_tools(streaming: bool) -> None:
    """An agent that works by text alone: thought, action, observation, answer."""

    def act(tool: str, arguments: str) -> Answer:
        return Answer(f"Thought: I need a tool.\nAction: {tool}\nAction Input: {arguments}", pieces=9)

    made = rig(
        [
            act("add", '{"a": 1, "b": 2}'),
            act("pay", '{"amount": 3, "to": "bob"}'),
            Answer("Thought: I can answer without using any more tools.\nAnswer: All done.", pieces=9),
        ]
    )
    agent = ReActAgent(tools=TOOLS, llm=made.llm, streaming=streaming)
    answer, events = asyncio.run(run(agent, "Add 1 and 2, and pay it to bob."))
    assert answer == "All done."
    assert [event.tool_name for event in events if isinstance(event, ToolCallResult)] == ["add", "pay"]
    assert "Observation: 3" in str(made.bodies[1]["messages"])


def test_an_agent_whose_stream_breaks_fails_before_it_acts() -> None:
    """No tool is run of an answer that was cut."""
    made = rig([Fault("error_line", after=9, answer=BOTH_CALLS)], max_retries=0)
    with pytest.raises(StreamFailedError):
        asyncio.run(run(FunctionAgent(tools=TOOLS, llm=made.llm), "Add and pay."))
    assert len(made.transport.requests) == 1


def test_an_agent_is_told_of_a_call_that_is_not_valid() -> None:
    """Broken arguments are an error, not an empty answer."""
    made = rig([Broken("")])
    with pytest.raises(MalformedReplyError, match="'pay'"):
        asyncio.run(run(FunctionAgent(tools=TOOLS, llm=made.llm), "Pay."))
