"""Answers of a given form."""

from __future__ import annotations

import json
from typing import Any, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessageChunk
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1

from chutes_core import Catalog, ChutesWarning, ModelInfo, RequestRefusedError
from chutes_core.testing import Answer
from langchain_chutes._structured.parsers import answer_parser
from langchain_chutes._structured.schemas import response_format
from tests.effort import HOSTILE, WORST, assert_linear
from tests.langchain_chutes.models import MODES, call, scripted


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


class PersonV1(BaseModelV1):
    """Somebody."""

    name: str
    age: int


class PersonDict(TypedDict):
    """Somebody."""

    name: str
    age: int


SCHEMAS = [Person, PersonV1, PersonDict, Person.model_json_schema()]
ANNA = {"name": "Anna", "age": 31}
TEXT = json.dumps(ANNA)
CALL = Answer("", tool_calls=[("Person", ANNA)])


def catalog(*features: str | None) -> Catalog:
    """A catalogue of one model with these features; None where nothing is known of them."""
    known = None if None in features else frozenset(filter(None, features))
    return Catalog((ModelInfo(id="acme/one", features=known),), "live", 0.0, "2026-01-01", offline=True)


def value(found: Any) -> Any:
    return (
        found.dict()
        if isinstance(found, BaseModelV1)
        else found.model_dump()
        if isinstance(found, BaseModel)
        else found
    )


@pytest.mark.filterwarnings("ignore:Core Pydantic V1")
@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_every_method_gives_every_form(method: Any, schema: Any, mode: str) -> None:
    """Models give objects, everything else gives dicts."""
    title = "Person" if isinstance(schema, dict) else schema.__name__
    answer = Answer("", tool_calls=[(title, ANNA)]) if method == "function_calling" else Answer(TEXT)
    outcome = call(mode, [answer], runnable=lambda model: model.with_structured_output(schema, method=method))
    assert value(outcome.message) == ANNA
    if isinstance(schema, type) and schema is not PersonDict:
        assert isinstance(outcome.message, schema)


@pytest.mark.parametrize(
    ("features", "sent"),
    [
        (["structured_outputs", "tools", "json_mode"], "json_schema"),
        (["tools", "json_mode"], "tools"),
        (["json_mode"], "json_object"),
        ([], "tools"),
        ([None], "json_schema"),
    ],
)
def test_the_method_is_chosen_from_the_catalogue(features: list[str | None], sent: str) -> None:
    """The surest way that the model has; where nothing is known, the one that every engine has."""
    outcome = call(
        "sync-whole",
        [CALL if sent == "tools" else Answer(TEXT)],
        runnable=lambda model: model.with_structured_output(Person),
        catalog=catalog(*features),
    )
    assert value(outcome.message) == ANNA
    form = outcome.body.get("response_format", {}).get("type", "tools")
    assert form == sent


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"Here it is:\n```json\n{TEXT}\n```\nAnything else?",
        f"<think>Let me see {{}}.</think>\n\n{TEXT}",
        f"Let me see.</think>{TEXT}",
        f"\n {TEXT} \n",
        f"As [1] says, {{so}}: {TEXT} Anything else?",
        f"{TEXT} {TEXT}",
    ],
)
def test_json_is_found_behind_thoughts_and_in_fences(text: str) -> None:
    """What models put around their JSON does not matter."""
    assert answer_parser(PersonDict, "text").parse(text) == ANNA


@pytest.mark.parametrize("text", ["", "Anna, 31", '{"name": "Anna", "age": 3', f"{TEXT} {{", "```json\n{\n```"])
def test_what_is_not_whole_is_not_completed(text: str) -> None:
    """A cut object is no object."""
    with pytest.raises(OutputParserException, match="no valid JSON"):
        answer_parser(PersonDict, "text").parse(text)


