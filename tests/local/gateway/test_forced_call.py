"""A tool call is forced by a schema, chosen by meaning, and read back."""

from __future__ import annotations

import json

import pytest

from chutes_local.backends.choose import choose_backend
from chutes_local.backends.echo import answer
from chutes_local.gateway.forced_call import SchemaError, choose_tool, parse_tool_choice, tool_messages, tool_schema


def tool(name: str, description: str = "", **properties: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool("get_weather", "Get the weather in a city.", city={"type": "string"})
MULTIPLY = tool("multiply", "Multiply two numbers.", a={"type": "number"}, b={"type": "number"})


def test_one_tool_is_one_call() -> None:
    """The name is fixed, the arguments are bounded, and nothing else fits."""
    schema = tool_schema([WEATHER])
    assert schema == {
        "type": "object",
        "properties": {
            "name": {"const": "get_weather"},
            "arguments": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 48}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def test_several_tools_are_a_choice_unless_one_is_forced() -> None:
    """Without a name any of the tools fits, with one only that."""
    assert tool_schema([WEATHER, MULTIPLY]) == {"anyOf": [tool_schema([WEATHER]), tool_schema([MULTIPLY])]}
    assert tool_schema([WEATHER, MULTIPLY], "multiply") == tool_schema([MULTIPLY])


@pytest.mark.parametrize("parameters", [{}, None, {"type": "object", "properties": {}}])
def test_a_tool_without_parameters_gets_none(parameters: object) -> None:
    """A call without arguments has an empty object."""
    schema = tool_schema([{"function": {"name": "now", "parameters": parameters}}])
    assert json.loads(minimal(schema)) == {"name": "now", "arguments": {}}


def minimal(schema: dict[str, object]) -> str:
    from chutes_local.backends.backend import ChatRequest

    return answer(ChatRequest((), json_schema=schema))


@pytest.mark.parametrize(
    ("tools", "name", "message"),
    [
        ([], None, "none"),
        ([WEATHER, MULTIPLY], "fly", "get_weather, multiply"),
        ([{"type": "function", "function": {}}], None, "name"),
    ],
)
def test_no_such_tool_is_a_clear_error(tools: list[dict[str, object]], name: str | None, message: str) -> None:
    """The error lists what was offered."""
    with pytest.raises(SchemaError, match=message):
        tool_schema(tools, name)


def test_a_call_survives_the_round_trip() -> None:
    """Arguments come back as JSON text, in any script."""
    text = json.dumps({"name": "get_weather", "arguments": {"city": "東京"}})
    assert parse_tool_choice(text) == ("get_weather", '{"city": "東京"}')


@pytest.mark.parametrize("text", ["", '{"name": "get_w', '{"name": "a"}', "[]", '{"name": "a", "arguments": 3}', "7"])
def test_half_a_call_is_none(text: str) -> None:
    """A call that was cut is never handed on."""
    with pytest.raises(SchemaError, match="complete tool call"):
        parse_tool_choice(text)


@pytest.mark.parametrize(
    ("question", "name"), [("Weather in the city of Oslo?", "get_weather"), ("Multiply numbers 6 and 7", "multiply")]
)
async def test_the_nearest_tool_is_chosen(question: str, name: str) -> None:
    """The choice follows the likeness of question and description, in any order of the tools."""
    backend = choose_backend("echo")
    assert await choose_tool(backend, [WEATHER, MULTIPLY], question) == name
    assert await choose_tool(backend, [MULTIPLY, WEATHER], question) == name


async def test_choosing_among_none_is_an_error() -> None:
    """Nothing to choose from is the caller's mistake; a single tool needs no embedding."""
    with pytest.raises(SchemaError):
        await choose_tool(choose_backend("echo"), [], "question")
    assert await choose_tool(choose_backend("echo"), [WEATHER], "") == "get_weather"


def test_the_question_is_asked_last() -> None:
    """The worked example comes before the question."""
    assert tool_messages("Weather in Oslo?")[-1] == {"role": "user", "content": "Text: Weather in Oslo?"}
