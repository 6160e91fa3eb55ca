"""Every answer of a given form is held to it: one that does not have it is an error, or the next member's turn."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Annotated, Any, Optional, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessageChunk
from pydantic import BaseModel, Field

from chutes_core import ChutesWarning
from chutes_core.reply.structured import broken
from chutes_core.request.schema import is_refused
from chutes_core.testing import Answer
from langchain_chutes._structured.schemas import promise
from tests.langchain_chutes.fallback_stage import Other, Person, stage
from tests.langchain_chutes.models import MODES, call, scripted

ADA = {"name": "Ada", "age": 36}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
TITLED = {"title": "PersonDict", **SCHEMA}


class PersonDict(TypedDict):
    """A person."""

    name: str
    age: int


class Loose(TypedDict):
    """A person of whom little is known."""

    name: str
    nick: Optional[str]  # noqa: UP045 - LangChain does not read the other way to write it
    age: Annotated[Optional[int], None, "In years."]  # noqa: UP045


class Open(TypedDict, total=False):
    """Anything."""

    name: str


def called(arguments: Any, tool: str = "PersonDict") -> Answer:
    return Answer("", tool_calls=[(tool, arguments)])


def said(value: Any) -> Answer:
    return Answer(json.dumps(value))


WRONG = [
    (Person, "function_calling", called({"nme": "Ada"}, "Person"), called(ADA, "Person")),
    (Person, "function_calling", called({"name": "Ada", "age": "old"}, "Person"), called(ADA, "Person")),
    (PersonDict, "function_calling", called({"nme": "Ada"}), called(ADA)),
    (TITLED, "function_calling", called({"age": 36}), called(ADA)),
    *((PersonDict, "json_schema", said(wrong), said(ADA)) for wrong in (None, [], "Ada", {"nme": "Ada"}, {"name": 1})),
    (TITLED, "json_schema", said({"name": None}), said(ADA)),
    (TITLED, "json_mode", said([ADA]), said(ADA)),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("schema", "method", "wrong", "right"), WRONG)
def test_an_answer_without_its_form_is_the_next_ones_turn(
    schema: Any, method: Any, wrong: Answer, right: Answer, mode: str
) -> None:
    """Alone it is an OutputParserException that quotes the answer, and in a fallback a failure like any other."""
    with pytest.raises(OutputParserException) as caught:
        call(mode, [wrong], runnable=lambda model: model.with_structured_output(schema, method=method))
    assert caught.value.llm_output
    made = stage([wrong, right])
    if mode.endswith("whole"):
        made.call(mode, made.model.with_structured_output(schema, method=method))
        assert (made.message if isinstance(made.message, dict) else made.message.model_dump()) == ADA
        assert made.models == ["acme/one", "acme/two"]


def test_an_answer_by_tool_call_is_held_to_its_form_too() -> None:
    """A member of another provider may answer with a tool call whichever way was asked for."""
    wrong = {"name": "Person", "args": {"nme": "Ada"}, "id": "1"}
    other = Other.of(AIMessageChunk("", tool_calls=[wrong]))  # type: ignore[list-item]
    made = stage([said(ADA)], [other, "acme/two"])
    assert made.model.with_structured_output(Person).invoke("Who?") == Person(name="Ada", age=36)


@pytest.mark.parametrize(
    ("schema", "answer", "why"),
    [
        (SCHEMA, {"name": "Ada", "age": 36.0, "more": 1}, None),
        (SCHEMA, {"name": "Ada", "age": None}, None),
        (SCHEMA, {"name": "Ada", "age": True}, "'age' is not of type integer"),
        (SCHEMA, {"age": 36}, "'name' is missing"),
        (SCHEMA, "Ada", "it is not of type object"),
        ({"properties": {"name": {}}}, [], "it is not of type object"),
        ({"type": "array", "items": {}}, [1], None),
        ({"type": "array", "items": {}}, {}, "it is not of type array"),
        ({"type": ["object", "null"]}, None, None),
        ({"properties": {"of": {"enum": ["a", "b"]}}}, {"of": "c"}, "'of' is none of"),
        ({"properties": {"of": {"type": ["string", "null"]}}, "required": ["of"]}, {"of": None}, None),
        ({"properties": {"of": {"type": ["string", "null"]}}}, {"of": 1}, "'of' is not of type string or null"),
        ({"properties": {"of": {"anyOf": [{"type": "string"}]}, "to": True}}, {"of": "1", "to": 1}, None),
        ({"name": "person", "parameters": SCHEMA}, {}, "'name' is missing"),
        ({"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}, {}, "'name' is missing"),
        ({"type": "json_schema", "json_schema": {"name": "person"}}, 1, None),
        (PersonDict, {"name": "Ada"}, "'age' is missing"),
        (Loose, {"name": "Ada", "nick": None, "age": None}, None),
        (Loose, {"name": None, "nick": None, "age": None}, "'name' is not of type string"),
        (Loose, {"name": "Ada", "age": None}, "'nick' is missing"),
        (Open, {}, None),
        (Open, {"name": 1}, "'name' is not of type string"),
    ],
)
def test_what_an_answer_is_held_to(schema: Any, answer: Any, why: str | None) -> None:
    """Its kind, the keys that are required, and the kinds and choices of its own keys; what is unknown may be."""
    found = broken(promise(schema), answer)
    assert (found is None) if why is None else (found or "").startswith(why)


def test_a_schema_needs_no_title() -> None:
    """It is a tool with the name "answer" then, ours and another provider's."""
    for bare in (SCHEMA, {"json_schema": {"schema": SCHEMA}}):
        outcome = call(
            "sync-whole",
            [called(ADA, "answer")],
            runnable=lambda model, bare=bare: model.with_structured_output(bare, method="function_calling"),
        )
        assert outcome.message == ADA  # type: ignore[comparison-overlap]
        (sent,) = outcome.body["tools"]
        assert (sent["function"]["name"], sent["function"]["parameters"]) == ("answer", SCHEMA)
    other = Other.of(AIMessageChunk("", tool_calls=[{"name": "answer", "args": ADA, "id": "1"}]))  # type: ignore[list-item]
    asked = stage([], [other, "acme/two"]).model.with_structured_output(SCHEMA, method="function_calling")
    assert asked.invoke("Who?") == ADA


