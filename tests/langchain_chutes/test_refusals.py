"""A refusal is the core's error and LangChain's, with the model's words, and never an answer that could not be read."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core import exceptions
from langchain_core.messages import AIMessage, AIMessageChunk

from chutes_core import Kind, RefusalError
from chutes_core.failures.reading import failure
from chutes_core.testing import Answer
from langchain_chutes import _errors
from langchain_chutes._structured.parsers import answer_parser

from .fallback_stage import Other, Person, stage
from .models import MODES, scripted

WORDS = "I cannot help with that."
ModelRefusalError: Any = _errors.family("ModelRefusalError")


@dataclass(frozen=True, slots=True)
class Refusing(Answer):
    """A model that refuses in the field that is there for it."""

    text: str = ""
    refusal: str = WORDS

    def deltas(self) -> list[dict[str, object]]:
        half = len(self.refusal) // 2
        return [*Answer.deltas(self), {"refusal": self.refusal[:half]}, {"refusal": self.refusal[half:]}]

    def body(self, model: str) -> dict[str, object]:
        body: Any = Answer.body(self, model)
        body["choices"][0]["message"]["refusal"] = self.refusal
        return body  # type: ignore[no-any-return]


FILTERED = Answer('{"name": "Ada", ', finish_reason="content_filter")


def steps(mode: str, answer: Answer, **options: Any) -> list[Any]:
    """Everything that a chain for structured answers gives, in one of the four modes."""
    asked = scripted([answer]).model.with_structured_output(Person, **options)

    async def waiting() -> list[Any]:
        return (
            [await asked.ainvoke("Who?")] if mode == "async-whole" else [step async for step in asked.astream("Who?")]
        )

    if mode.startswith("async"):
        return asyncio.run(waiting())
    return [asked.invoke("Who?")] if mode == "sync-whole" else list(asked.stream("Who?"))


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_is_no_answer(mode: str, method: str) -> None:
    """However the answer was asked for; trying again will not help."""
    with pytest.raises(ModelRefusalError) as caught:
        steps(mode, Refusing(), method=method)
    error: Any = caught.value
    assert isinstance(error, RefusalError)
    assert (error.kind, error.refusal, error.is_retryable, error.raw_message) == (Kind.REFUSED, WORDS, False, None)
    assert WORDS in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_a_filter_ended_names_the_filter(mode: str) -> None:
    """With what had arrived."""
    with pytest.raises(ModelRefusalError, match="content_filter") as caught:
        steps(mode, FILTERED)
    assert caught.value.partial == FILTERED.text  # type: ignore[attr-defined]


@pytest.mark.parametrize(("answer", "words"), [(Refusing(), WORDS), (FILTERED, "")])
@pytest.mark.parametrize("mode", MODES)
def test_with_the_raw_answer_a_refusal_is_told(mode: str, answer: Answer, words: str) -> None:
    """The message says that it is one, and the error is beside it."""
    given = steps(mode, answer, include_raw=True)
    whole = given[-1] if len(given) == 1 else {**given[-1], "raw": sum_of([step["raw"] for step in given[:-1]])}
    assert whole["parsed"] is None
    assert isinstance(whole["parsing_error"], RefusalError)
    assert isinstance(whole["parsing_error"], ModelRefusalError)
    assert whole["parsing_error"].refusal == words
    assert whole["raw"].text == answer.text
    assert whole["raw"].additional_kwargs.get("refusal", "") == words
    assert whole["parsing_error"].raw_message is not None


def sum_of(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole: AIMessageChunk = chunks[0] + chunks[1:]  # type: ignore[assignment, operator]
    return whole


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("", additional_kwargs={"refusal": WORDS}),
        AIMessage([{"type": "refusal", "refusal": WORDS}]),
        AIMessage("", response_metadata={"finish_reason": "content_filter"}),
        AIMessage("No.", response_metadata={"stop_reason": "refusal"}),
        AIMessage("", response_metadata={"finish_reason": "SAFETY"}),
    ],
)
def test_other_providers_refuse_in_their_own_ways(message: AIMessage) -> None:
    """Each is the same error, whose turn it is then the next member's."""
    with pytest.raises(RefusalError) as caught:
        answer_parser(Person, "either").invoke(message)
    assert caught.value.raw_message is message  # type: ignore[attr-defined]
    assert caught.value.refusal in (WORDS, "")
    chunk = AIMessageChunk(**{**message.model_dump(exclude={"type"}), "chunk_position": "last"})
    made = stage([Answer('{"name": "Ada", "age": 36}')], [Other.of(chunk), "acme/two"])
    assert made.model.with_structured_output(Person).invoke("Who?") == Person(name="Ada", age=36)
    assert made.models == ["acme/two"]


def test_words_beside_a_refusal_are_kept() -> None:
    """Without structured output, an answer with text is an answer; the refusal is in the message."""
    for mode in ("sync-whole", "sync-stream"):
        model = scripted([Refusing("Only this much.")]).model
        message = model.invoke("Hm?") if mode == "sync-whole" else sum_of(list(model.stream("Hm?")))  # type: ignore[arg-type]
        assert (message.text, message.additional_kwargs["refusal"]) == ("Only this much.", WORDS)
    with pytest.raises(RefusalError):
        steps("sync-whole", Refusing('{"name": "Ada", "age": 36}'))


def test_with_a_langchain_that_has_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1.7.5 on there is a class for refusals, whose constructor takes the message."""

    class Theirs(_errors.family("ModelError")):
        def __init__(self, message: str = "", *, raw_message: object = None) -> None:
            self.raw_message = raw_message
            super().__init__(message)

    monkeypatch.setattr(exceptions, "ModelRefusalError", Theirs, raising=False)
    spec = importlib.util.spec_from_file_location("langchain_chutes._errors_again", _errors.__file__)
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, again)
    spec.loader.exec_module(again)
    error = again.as_langchain(failure(Kind.REFUSED, WORDS, model="acme/one"))
    assert isinstance(error, Theirs)
    assert isinstance(error, RefusalError)
    assert (error.raw_message, error.is_retryable) == (None, False)
