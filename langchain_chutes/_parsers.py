"""Strict parsers for structured output.

LangChain's own parsers complete truncated JSON, which is right during a stream but wrong at its end: an answer that
hit its length limit would become a valid object with half its fields. They also validate only pydantic models. Here a
finished answer is parsed strictly, and every fault is an ``OutputParserException``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import (
    JsonOutputKeyToolsParser,
    JsonOutputToolsParser,
    PydanticToolsParser,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import TBaseModel, is_basemodel_subclass
from pydantic import BaseModel

from langchain_chutes._schemas import Schema, broken, promise, titled

__all__ = ["json_parser", "read_json", "tools_parser"]

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", re.DOTALL)


def read_json(text: str) -> Any:
    r"""Parse a whole answer as JSON, also after reasoning or inside a code fence; nothing is completed.

    >>> read_json('<think>Hm.</think>Here it is: ```json\n{"a": 1}\n```'), read_json('["</think>"]')
    ({'a': 1}, ['</think>'])

    Raises:
        ValueError: It is not JSON.
    """
    bare = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.search(bare)
    for candidate in (text, bare, fenced[1] if fenced else ""):
        try:
            return json.loads(candidate, strict=False)
        except ValueError:
            continue
    return json.loads(bare, strict=False)


class _Formed(BaseModel):
    """Base of parsers that check answers against a schema other than a pydantic model."""

    form: Any = None
    """The schema; None accepts any answer."""

    @cached_property
    def _promise(self) -> Mapping[str, Any]:
        return promise(self.form)

    def _held(self, read: Any) -> Any:
        """Return the parsed value if it matches the schema."""
        if self.form is not None and (wrong := broken(self._promise, read)) is not None:
            raise _misfit(wrong, read)
        return read


class StrictJsonParser(_Formed, JsonOutputParser):
    """JSON parser, lenient while streaming and strict at the end."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse the answer."""
        if partial and not _ended(result):
            return super().parse_result(result, partial=True)
        _refuse_cut(result)
        try:
            read = read_json(result[0].text)
        except ValueError as problem:
            raise OutputParserException(
                f"The answer is not valid JSON ({problem}): {result[0].text[:500]}", llm_output=result[0].text
            ) from problem
        return self._held(read)


class StrictPydanticParser(PydanticOutputParser[TBaseModel], StrictJsonParser):
    """JSON parser that returns an instance of a pydantic model."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse the answer."""
        return super().parse_result(result, partial=partial and not _ended(result))


class _StrictCallParser(_Formed, JsonOutputToolsParser):
    """Tool call parser, strict at the end; a missing call is an error, not None."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Parse the tool call."""
        partial = partial and not _ended(result)
        try:
            read = super().parse_result(result, partial=partial)
        except OutputParserException:
            raise
        except ValueError as problem:  # LangChain's parser lets pydantic's errors through
            calls = getattr(_message(result), "tool_calls", None)
            raise _misfit(str(problem), calls[0]["args"] if calls else None) from problem
        if partial:
            return read
        if read is None:
            raise _not_called(result)
        return self._held(read)


class StrictPydanticToolsParser(_StrictCallParser, PydanticToolsParser):
    """Parser that returns a tool call as a pydantic instance."""


class StrictKeyToolsParser(_StrictCallParser, JsonOutputKeyToolsParser):
    """Parser that returns a tool call's arguments."""


def json_parser(schema: Schema | None) -> JsonOutputParser:
    """Return the parser for a JSON answer."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return StrictPydanticParser(pydantic_object=schema)
    return StrictJsonParser(form=schema)


def tools_parser(schema: Schema) -> JsonOutputToolsParser:
    """Return the parser for an answer in a tool call."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return StrictPydanticToolsParser(tools=[schema], first_tool_only=True)
    name = convert_to_openai_tool(titled(schema))["function"]["name"]
    return StrictKeyToolsParser(key_name=name, first_tool_only=True, form=schema)


def _misfit(why: str, read: object) -> OutputParserException:
    told = json.dumps(read, ensure_ascii=False, default=str)
    return OutputParserException(
        f"The answer does not have the form that was asked for, {why}: {told[:500]}", llm_output=told
    )


def _refuse_cut(result: list[Generation]) -> None:
    message = _message(result)
    if message is not None and message.response_metadata.get("finish_reason") == "length":
        raise OutputParserException(
            "The answer was truncated at its length limit: raise max_tokens or ask for less.",
            llm_output=result[0].text,
        )


def _not_called(result: list[Generation]) -> OutputParserException:
    _refuse_cut(result)
    invalid = getattr(_message(result), "invalid_tool_calls", None)
    why = f"its call is not valid: {invalid[0].get('error') or invalid[0].get('args')}" if invalid else "it called none"
    return OutputParserException(
        f"The model was to call the tool that takes the answer, and {why}.", llm_output=result[0].text
    )


def _ended(result: list[Generation]) -> bool:
    """Return whether the accumulated chunks are the complete stream."""
    return getattr(_message(result), "chunk_position", None) == "last"


def _message(result: list[Generation]) -> BaseMessage | None:
    return result[0].message if isinstance(result[0], ChatGeneration) else None