def test_a_string_may_hold_the_end_of_a_thought() -> None:
    """What is valid JSON as it stands is not searched for thoughts."""
    told = {"name": "</think>", "age": 1}
    outcome = call("sync-whole", [said(told)], runnable=lambda model: model.with_structured_output(PersonDict))
    assert outcome.message == told  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("text", ["garbage", json.dumps(ADA)])
def test_a_stream_with_the_raw_answer_tells_its_error(text: str, asynchronous: bool) -> None:
    """The raw chunks come as they are made, and last what was read of them or what is wrong with it."""
    asked: Any = scripted([Answer(text, pieces=3)]).model.with_structured_output(Person, include_raw=True)

    async def steps() -> list[dict[str, Any]]:
        return [step async for step in asked.astream("Who?")]

    *raw, last = asyncio.run(steps()) if asynchronous else list(asked.stream("Who?"))
    assert len(raw) > 2
    assert "".join(step["raw"].text for step in raw) == text
    if text == "garbage":
        assert last["parsed"] is None
        assert isinstance(last["parsing_error"], OutputParserException)
    else:
        assert last == {"parsed": Person(name="Ada", age=36), "parsing_error": None}


# ------------------------------------------------------------------------------------------------ regular expressions


class Rule(BaseModel):
    """A rule, whose pattern is a field and no keyword."""

    pattern: str
    n: int


class Zip(BaseModel):
    """A code."""

    code: str = Field(pattern="^[0-9]+$")


@pytest.mark.parametrize("fallback", [False, True])
def test_a_field_named_pattern_is_asked_for_by_a_tool(fallback: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The gateway refuses a schema with one, so that the answer is a call; the log says why."""
    answer = called({"pattern": "^a", "n": 1}, "Rule")
    made: Any = stage([answer]) if fallback else scripted([answer])
    with caplog.at_level("INFO", "chutes_core"):
        assert made.model.with_structured_output(Rule).invoke("A rule?") == Rule(pattern="^a", n=1)
    body = made.transport.requests[0].body
    assert "response_format" not in body
    assert body["tools"][0]["function"]["parameters"]["properties"]["pattern"]
    assert "a property named 'pattern'" in caplog.text


@pytest.mark.parametrize("given", [Rule, {"title": "Rule", **Rule.model_json_schema()}], ids=["model", "schema"])
def test_who_asks_for_a_schema_with_such_a_field_gets_it(given: Any) -> None:
    """It goes by reference, which the gateway takes, without a warning."""
    made = scripted([said({"pattern": "^a", "n": 1})])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dict(made.model.with_structured_output(given, method="json_schema").invoke("A rule?"))["n"] == 1
    schema = made.body["response_format"]["json_schema"]["schema"]
    assert schema["$ref"] == "#/$defs/answer"
    assert "pattern" in schema["$defs"]["answer"]["properties"]
    assert not is_refused(schema)


@pytest.mark.parametrize("schema", [Zip, {"title": "Zip", **Zip.model_json_schema()}], ids=["model", "schema"])
def test_a_pattern_is_not_sent_and_is_checked(schema: Any) -> None:
    """The warning is shown at the line that asks, and an answer that does not match is none."""
    made = scripted([said({"code": "12"}), said({"code": "1x"})])
    asked = made.model.with_structured_output(schema)
    with pytest.warns(ChutesWarning, match="1 of them was removed") as warned:
        assert dict(asked.invoke("Which?")) == {"code": "12"}
    assert [warning.filename for warning in warned] == [__file__]
    with pytest.warns(ChutesWarning), pytest.raises(OutputParserException, match="code"):
        asked.invoke("Which?")
    assert "pattern" not in json.dumps(made.body["response_format"])
