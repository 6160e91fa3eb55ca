"""Structured answers: by schema, by tool and in words, whole and streamed, blocking and async."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.bridge.pydantic import BaseModel, Field
from llama_index.core.program.function_program import FunctionCallingProgram
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode

from chutes_core import APIError, Choice, ChutesWarning, MalformedReplyError, RefusalError, Reply, StreamFailedError
from chutes_core.reply.structured import FormError
from chutes_core.request.objects import Mode
from chutes_core.testing import Answer, Fault
from llama_index_chutes import FallbackError
from llama_index_chutes._structured.plans import Plan, partial_in, reader_of
from tests.effort import HOSTILE, WORST, assert_linear
from tests.llama_index_chutes.rigs import Outcome, gather, rig
from tests.llama_index_chutes.stages import MEMBERS, POLICY, stage

METHODS = [
    "structured_predict",
    "stream_structured_predict",
    "astructured_predict",
    "astream_structured_predict",
]
PROMPT = PromptTemplate("Invent a {thing}.")


class City(BaseModel):
    """A city."""

    name: str
    people: int
    twins: list[str] = Field(default_factory=list)


OSLO = City(name="Oslo", people=700_000, twins=["Bergen"])
AS_TEXT = Answer(OSLO.model_dump_json(), pieces=12)
AS_CALL = Answer("", tool_calls=[("City", OSLO.model_dump())], pieces=12)
MODES: dict[str, tuple[dict[str, Any], Answer]] = {
    "schema": ({}, AS_TEXT),
    "tool": ({"pydantic_program_mode": PydanticProgramMode.FUNCTION}, AS_CALL),
    "words": ({"pydantic_program_mode": PydanticProgramMode.LLM}, AS_TEXT),
}


def predict(llm: Any, method: str, prompt: Any = PROMPT, **kwargs: Any) -> Outcome:
    return gather(llm, method, City, prompt, thing="city", **kwargs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
def test_an_object(method: str, mode: str) -> None:
    """Each way to ask gives the object, with the system prompt and the caller's parameters."""
    settings, answer = MODES[mode]
    made = rig([answer], system_prompt="Be brief.", **settings)
    outcome = predict(made.llm, method, llm_kwargs={"temperature": 0.5, "tool_choice": "auto"})
    assert outcome.last == OSLO
    assert isinstance(outcome.last, City)
    body = made.bodies[0]
    assert body["temperature"] == 0.5
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][1]["content"].startswith("Invent a city.")
    if mode == "schema":
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["name", "people"]
        assert body["response_format"]["json_schema"]["name"] == "City"
    if mode == "tool":
        assert (body["tools"][0]["function"]["name"], body["tool_choice"]) == ("City", "required")
    if mode == "words":
        assert '"people"' in body["messages"][1]["content"]
        assert body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["stream_structured_predict", "astream_structured_predict"])
def test_a_stream_shows_what_is_there(method: str, mode: str) -> None:
    """The pieces grow: a name before it is whole, a field that has not come yet as None."""
    settings, answer = MODES[mode]
    pieces = predict(rig([answer], **settings).llm, method).chunks
    names = [getattr(piece, "name", None) or "" for piece in pieces]
    assert names[0] != names[-1] == "Oslo"
    assert all("Oslo".startswith(name) for name in names)
    assert any(getattr(piece, "people", None) is None for piece in pieces)


@pytest.mark.parametrize(
    ("model", "sent"),
    [("Qwen/Qwen3-32B-TEE", "response_format"), ("unsloth/Mistral-Nemo-Instruct-2407-TEE", "tools")],
)
def test_the_catalogue_says_which_way(model: str, sent: str) -> None:
    """A model of which the catalogue says that it follows a schema is given one, any other a tool."""
    answer = AS_TEXT if sent == "response_format" else AS_CALL
    made = rig([answer], model=model)
    assert predict(made.llm, "structured_predict").last == OSLO
    assert sent in made.bodies[0]


