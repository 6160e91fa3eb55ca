"""Chutes in LlamaIndex: an answer, a stream with reasoning, a tool, an object, and an honest error.

    python examples/llama_index_quickstart.py

With CHUTES_API_KEY set the service answers. Without it nothing leaves this machine: the embedded Chutes answers,
with a small model where one can run, else with an echo.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

from chutes_core import IncompleteAnswerError
from llama_index_chutes import Chutes

MODEL = "google/gemma-4-31B-turbo-TEE"


class Person(BaseModel):
    """A person."""

    name: str
    city: str


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def main() -> None:
    with ExitStack() as stack:
        rehearsal = None
        if not os.environ.get("CHUTES_API_KEY"):
            from chutes_local import serve

            rehearsal = stack.enter_context(serve())
            os.environ.update(rehearsal.env)
        llm = Chutes(model=MODEL, temperature=0, max_tokens=200, max_retries=0)

        print("An answer:", llm.complete("What is the capital of France?"))

        print("A stream: ", end="")
        for chunk in llm.stream_chat([ChatMessage("Name three colours.")]):
            print(chunk.additional_kwargs.get("thinking_delta", ""), chunk.delta, sep="", end="", flush=True)
        print(f"\n  tokens: {chunk.raw['usage']['total_tokens']}")

        tool = FunctionTool.from_defaults(add)
        response = llm.chat_with_tools([tool], "What is 2 plus 3?", tool_required=True)
        for call in llm.get_tool_calls_from_response(response):
            print(f"A tool call: {call.tool_name}({call.tool_kwargs})")

        prompt = PromptTemplate("{name} lives in {city}. Who is it, and where?")
        print("An object:", repr(llm.structured_predict(Person, prompt, name="Ada Lovelace", city="London")))

        if rehearsal is not None:
            rehearsal.faults.add(MODEL, "error_line", times=1)
            try:
                for chunk in llm.stream_complete("Tell a long story."):
                    print(chunk.delta, end="", flush=True)
            except IncompleteAnswerError as error:
                print(f"\nAn honest error: {error}")
        print("All of it:", llm.ledger)


if __name__ == "__main__":
    main()
