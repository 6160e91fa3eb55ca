"""When a reader of objects has been shown something, and whether an answer is what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core import APIError, Kind
from chutes_core.fallback.objects import Objects, asked_form, check_reply
from chutes_core.reply.structured import Form
from chutes_core.response import Choice, Delta, Reply, ToolCall, ToolCallDelta

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
ASKED = {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}}


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ('{"name": "Ada"}', '{"name": "'),
        ('Here it is: {"age": 36}', 'Here it is: {"age": 36'),
        (
            '{"name": "", "age": null, "tags": [], "more": {"deep": [{"n": 0}]}}',
            '{"name": "", "age": null, "tags": [], "more": {"deep": [{"n": 0',
        ),
        ("No idea.", "No idea."),
        ("{}", "{}"),
    ],
)
def test_the_first_value_commits(text: str, before: str) -> None:
    """Neither braces nor names of fields nor empty values do; a number has ended when something follows."""
    objects = Objects(Form({}))
    shown = [place for place, letter in enumerate(text) if objects.shows(Delta(letter))]
    assert shown[:1] == ([len(before)] if before != text else [])
    objects.begin()
    assert not objects.shows(Delta('": "Ada"')), "another answer begins with nothing"


def test_arguments_are_read_call_by_call() -> None:
    """Pieces of two calls that come in turns are two texts."""
    objects = Objects(Form({}))
    pieces = [(0, '{"name"'), (1, '{"age"'), (0, ": "), (1, ": "), (1, "3}")]
    shown = [objects.shows(Delta(tool_calls=[ToolCallDelta(*[index, None, None, text])])) for index, text in pieces]
    assert shown == [False, False, False, False, True]


def test_a_long_answer_is_not_read_anew_with_every_piece() -> None:
    """So that the whole takes linear time: a text without any value is the worst."""
    objects = Objects(Form({}))
    reads = 0

    class Counting(dict[Any, Any]):
        def values(self) -> Any:
            nonlocal reads
            reads += 1
            return super().values()

    objects._texts = Counting()
    for _ in range(20_000):
        objects.shows(Delta("word "))
    assert reads < 400


def test_what_a_request_asks_for() -> None:
    """JSON of a schema, any JSON object, or nothing of the kind."""
    form = asked_form(ASKED)
    assert form is not None
    assert form.schema == PERSON
    for params in (
        {},
        {"response_format": None},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_schema"}},
    ):
        assert asked_form(params) is None


def reply(text: str, ending: str = "stop", calls: tuple[ToolCall, ...] = ()) -> Reply:
    return Reply(None, "acme/one", (Choice(0, text, "", calls, (), ending),))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('{"name": "Ada", "age": 36}', None),
        ('  {"name": "Ada"}\n', None),
        ('```json\n{"name": "Ada"}\n```', "it is not JSON"),
        ('Here: {"name": "Ada"}', "it is not JSON"),
        ('{"age": 36}', "'name' is missing"),
        ('{"name": 3}', "'name' is not of type string"),
        ('["Ada"]', "it is not of type object"),
        ("", "it is not JSON"),
        (str(PERSON).replace("'", '"'), "schema"),
    ],
)
def test_an_answer_is_what_was_asked_for(text: str, wrong: str | None) -> None:
    """As it stands: whoever asked with response_format reads the text as it is."""
    form = asked_form(ASKED)
    assert form is not None
    if wrong is None:
        check_reply(form, reply(text), "acme/one")
        return
    with pytest.raises(APIError, match=wrong) as caught:
        check_reply(form, reply(text), "acme/one")
    assert caught.value.kind is Kind.MALFORMED


def test_a_quiet_error_says_nothing_of_the_answer() -> None:
    """It came encrypted."""
    form = asked_form(ASKED)
    assert form is not None
    with pytest.raises(APIError, match="does not have the form") as caught:
        check_reply(form, reply('["Ada"]'), "acme/one", quiet=True)
    assert "Ada" not in str(caught.value)


def test_what_is_no_answer_yet_is_not_read() -> None:
    """A call comes before the answer, and a length limit would be reached everywhere."""
    form = asked_form(ASKED)
    assert form is not None
    check_reply(form, reply('{"na', "length"), "acme/one")
    check_reply(form, reply("Let me see.", calls=(ToolCall("1", "look", "{}"),)), "acme/one")
