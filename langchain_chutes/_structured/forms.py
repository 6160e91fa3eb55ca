"""The form of an answer that a caller asks for, and the chain that reads it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap
from langchain_core.runnables.utils import AddableDict

from chutes_core.catalog.joint import Method
from chutes_core.errors import Kind, RequestRefusedError
from chutes_core.failures.reading import failure
from chutes_core.request.schema import is_taken
from langchain_chutes._convert.tools import Tool
from langchain_chutes._refusals import Telling
from langchain_chutes._structured.parsers import AnswerParser, answer_parser
from langchain_chutes._structured.schemas import Schema, response_format

__all__ = ["Form"]

_METHODS = get_args(Method)


@dataclass(frozen=True)
class Form:
    """The requested structured output.

    Attributes:
        schema: A pydantic model, a TypedDict or a JSON schema; None for any JSON.
        method: How to request it; None leaves that to each model.
        strict: As set by the caller.
        include_raw: Accept answers that do not match.
        tools: Additional tools.
        quiet: Do not quote an answer that does not match: it came encrypted.
    """

    schema: Schema | None
    method: Method | None = None
    strict: bool | None = None
    include_raw: bool = False
    tools: tuple[Tool, ...] = ()
    quiet: bool = False

    def __repr__(self) -> str:
        # Part of cache keys, so it must be complete and contain no memory address.
        told = json.dumps(response_format(self.schema), sort_keys=True, default=str) if self.schema is not None else ""
        names = [getattr(tool, "name", None) or getattr(tool, "__name__", None) or str(tool) for tool in self.tools]
        return f"Form({told!r}, method={self.method!r}, strict={self.strict!r}, raw={self.include_raw}, tools={names})"

    @cached_property
    def parser(self) -> AnswerParser:
        """The parser for the answer of any model, in whichever way it was asked."""
        return answer_parser(self.schema, "either")

    @cached_property
    def by_schema(self) -> bool:
        """Whether it can be asked for by its schema."""
        return self.schema is None or is_taken(response_format(self.schema)["json_schema"].get("schema"))

    def refuse_unusable(self, method: str) -> None:
        """Refuse an unknown method and incompatible options."""
        if method not in _METHODS:
            raise RequestRefusedError(f"method must be one of {', '.join(map(repr, _METHODS))}, not {method!r}.")
        if self.schema is None and method != "json_mode":
            raise RequestRefusedError(f"method={method!r} needs a schema; only method='json_mode' works without one.")
        if self.strict is not None and method == "json_mode":
            raise RequestRefusedError("strict needs a schema, so it cannot be combined with 'json_mode'.")
        if self.tools and method != "json_schema":
            raise RequestRefusedError("tools together with structured output need method='json_schema'.")

    def check(self, whole: ChatGeneration, model: str) -> None:
        """Raise if a member's whole answer does not match what was asked for."""
        message = whole.message
        # An answer that hit its length limit would hit it with every member; a tool call is not yet an answer.
        cut = message.response_metadata.get("finish_reason") == "length"
        if cut or (self.tools and isinstance(message, AIMessage) and message.tool_calls):
            return
        try:
            self.parser.parse_result([whole])
        except OutputParserException as problem:
            if not self.quiet:
                raise failure(Kind.MALFORMED, str(problem), model=model) from problem
        else:
            return
        raise failure(Kind.MALFORMED, "the answer does not have the form that was asked for", model=model)

    def parsed(self, asked: Runnable[Any, Any], parser: AnswerParser) -> Runnable[Any, Any]:
        """Return a chain that parses a model's answers, with or without the raw message."""
        if not self.include_raw:
            return asked | parser

        def beside(parts: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
            seen: list[Any] = []
            for part in parts:
                seen.append(part["raw"])
                yield part
            yield _read(parser, seen)

        async def abeside(parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
            seen: list[Any] = []
            async for part in parts:
                seen.append(part["raw"])
                yield part
            yield _read(parser, seen)

        return RunnableMap(raw=Telling(asked)) | RunnableGenerator(beside, abeside, name="read")


def _read(parser: AnswerParser, raw: list[Any]) -> AddableDict:
    """Parse a complete answer, returning a parsing error instead of raising it."""
    from langchain_chutes._convert.restart import collect

    message: BaseMessage = raw[0] if len(raw) == 1 else collect(raw)
    try:
        read = parser.parse_result([ChatGeneration(message=message)])
    except Exception as error:  # validators may raise anything
        return AddableDict(parsed=None, parsing_error=error)
    return AddableDict(parsed=read, parsing_error=None)
