"""The parser of structured answers: strict at the end, lenient while they stream.

LangChain's own parsers complete truncated JSON, which is right during a stream but wrong at its end: an answer that
hit its length limit would become a valid object with half its fields. They also validate only pydantic models, take
the first of several calls, and read a stream anew with every chunk. Which part of an answer counts is decided in
:mod:`chutes_core.reply.structured`; here every fault becomes an ``OutputParserException``.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessageChunk, BaseMessage, BaseMessageChunk
from langchain_core.output_parsers import BaseCumulativeTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from chutes_core.json_text import Pace
from chutes_core.reply.structured import Form, FormError, Found, agreed, broken, field_names, in_calls, in_text, pieces
from langchain_chutes._convert.restart import Kept, is_restart
from langchain_chutes._refusals import raise_if_refused
from langchain_chutes._structured.schemas import Schema, promise, titled

__all__ = ["AnswerParser", "answer_parser"]

Source = Literal["text", "calls", "either"]


class AnswerParser(BaseCumulativeTransformOutputParser[Any]):
    """Parser of answers of one schema.

    >>> parser = answer_parser({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, "text")
    >>> parser.parse('<think>Hm.</think>Here it is: {"a": 1}')
    {'a': 1}
    """

    asked: Any = None
    """The schema; None accepts any JSON."""
    source: Source = "text"
    """Where the answer is: in the text, in calls of the tool that takes it, or in either."""
    quiet: bool = False
    """Whether errors quote nothing of an answer: it came encrypted."""

    @property
    def OutputType(self) -> Any:
        """Return the pydantic model, if answers are its instances."""
        return self.asked if self.is_model else Any

    @property
    def _type(self) -> str:
        return "chutes-answer"

    @cached_property
    def is_model(self) -> bool:
        """Whether answers are instances of a class, which there is only of whole ones."""
        return isinstance(self.asked, type) and is_basemodel_subclass(self.asked)

    @cached_property
    def form(self) -> Form:
        """What an answer looks like."""
        if self.asked is None:
            return Form({"type": "object"})
        return Form(promise(self.asked), field_names(self.asked))

    @cached_property
    def _tool(self) -> str:
        name: str = convert_to_openai_tool(titled(self.asked))["function"]["name"]
        return name

    def parse(self, text: str) -> Any:
        """Parse an answer that is text."""
        return self.parse_result([Generation(text=text)])

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse an answer.

        Raises:
            OutputParserException: It does not have the form that was asked for.
            RefusalError: The model refused.
        """
        text, message = result[0].text, result[0].message if isinstance(result[0], ChatGeneration) else None
        if partial and not (message is not None and _is_last(message)):
            return self._piece(text, message)
        if message is not None:
            raise_if_refused(message, quiet=self.quiet)
        cut = message is not None and message.response_metadata.get("finish_reason") == "length"
        try:
            if self._is_called(message):
                return agreed(in_calls(self._calls(message, cut), self.form, self._fits))
            return agreed(in_text(text, self.form, self._fits, cut=cut))
        except FormError as error:
            if not self.quiet:
                said = error.said[0] if len(error.said) == 1 else error.said
                told = json.dumps(said, ensure_ascii=False, default=str) if said else text
                raise OutputParserException(
                    f"The structured answer cannot be used: {error.why}. It was: {told[:500]}", llm_output=told
                ) from error.problem
        raise OutputParserException("The structured answer cannot be used: it is not what was asked for.")

    def _fits(self, found: Found) -> Any:
        """Return an answer as the schema's instance, or raise a ValueError that says why it cannot be one."""
        if self.is_model:
            validate = getattr(self.asked, "model_validate", None) or self.asked.parse_obj
            return validate(found.value)
        if self.asked is not None and (wrong := broken(self.form.schema, found.value)):
            raise ValueError(wrong)
        return found.value

    def _is_called(self, message: BaseMessage | None) -> bool:
        if self.source != "either":
            return self.source == "calls"
        called = getattr(message, "tool_calls", None) or getattr(message, "invalid_tool_calls", None)
        return bool(called) and self.asked is not None

    def _calls(self, message: BaseMessage | None, cut: bool) -> list[object]:
        """Return the arguments of the calls."""
        calls, invalid = getattr(message, "tool_calls", ()), getattr(message, "invalid_tool_calls", ())
        what = "the model was to call the tool that takes the answer"
        if invalid:
            raise FormError(f"{what}, and its call is not valid: {invalid[0].get('error') or invalid[0].get('args')}")
        if not calls:
            cut_off = "was cut at its length limit: raise max_tokens, or ask for less" if cut else "called none"
            raise FormError(f"{what}, and it {cut_off}")
        if strange := [call["name"] for call in calls if call["name"] != self._tool]:
            raise FormError(f"{what}, {self._tool!r}, and it called {strange[0]!r}", said=calls)
        return [call["args"] for call in calls]

    # ------------------------------------------------------------------------------------------------- streams

    def _piece(self, text: str, message: BaseMessage | None) -> Any:
        """Return what there is of an answer; None if there is nothing to show."""
        if self._is_called(message):
            found = [(call["args"], False) for call in getattr(message, "tool_calls", ()) if call["name"] == self._tool]
        else:
            found = [(piece.value, piece.whole) for piece in pieces(text, self.form)]
        for value, whole in found:
            if not (self.is_model or whole):
                return value
            try:
                return self._fits(Found("", value))
            except ValueError:
                continue
        return None

    def _transform(self, input: Iterator[str | BaseMessage]) -> Iterator[Any]:
        steps = _Steps(self)
        for chunk in input:
            yield from steps.take(chunk)
        yield from steps.rest()

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[Any]:
        steps = _Steps(self)
        async for chunk in input:
            for step in steps.take(chunk):
                yield step
        for step in steps.rest():
            yield step


class _Steps:
    """What to show of one stream: reads it anew only as often as keeps the whole effort linear in its length."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser
        self._kept = Kept()
        self._length = 0
        self._pace = Pace()
        self._behind = False
        self._shown: Any = None

    def take(self, chunk: str | BaseMessage) -> Iterator[Any]:
        """Take the next chunk and yield what has changed, if it is time to look."""
        message = AIMessageChunk(content=chunk) if isinstance(chunk, str) else chunk
        self._kept.add(message)
        self._length = 0 if is_restart(message) else self._length + _length(message)
        self._behind = True
        if _is_last(message) or self._pace.due(self._length):
            yield from self.rest()

    def rest(self) -> Iterator[Any]:
        """Yield what has changed since the last look."""
        if not self._behind:
            return
        self._behind = False
        read = self._parser.parse_result([ChatGeneration(message=self._kept.message())], partial=True)
        if read is not None and read != self._shown:
            self._shown = read
            yield read


def answer_parser(schema: Schema | None, source: Source, *, quiet: bool = False) -> AnswerParser:
    """Return the parser for answers of a schema."""
    return AnswerParser(asked=dict(schema) if isinstance(schema, Mapping) else schema, source=source, quiet=quiet)


def _is_last(message: BaseMessage) -> bool:
    """Return whether the answer is complete with this message."""
    return not isinstance(message, BaseMessageChunk) or getattr(message, "chunk_position", None) == "last"


def _length(message: BaseMessage) -> int:
    arguments = (piece["args"] or "" for piece in getattr(message, "tool_call_chunks", ()))
    return len(message.text) + sum(map(len, arguments))