def _parsed(mode: str, answer: Answer, **options: Any) -> Any:
    """Call a chain in one of the modes, and let what is no error of the service pass."""
    return call(mode, [answer], runnable=lambda model: model.with_structured_output(Person, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("method", "answer", "why"),
    [
        ("json_schema", Answer('{"name": "Anna", "age": 3', finish_reason="length"), "length limit"),
        ("json_schema", Answer(TEXT, finish_reason="length"), "length limit"),
        ("json_schema", Answer('{"name": "Anna", "age": 3'), "no valid JSON"),
        ("json_schema", Answer('{"name": "Anna"}'), "age"),
        ("json_mode", Answer("Anna is 31."), "no valid JSON"),
        ("function_calling", Answer("Anna is 31."), "it called none"),
        ("function_calling", Answer("", tool_calls=[("Person", {"name": "Anna"})]), "age"),
        ("function_calling", Answer("Hm", finish_reason="length"), "length limit"),
    ],
)
def test_a_form_that_is_not_met_is_an_error(method: str, answer: Answer, why: str, mode: str) -> None:
    """Half an object is never taken for a whole one, streamed or not; the error says why."""
    with pytest.raises(OutputParserException, match=why):
        _parsed(mode, answer, method=method)


@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_include_raw_keeps_the_message_and_the_error(mode: str) -> None:
    """With the raw message, what goes wrong with the form is told and not raised."""
    whole = _parsed(mode, Answer(TEXT), include_raw=True).message
    assert whole["parsed"] == Person(**ANNA)  # type: ignore[arg-type]
    assert whole["parsing_error"] is None
    assert whole["raw"].usage_metadata
    cut = _parsed(mode, Answer(TEXT[:-3], finish_reason="length"), include_raw=True).message
    assert cut["parsed"] is None
    assert isinstance(cut["parsing_error"], OutputParserException)
    assert cut["raw"].content == TEXT[:-3]


def test_a_dict_grows_while_it_streams() -> None:
    """Parts of the answer can be shown before it is whole."""
    model = scripted([Answer(TEXT, pieces=6)]).model
    steps = list(model.with_structured_output(Person.model_json_schema(), method="json_schema").stream("Anna?"))
    assert len(steps) > 2
    assert steps[-1] == ANNA


def test_what_is_sent_for_a_schema() -> None:
    """The schema travels under its name; "strict" only where it was given."""
    assert response_format(Person)["json_schema"]["name"] == "Person"
    assert response_format(Person)["json_schema"]["schema"]["required"] == ["name", "age"]
    assert "strict" not in response_format(Person)["json_schema"]
    assert response_format(Person, strict=False)["json_schema"]["strict"] is False
    wrapped = response_format(Person)
    assert response_format(wrapped) == wrapped
    assert response_format(wrapped["json_schema"] and {"json_schema": wrapped["json_schema"]}) == wrapped
    assert response_format({"type": "object", "title": "a b/c"})["json_schema"]["name"] == "a_b_c"


def test_a_pattern_is_taken_out_with_a_warning() -> None:
    """The gateway refuses regular expressions in schemas; the caller hears of it."""

    class Coded(BaseModel):
        """Something with a code."""

        code: str = Field(pattern="^[a-z]+$")

    with pytest.warns(ChutesWarning, match="pattern"):
        outcome = call(
            "sync-whole", [Answer('{"code": "a"}')], runnable=lambda model: model.with_structured_output(Coded)
        )
    assert "pattern" not in json.dumps(outcome.body)


def test_tools_may_stand_beside_a_schema() -> None:
    """With json_schema the model may call tools before it answers."""

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    outcome = call(
        "sync-whole",
        [Answer(TEXT)],
        runnable=lambda model: model.with_structured_output(Person, method="json_schema", tools=[add], strict=True),
    )
    assert outcome.body["tools"][0]["function"]["name"] == "add"
    assert outcome.body["response_format"]["json_schema"]["strict"] is True


def test_the_form_may_be_given_with_the_call() -> None:
    """A pydantic model as response_format is described to the service."""
    outcome = call("sync-whole", [Answer(TEXT)], params={"response_format": Person})
    assert outcome.body["response_format"]["json_schema"]["name"] == "Person"


@pytest.mark.parametrize(
    ("schema", "options", "why"),
    [
        (Person, {"method": "json"}, "method must be one of"),
        (None, {"method": "json_schema"}, "needs a schema"),
        (Person, {"method": "json_mode", "strict": True}, "strict needs a schema"),
        (Person, {"method": "json_mode", "tools": [PersonDict]}, "tools together with"),
    ],
)
def test_what_does_not_go_together_is_refused(schema: Any, options: dict[str, Any], why: str) -> None:
    """A clear error at the door."""
    with pytest.raises(RequestRefusedError, match=why):
        scripted().model.with_structured_output(schema, **options)


def test_json_mode_needs_no_schema() -> None:
    """It gives whatever object the model writes."""
    outcome = call(
        "sync-whole",
        [Answer(TEXT)],
        runnable=lambda model: model.with_structured_output(None, method="json_mode"),
    )
    assert outcome.message == ANNA  # type: ignore[comparison-overlap]
    assert outcome.body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("hostile", WORST)
def test_a_stream_is_read_as_often_as_its_length_allows(hostile: str) -> None:
    """One character after the other: the work grows as the text does, and the end is what a whole answer comes to."""

    def read(text: str) -> None:
        chunks = [AIMessageChunk(character) for character in text]
        last = AIMessageChunk("", chunk_position="last")
        list(answer_parser(Person, "text").transform(iter([*chunks, last])))

    assert_linear(read, HOSTILE[hostile])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_reply_is_more_than_an_error(hostile: str) -> None:
    """Whatever a model writes is an answer or an OutputParserException, here with a dict for an answer."""
    for source in ("text", "either", "calls"):
        with pytest.raises(OutputParserException):
            answer_parser(Person, source).invoke(HOSTILE[hostile](20_000))  # type: ignore[arg-type]
