"""One rule decides what the structured answer is, in both frameworks, however it was asked for and read."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.types import PydanticProgramMode

from chutes_core import MalformedReplyError
from chutes_core.testing import Answer
from tests.langchain_chutes import fallback_stage
from tests.langchain_chutes.models import MODES, scripted
from tests.llama_index_chutes import stages
from tests.llama_index_chutes.rigs import gather, rig

from .answers import ADA, CASES, SAID, Case, Person

PREDICT = stages.PREDICT
PROMPT = PromptTemplate("Who?")
PROGRAMS = (PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION, PydanticProgramMode.LLM)
CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class PersonDict(TypedDict, total=False):
    """Somebody."""

    name: str
    age: int


SCHEMAS = [Person, PersonDict, {"title": "Person", **Person.model_json_schema()}]
BOB = {"name": "Bob", "age": 1}
TWO = Answer("", tool_calls=[("Person", BOB), ("Person", ADA)])
SAME = Answer("", tool_calls=[("Person", ADA), ("Person", ADA)])


def plain(answer: Any) -> Any:
    return answer.model_dump() if isinstance(answer, Person) else answer


def last(mode: str, answer: Answer, schema: Any, method: Any) -> Any:
    """The last thing that LangChain gives, in one of the four modes."""
    asked = scripted([answer]).model.with_structured_output(schema, method=method)

    async def waiting() -> Any:
        if mode == "async-whole":
            return await asked.ainvoke("Who?")
        return [step async for step in asked.astream("Who?")][-1]

    if mode.startswith("async"):
        return plain(asyncio.run(waiting()))
    return plain(asked.invoke("Who?") if mode == "sync-whole" else list(asked.stream("Who?"))[-1])


@CASE
@pytest.mark.parametrize("mode", ["sync-whole", "async-stream"])
@pytest.mark.parametrize(
    ("schema", "method"), list(zip(SCHEMAS, ["json_schema", "json_mode", "json_schema"], strict=True))
)
def test_langchain(method: Any, schema: Any, mode: str, case: Case) -> None:
    """As text, whole and in a stream, as an instance and as a dict."""
    answer = Answer(case.text, pieces=9)
    if case.answer is not None:
        assert last(mode, answer, schema, method) == case.answer
        return
    with pytest.raises(OutputParserException, match=case.why):
        last(mode, answer, schema, method)


@CASE
@pytest.mark.parametrize("method", ["structured_predict", "astream_structured_predict"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_llama_index(program: Any, method: str, case: Case) -> None:
    """By schema, by a tool that was answered in words, and in words."""
    made = rig([Answer(case.text, pieces=9)], pydantic_program_mode=program)
    outcome = gather(made.llm, method, Person, PROMPT)
    if case.answer is not None:
        assert plain(outcome.last) == case.answer
        return
    assert isinstance(outcome.error, MalformedReplyError)
    assert case.why in str(outcome.error)
    assert outcome.error.partial == case.text


@CASE
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated")  # the framework uses it
@pytest.mark.parametrize("method", ["chat", "astream_chat"])
def test_as_structured_llm(method: str, case: Case) -> None:
    """The framework's structured model over ours."""
    made = rig([Answer(case.text, pieces=9)])
    outcome = gather(made.llm.as_structured_llm(Person), method, [ChatMessage("Who?")])
    if case.answer is None:
        assert isinstance(outcome.error, MalformedReplyError)
    else:
        assert plain(outcome.last.raw) == case.answer


@CASE
@pytest.mark.parametrize("framework", ["langchain", "llama-index"])
def test_it_is_the_next_members_turn(framework: str, case: Case) -> None:
    """In a fallback, a reply without an answer is a failure like any other."""
    script = [Answer(case.text), Answer(SAID)]
    if framework == "langchain":
        made = fallback_stage.stage(script)
        answer, asked = made.model.with_structured_output(Person).invoke("Who?"), made.models
    else:
        stage = stages.stage(script)
        answer, asked = gather(stage.llm, "structured_predict", Person, PROMPT).last, stage.asked
    assert plain(answer) == (case.answer or ADA)
    assert len(asked) == (1 if case.answer else 2)


# ------------------------------------------------------------------------------------------------------ two calls


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("schema", SCHEMAS, ids=["model", "TypedDict", "schema"])
def test_two_calls_in_langchain(schema: Any, mode: str) -> None:
    """Two that differ are an error, where LangChain's own parser takes the first; two that do not are one."""
    name = "PersonDict" if schema is PersonDict else "Person"
    same, two = (Answer("", tool_calls=[(name, one), (name, ADA)]) for one in (ADA, BOB))
    assert last(mode, same, schema, "function_calling") == ADA
    with pytest.raises(OutputParserException, match="2 answers that differ"):
        last(mode, two, schema, "function_calling")


@pytest.mark.parametrize("method", PREDICT)
def test_two_calls_in_llama_index(method: str) -> None:
    """Two that differ are an error, and both answers where that was allowed; whole and in a stream."""
    by_tool = {"pydantic_program_mode": PydanticProgramMode.FUNCTION}
    made = rig([TWO], **by_tool)
    outcome = gather(made.llm, method, Person, PROMPT)
    assert isinstance(outcome.error, MalformedReplyError)
    assert "2 answers that differ" in str(outcome.error)
    assert made.bodies[0]["parallel_tool_calls"] is False
    assert gather(rig([SAME], **by_tool).llm, method, Person, PROMPT).last == Person(**ADA)  # type: ignore[arg-type]


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("method", PREDICT)
def test_several_answers_are_given_where_they_are_allowed(method: str, fallback: bool) -> None:
    """A list of all of them, also if there is but one, and none is dropped."""
    both = [Person(**BOB), Person(**ADA)]  # type: ignore[arg-type]
    one = Answer("", tool_calls=[("Person", ADA)], pieces=6)
    for answer, found in ((replace(TWO, pieces=6), both), (one, both[1:])):
        made: Any = stages.stage([answer]) if fallback else rig([answer])
        outcome = gather(made.llm, method, Person, PROMPT, llm_kwargs={"allow_parallel_tool_calls": True})
        assert outcome.error is None
        assert outcome.last == found
        if "stream" in method:
            assert all(isinstance(piece, list) for piece in outcome.chunks)
        if not fallback:
            assert "tools" in made.bodies[0]
            assert "parallel_tool_calls" not in made.bodies[0]
