"""Answers of a given form: what to send for it, and how to read what comes back.

LangChain's own parsers complete JSON that was cut, which is right while a stream runs and wrong at its end: an
answer that met its length limit would come out as a valid object with half of its fields. Here a finished
answer is read strictly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import itemgetter
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
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import TBaseModel, is_basemodel_subclass

from chutes_core.errors import RequestRefusedError

__all__ = ["METHODS", "Schema", "json_parser", "parsed", "read_json", "response_format", "tools_parser"]

METHODS = ("json_schema", "function_calling", "json_mode")
Schema = Mapping[str, Any] | type

_THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)\n?\s*```", re.DOTALL)
_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def response_format(schema: Schema, *, strict: bool | None = None) -> dict[str, Any]:
    """Describe the form of an answer to the service.

    >>> response_format({"title": "Person", "type": "object", "properties": {"name": {"type": "string"}}})
    {'type': 'json_schema', 'json_schema': {'name': 'Person', 'schema': {'title': 'Person', 'type': 'object', \
'properties': {'name': {'type': 'string'}}}}}
    """
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema":
        return dict(schema)
    if isinstance(schema, Mapping) and isinstance(schema.get("json_schema"), Mapping):
        return {"type": "json_schema", "json_schema": dict(schema["json_schema"])}
    described = dict(schema) if _is_json_schema(schema) else convert_to_json_schema(schema)  # type: ignore[arg-type]
    name = _NAME.sub("_", str(described.get("title") or getattr(schema, "__name__", "answer")))[:64]
    wrapped: dict[str, Any] = {"name": name, "schema": described}
    if strict is not None:
        wrapped["strict"] = strict
    return {"type": "json_schema", "json_schema": wrapped}


def _is_json_schema(schema: Schema) -> bool:
    if not isinstance(schema, Mapping):
        return False
    return "parameters" not in schema and "input_schema" not in schema and schema.get("type") != "function"


def read_json(text: str) -> Any:
    r"""Read a whole answer as JSON, also behind a thought or inside a fence; nothing is completed.

    >>> read_json('<think>Hm.</think>Here it is: ```json\n{"a": 1}\n```')
    {'a': 1}

    Raises:
        ValueError: It is not JSON.
    """
    text = _THOUGHT.sub("", text).strip()
    fenced = _FENCE.search(text)
    for candidate in (text, fenced[1] if fenced else ""):
        try:
            return json.loads(candidate, strict=False)
        except ValueError:
            continue
    return json.loads(text, strict=False)


class StrictJsonParser(JsonOutputParser):
    """JSON whose end is read strictly, and which grows while it is streamed."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read the answer."""
        if partial and not _ended(result):
            return super().parse_result(result, partial=True)
        _refuse_cut(result)
        try:
            return read_json(result[0].text)
        except ValueError as problem:
            raise OutputParserException(
                f"The answer is not valid JSON ({problem}): {result[0].text[:500]}", llm_output=result[0].text
            ) from problem


class StrictPydanticParser(PydanticOutputParser[TBaseModel], StrictJsonParser):
    """The same, as an object of a pydantic model."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read the answer."""
        return super().parse_result(result, partial=partial and not _ended(result))


class StrictPydanticToolsParser(PydanticToolsParser):
    """A tool call as an object; that there is none is an error and not a None."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read the call."""
        partial = partial and not _ended(result)
        return _called(result, super().parse_result(result, partial=partial), partial=partial)


class StrictKeyToolsParser(JsonOutputKeyToolsParser):
    """A tool call's arguments; that there is none is an error and not a None."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        """Read the call."""
        partial = partial and not _ended(result)
        return _called(result, super().parse_result(result, partial=partial), partial=partial)


def _refuse_cut(result: list[Generation]) -> None:
    message = _message(result)
    if message is not None and message.response_metadata.get("finish_reason") == "length":
        raise OutputParserException(
            "The answer was cut at its length limit: raise max_tokens, or ask for less.", llm_output=result[0].text
        )


def _called(result: list[Generation], read: Any, *, partial: bool) -> Any:
    if read is not None or partial:
        return read
    _refuse_cut(result)
    invalid = getattr(_message(result), "invalid_tool_calls", None)
    why = f"its call is not valid: {invalid[0].get('error') or invalid[0].get('args')}" if invalid else "it called none"
    raise OutputParserException(
        f"The model was to call the tool that takes the answer, and {why}.", llm_output=result[0].text
    )


def _ended(result: list[Generation]) -> bool:
    """Tell whether the pieces of a stream that were added up are all of it."""
    return getattr(_message(result), "chunk_position", None) == "last"


def _message(result: list[Generation]) -> BaseMessage | None:
    return result[0].message if isinstance(result[0], ChatGeneration) else None


def json_parser(schema: Schema | None) -> JsonOutputParser:
    """Make the parser for an answer in JSON."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return StrictPydanticParser(pydantic_object=schema)
    return StrictJsonParser()


def tools_parser(schema: Schema) -> JsonOutputToolsParser:
    """Make the parser for an answer in a tool call."""
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return StrictPydanticToolsParser(tools=[schema], first_tool_only=True)
    name = convert_to_openai_tool(schema)["function"]["name"]
    return StrictKeyToolsParser(key_name=name, first_tool_only=True)


def check_method(method: str) -> None:
    """Refuse a method that there is not."""
    if method not in METHODS:
        raise RequestRefusedError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}.")


def parsed(asked: Runnable[Any, Any], parser: Runnable[Any, Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """What reads the answers of a model, alone or beside the answer itself."""
    if not include_raw:
        return asked | parser
    read = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | read.with_fallbacks([failed], exception_key="parsing_error")