@pytest.mark.parametrize(
    "said",
    [
        "```json\n{json}\n```",
        "Here you are:\n```\n{json}\n```\nAnything else?",
        "<think>A city, a city.</think>\n{json}",
        "Let me see.\n</think>\n\n{json}",
        "Sure! {json} Enjoy.",
    ],
)
@pytest.mark.parametrize("method", ["structured_predict", "stream_structured_predict"])
def test_an_answer_in_a_wrapping_is_unwrapped(method: str, said: str) -> None:
    """Fences, thoughts and politeness around the JSON do no harm."""
    made = rig([Answer(said.replace("{json}", OSLO.model_dump_json()))])
    assert predict(made.llm, method).last == OSLO


@pytest.mark.parametrize(
    "said",
    [
        "Based on source [1]: {json}",
        "I use {name} and {people}, in {this order}: {json}",
        'For {"example": 1} the answer is {json}',
        "The list [1, 2] and\n```json\n{json}\n```",
        '<think>Perhaps {"name": "Paris", "people": 2}.</think>\n{json}',
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_the_answer_is_the_first_json_of_its_form(method: str, said: str) -> None:
    """What is quoted before it, of another form or in a thought, is not taken for it, nor shown as a piece of it."""
    made = rig(
        [Answer(said.replace("{json}", OSLO.model_dump_json()), pieces=20)],
        pydantic_program_mode=PydanticProgramMode.LLM,
    )
    outcome = predict(made.llm, method)
    assert outcome.last == OSLO
    if "stream" in method and "think" not in said:
        names = [getattr(piece, "name", None) or "" for piece in outcome.chunks]
        assert all("Oslo".startswith(name) for name in names)
        assert len(names) > 2


@pytest.mark.parametrize("said", ["{json}", "Sure: {json}", "```json\n{json}\n```"])
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_may_speak_of_thoughts(method: str, said: str) -> None:
    """The mark at which a thought ends does no harm inside of a string."""
    city = City(name="a </think> b", people=3)
    made = rig([Answer(said.replace("{json}", city.model_dump_json()), pieces=9)])
    assert predict(made.llm, method).last == city


@pytest.mark.parametrize(
    "said",
    [
        '{"company": {json}}',
        '{"company": {json}, "city": "Bern',
        "[{json}]",
        "<think>{json}?</think> No, I cannot say.",
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_part_of_something_else_is_no_answer(method: str, said: str) -> None:
    """An object inside of another one, of a list, of a thought or of an answer that was cut means something else."""
    made = rig([Answer(said.replace("{json}", OSLO.model_dump_json()))])
    assert isinstance(predict(made.llm, method).error, MalformedReplyError)


@pytest.mark.parametrize("method", METHODS)
def test_a_tool_that_was_answered_in_words(method: str) -> None:
    """A model that was to call a tool and wrote the JSON instead is understood."""
    made = rig([AS_TEXT], pydantic_program_mode=PydanticProgramMode.FUNCTION)
    assert predict(made.llm, method).last == OSLO


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"name": "Oslo"}', "people"),
        ('{"name": "Oslo", "people": "many"}', "people"),
        ("I would rather not.", "no valid JSON"),
        ('{"name": "Os', "no valid JSON"),
        ('As [1] says: {"name": "Oslo"}', "people: Field required"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_an_answer_of_another_form_is_an_error(method: str, said: str, why: str) -> None:
    """What is not the object that was asked for is never given out as one."""
    outcome = predict(rig([Answer(said)]).llm, method)
    assert isinstance(outcome.error, MalformedReplyError)
    assert why in str(outcome.error)
    assert outcome.error.partial == said
    assert outcome.error.partial_reply is not None
    assert outcome.error.partial_reply.usage is not None


class Miscalled(Answer):
    """A call of the tool that gives the answer, with arguments that are no JSON."""

    def deltas(self) -> list[dict[str, object]]:
        function = {"name": "City", "arguments": '{"name": Oslo}'}
        return [{"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": function}]}]

    def body(self, model: str) -> dict[str, object]:
        choice = {"index": 0, "message": {"content": None, **self.deltas()[0]}, "finish_reason": "tool_calls"}
        return {**super().body(model), "choices": [choice]}


@pytest.mark.parametrize("method", METHODS)
def test_a_call_that_cannot_be_read_is_named(method: str) -> None:
    """The error says which tool was called and what is wrong, and has the arguments as they were written."""
    outcome = predict(rig([Miscalled("")], pydantic_program_mode=PydanticProgramMode.FUNCTION).llm, method)
    assert isinstance(outcome.error, MalformedReplyError)
    assert "the call of 'City': the arguments are not valid JSON" in str(outcome.error)
    assert outcome.error.partial == '{"name": Oslo}'
    assert outcome.error.partial_reply is not None
    assert [call.name for call in outcome.error.partial_reply.invalid_tool_calls] == ["City"]
    assert outcome.error.partial_reply.usage is not None


def test_members_of_a_fallback_say_what_arrived() -> None:
    """So does the failure of each, when none gives the object."""
    said = ["I would rather not.", '{"name": "Oslo"}']
    policy = replace(POLICY, max_attempts=2)
    outcome = predict(stage([Answer(text) for text in said], MEMBERS[:2], policy=policy).llm, "structured_predict")
    assert isinstance(outcome.error, FallbackError)
    assert [error.partial for error in outcome.error.exceptions if isinstance(error, APIError)] == said


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_was_cut_says_so(method: str) -> None:
    """Where max_tokens cut the JSON, the error names it."""
    outcome = predict(rig([Answer('{"name": "Os', finish_reason="length")]).llm, method)
    assert "max_tokens" in str(outcome.error)


@pytest.mark.parametrize("method", ["stream_structured_predict", "astream_structured_predict"])
def test_a_stream_that_breaks_raises(method: str) -> None:
    """A failure in the middle is the core's error, not a last good piece."""
    made = rig([Fault("error_line", after=9, answer=AS_TEXT)], max_retries=0)
    outcome = predict(made.llm, method)
    assert isinstance(outcome.error, StreamFailedError)
    assert made.transport.open_replies == 0


@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # the framework uses it
@pytest.mark.parametrize("method", ["chat", "stream_chat", "achat", "astream_chat", "complete", "acomplete"])
def test_as_structured_llm(method: str) -> None:
    """The framework's structured model over ours."""
    made = rig([AS_TEXT])
    structured = made.llm.as_structured_llm(City)
    question: Any = "Invent a city." if "complete" in method else [ChatMessage("Invent a city.")]
    assert gather(structured, method, question).last.raw == OSLO
    assert made.bodies[0]["messages"] == [{"role": "user", "content": "Invent a city."}]


def test_the_prompt_is_not_changed() -> None:
    """A prompt may be used again, also after it was asked in words."""
    messages = [ChatMessage(role=MessageRole.SYSTEM, content="S"), ChatMessage("Invent a {thing}.")]
    prompt = ChatPromptTemplate(message_templates=messages)
    made = rig([AS_TEXT, AS_TEXT], pydantic_program_mode=PydanticProgramMode.LLM)
    for _ in range(2):
        predict(made.llm, "structured_predict", prompt)
    assert made.bodies[0]["messages"] == made.bodies[1]["messages"]
    assert prompt.output_parser is None


@pytest.mark.parametrize("streamed", [False, True])
def test_the_frameworks_own_program(streamed: bool) -> None:
    """A FunctionCallingProgram that somebody builds works too, with the whole object at its end."""
    made = rig([AS_CALL])
    program = FunctionCallingProgram.from_defaults(City, prompt=PROMPT, llm=made.llm)
    assert (list(program.stream_call(thing="city"))[-1] if streamed else program(thing="city")) == OSLO


def test_many_at_once() -> None:
    """Several questions at a time do not get into each other's way."""
    cities = [City(name=f"C{number}", people=number) for number in range(5)]
    made = rig([Answer(city.model_dump_json()) for city in cities])

    async def all_of_them() -> list[City]:
        return await asyncio.gather(*[made.llm.astructured_predict(City, PROMPT, thing="city") for _ in cities])

    assert sorted(city.people for city in asyncio.run(all_of_them())) == [0, 1, 2, 3, 4]


class Refusing(Answer):
    """A model that refuses in the field that is there for it."""

    def deltas(self) -> list[dict[str, object]]:
        return [*Answer.deltas(self), {"refusal": "I cannot "}, {"refusal": "help."}]

    def body(self, model: str) -> dict[str, object]:
        body: Any = Answer.body(self, model)
        body["choices"][0]["message"]["refusal"] = "I cannot help."
        return body  # type: ignore[no-any-return]


@pytest.mark.parametrize("said", ["", OSLO.model_dump_json()])
@pytest.mark.parametrize("method", METHODS)
def test_a_refusal_is_no_answer(method: str, said: str) -> None:
    """With the model's words; also if there is something beside it."""
    error = predict(rig([Refusing(said)], max_retries=0).llm, method).error
    assert isinstance(error, RefusalError)
    assert error.refusal == "I cannot help."
    assert "I cannot help." in str(error)


@pytest.mark.parametrize("method", METHODS)
def test_a_filter_is_named(method: str) -> None:
    """What it ended is no answer either."""
    cut = Answer('{"name": "Os', finish_reason="content_filter")
    error = predict(rig([cut], max_retries=0).llm, method).error
    assert isinstance(error, RefusalError)
    assert "content_filter" in str(error)


def test_a_sealed_refusal_is_not_quoted() -> None:
    """What came encrypted is for the caller alone."""
    plan = Plan(City, Mode.WORDS, [], {}, model="acme/one", quiet=True)
    message = ChatMessage(role=MessageRole.ASSISTANT, content="", additional_kwargs={"refusal": "Secret words."})
    with pytest.raises(RefusalError) as caught:
        plan.read(ChatResponse(message=message))
    assert caught.value.refusal == "Secret words."
    assert "Secret" not in str(caught.value) + repr(caught.value.partial_reply)


def said(text: str) -> Reply:
    """A reply that is a text."""
    return Reply("r1", "acme/one", (Choice(0, text, "", (), (), "stop"),))


def _growing(text: str) -> None:
    """Read a reply as it streams, one character after the other, and then as a whole."""
    reader = reader_of(City, {})
    for length in range(len(text) + 1):
        partial_in(reader, ChatResponse(message=ChatMessage(text[:length])))
    reader.read(said(text))


@pytest.mark.parametrize("hostile", WORST)
def test_reading_a_reply_takes_as_long_as_it_is(hostile: str) -> None:
    """Also while it streams."""
    assert_linear(_growing, HOSTILE[hostile])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_reply_is_more_than_an_error(hostile: str) -> None:
    """What cannot be read is an error of ours."""
    with pytest.raises(FormError):
        reader_of(City, {}).read(said(HOSTILE[hostile](20_000)))


class Rule(BaseModel):
    """A rule, whose pattern is a field and no keyword."""

    pattern: str
    n: int


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_field_named_pattern_is_asked_for_by_a_tool(method: str, fallback: bool) -> None:
    """The gateway refuses a schema with one."""
    answer = Answer("", tool_calls=[("Rule", {"pattern": "^a", "n": 1})])
    made: Any = stage([answer]) if fallback else rig([answer])
    outcome = gather(made.llm, method, Rule, PromptTemplate("A rule?"))
    assert outcome.error is None
    assert outcome.last == Rule(pattern="^a", n=1)
    assert "response_format" not in made.transport.requests[0].body


def test_the_warning_of_a_pattern_is_shown_where_the_program_asks() -> None:
    """Not inside of a library."""

    class Zip(BaseModel):
        """A code."""

        code: str = Field(pattern="^[0-9]+$")

    made = rig([Answer('{"code": "12"}')])
    with pytest.warns(ChutesWarning, match="1 of them was removed") as warned:
        assert made.llm.structured_predict(Zip, PromptTemplate("Which?")) == Zip(code="12")
    assert [warning.filename for warning in warned] == [__file__]
