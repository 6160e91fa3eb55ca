"""Chutes in LangChain: ask, stream, call tools, get objects, and meet an honest error.

    python examples/langchain_quickstart.py

With CHUTES_API_KEY set the service answers. Without it nothing leaves this machine: the embedded Chutes answers,
with a small model where that can run, else with an echo.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from langchain_core.exceptions import ModelNotFoundError
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field

from langchain_chutes import ChatChutes


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=30)
    country: str = Field(max_length=30)


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def main() -> None:
    with ExitStack() as stack:
        if not os.environ.get("CHUTES_API_KEY"):
            from chutes_local import serve

            os.environ.update(stack.enter_context(serve()).env)
        model = ChatChutes(model="Qwen/Qwen3-32B-TEE", temperature=0, max_tokens=80)

        answer = model.invoke("What is the capital of France?")
        print("Answer:", answer.text)
        print("  ", answer.usage_metadata, answer.response_metadata["model_name"])

        print("Stream: ", end="")
        for chunk in model.stream("Count to three."):
            print(chunk.text, end="", flush=True)
        print()

        chain = ChatPromptTemplate.from_template("Say hello to {name}.") | model | StrOutputParser()
        print("Chain:", chain.batch([{"name": "Anna"}, {"name": "Ben"}]))

        call = model.bind_tools([add], tool_choice="add").invoke("What is 20 + 22?").tool_calls[0]
        print("A tool call:", call["name"], call["args"])

        print("An object:", model.with_structured_output(City).invoke("Paris is the capital of France."))

        try:
            ChatChutes(model="acme/nowhere").invoke("Hello")
        except ModelNotFoundError as error:
            print("An honest error:", error)
        print("All of it:", model.ledger)


if __name__ == "__main__":
    main()
