"""Force a tool call from a model that cannot call tools.

A 135M model makes no valid call by itself. So the tool is chosen by similarity of meaning (embedding of the
question against those of the descriptions), and its arguments are an answer constrained to its schema::

    name = forced or await choose_tool(backend, tools, question)
    request = ChatRequest(tool_messages(question), json_schema=tool_schema(tools, name), temperature=0)
    ...
    name, arguments = parse_tool_choice(text)

Whether to call at all (``tool_choice="auto"``) is the gateway's policy, not the model's choice.
``ChatRequest.json_schema`` may be any schema: a backend bounds it itself, with :func:`bounded`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chutes_local.backends.bounds import SchemaError, bounded, minimal_instance

if TYPE_CHECKING:
    from chutes_local.backends.backend import Backend

__all__ = [
    "JSON_OBJECT",
    "SchemaError",
    "bounded",
    "choose_tool",
    "minimal_instance",
    "parse_tool_choice",
    "tool_messages",
    "tool_schema",
]

MAX_ARGUMENT = 48  # an argument is a place or a number, not a paragraph

JSON_OBJECT: Mapping[str, object] = {"type": "object"}
"""The schema of JSON mode (``response_format={"type": "json_object"}``)."""


def tool_schema(tools: Sequence[Mapping[str, object]], forced_name: str | None = None) -> dict[str, object]:
    """Build the schema of one call to one of ``tools`` (entries of OpenAI's ``tools``).

    >>> tool_schema([{"type": "function", "function": {"name": "ping"}}])["properties"]["name"]
    {'const': 'ping'}

    Raises:
        SchemaError: there is no such tool, or its parameters cannot constrain an answer.
    """
    functions = [_function(tool) for tool in tools]
    if forced_name is not None:
        functions = [function for function in functions if function.get("name") == forced_name]
    if not functions:
        offered = ", ".join(str(_function(tool).get("name")) for tool in tools) or "none"
        raise SchemaError(f"No tool {forced_name or ''!r} among the offered tools: {offered}.")
    calls = [_call_schema(function) for function in functions]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


async def choose_tool(backend: Backend, tools: Sequence[Mapping[str, object]], question: str) -> str:
    """Return the name of the tool whose description is closest in meaning to the question."""
    functions = [_function(tool) for tool in tools]
    if not functions:
        raise SchemaError("There is no tool to choose from.")
    if len(functions) == 1:
        return str(functions[0]["name"])
    labels = [str(function.get("description") or function["name"]).replace("_", " ") for function in functions]
    asked, *offered = (await backend.embed([question, *labels])).vectors
    likeness = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in offered]
    return str(functions[likeness.index(max(likeness))]["name"])


def tool_messages(question: str) -> list[dict[str, str]]:
    """Build the prompt for a call's arguments; one example teaches a small model to copy from the question."""
    example = {"name": "person", "arguments": {"place": "Oslo", "age": 31}}
    return [
        {"role": "system", "content": "Extract the values from the text as JSON."},
        {"role": "user", "content": "Text: I live in Oslo and I am 31."},
        {"role": "assistant", "content": json.dumps(example)},
        {"role": "user", "content": f"Text: {question}"},
    ]


def parse_tool_choice(text: str) -> tuple[str, str]:
    """Parse ``(name, arguments as JSON text)`` from an answer constrained by :func:`tool_schema`.

    >>> parse_tool_choice('{"name": "ping", "arguments": {"host": "a"}}')
    ('ping', '{"host": "a"}')

    Raises:
        SchemaError: the answer is not a complete call, for example because ``max_tokens`` cut it off.
    """
    try:
        call = json.loads(text)
        return str(call["name"]), json.dumps(dict(call["arguments"]), ensure_ascii=False)
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"The answer is not a complete tool call ({error}): {text[:80]!r}") from None


def _function(tool: Mapping[str, object]) -> Mapping[str, object]:
    """Return the inner part of a ``tools`` entry; a bare function (without the envelope) works too."""
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise SchemaError(f"A tool needs a function with a name; this one has none: {tool!r}")
    return function


def _call_schema(function: Mapping[str, object]) -> dict[str, object]:
    parameters = function.get("parameters")
    # No parameters means no arguments, not arbitrary ones.
    closed: Mapping[str, object] = {"type": "object", "properties": {}}
    arguments = bounded(parameters if isinstance(parameters, Mapping) and parameters else closed, MAX_ARGUMENT)
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
