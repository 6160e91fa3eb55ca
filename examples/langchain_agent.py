"""An agent on Chutes with two tools, over several turns.

    pip install langchain
    python examples/langchain_agent.py

With CHUTES_API_KEY set the service answers. Without it a script of answers stands in for the model, as in a test,
because a model small enough for any machine cannot plan.
"""

from __future__ import annotations

import os
from typing import Any

from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver

from chutes_core.testing import Answer, FaultyTransport
from langchain_chutes import ChatChutes

NOTES: list[str] = []


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def note(text: str) -> str:
    """Write a note down."""
    NOTES.append(text)
    return f"{len(NOTES)} notes so far"


REHEARSAL = [
    Answer("", tool_calls=[("add", {"a": 20, "b": 22})]),
    Answer("20 + 22 is 42."),
    Answer("", tool_calls=[("add", {"a": 42, "b": 8}), ("note", {"text": "The result is 50."})]),
    Answer("With 8 more it is 50, and I wrote that down."),
]


def chat_model() -> ChatChutes:
    """The service with a key, a rehearsal without."""
    options: dict[str, Any] = {}
    if not os.environ.get("CHUTES_API_KEY"):
        import httpx

        options = {"api_key": "cpk_rehearsal", "http_client": httpx.Client(transport=FaultyTransport(REHEARSAL))}
    return ChatChutes(model="Qwen/Qwen3-32B-TEE", temperature=0, **options)


def main() -> None:
    model = chat_model()
    agent: Any = create_agent(
        model, [add, note], system_prompt="Use the tools; do not calculate yourself.", checkpointer=InMemorySaver()
    )
    thread: Any = {"configurable": {"thread_id": "1"}}
    for question in ("What is 20 + 22?", "Add 8 more, and note the result."):
        print(f"You: {question}")
        for step in agent.stream({"messages": [("user", question)]}, thread, stream_mode="updates"):
            for update in step.values():
                for message in update["messages"]:
                    calls = ", ".join(f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", []))
                    print(f"  {message.type}: {message.text or calls}")
    print("Notes:", NOTES)
    print("All of it:", model.ledger)


if __name__ == "__main__":
    main()
