"""Agents on Chutes: a FunctionAgent, a workflow of two agents, and a ReActAgent, each with tools.

    python examples/llama_index_agents.py

With CHUTES_API_KEY set the service answers. Without it the answers come from a script, so that you can see what an
agent does with them: the tools and the agents are real, the model is not.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent, ToolCallResult
from llama_index.core.tools import FunctionTool

from chutes_core.testing import Answer, FaultyTransport
from chutes_core.wire.pools import http_package
from llama_index_chutes import Chutes

MODEL = "google/gemma-4-31B-turbo-TEE"
DONE = Answer("Anna has 7 apples, and the note is written.")
SCRIPT = [
    # The function agent calls two tools at once.
    Answer("", reasoning="I need both.", tool_calls=[("add", {"a": 3, "b": 4}), ("note", {"text": "Anna: 7 apples"})]),
    DONE,
    # The clerk gives the sum to the writer.
    Answer("", tool_calls=[("add", {"a": 3, "b": 4})]),
    Answer("", tool_calls=[("handoff", {"to_agent": "writer", "reason": "It shall be written down."})]),
    Answer("", tool_calls=[("note", {"text": "Anna: 7 apples"})]),
    DONE,
    # The ReAct agent does the same in words.
    Answer('Thought: I need to add.\nAction: add\nAction Input: {"a": 3, "b": 4}'),
    Answer('Thought: Now the note.\nAction: note\nAction Input: {"text": "Anna: 7 apples"}'),
    Answer("Thought: I can answer without using any more tools.\nAnswer: Anna has 7 apples."),
]
QUESTION = "Anna has 3 apples and gets 4 more. How many has she? Write it down."

notes: list[str] = []


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def note(text: str) -> str:
    """Write something down."""
    notes.append(text)
    return "written"


def model() -> Chutes:
    """The service's model, or the script."""
    if os.environ.get("CHUTES_API_KEY"):
        return Chutes(model=MODEL)
    print("(without CHUTES_API_KEY the answers are a script)")
    http: Any = http_package()
    return Chutes(
        model=MODEL, api_key="cpk_none", async_http_client=http.AsyncClient(transport=FaultyTransport(SCRIPT))
    )


async def show(agent: Any) -> None:
    """Run an agent and print what it does."""
    handler = agent.run(QUESTION)
    async for event in handler.stream_events():
        if isinstance(event, AgentStream):
            print(event.thinking_delta or "", event.delta, sep="", end="", flush=True)
        elif isinstance(event, ToolCallResult):
            print(f"\n  {event.tool_name}({event.tool_kwargs}) -> {event.tool_output}")
    print(f"\n= {await handler}")


async def main() -> None:
    llm = model()
    adding, writing = FunctionTool.from_defaults(add), FunctionTool.from_defaults(note)

    print("\n== FunctionAgent")
    await show(FunctionAgent(tools=[adding, writing], llm=llm, system_prompt="Be brief."))

    print("\n== AgentWorkflow")
    clerk = FunctionAgent(name="clerk", description="Adds.", tools=[adding], llm=llm, can_handoff_to=["writer"])
    writer = FunctionAgent(name="writer", description="Writes things down.", tools=[writing], llm=llm)
    await show(AgentWorkflow(agents=[clerk, writer], root_agent="clerk"))

    print("\n== ReActAgent")
    await show(ReActAgent(tools=[adding, writing], llm=llm))
    print(f"\n{len(notes)} notes; {llm.ledger}")


if __name__ == "__main__":
    asyncio.run(main())
