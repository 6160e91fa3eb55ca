"""Structured output: checking how it is requested, and parsing it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap
from langchain_core.runnables.utils import AddableDict

from chutes_core.errors import RequestRefusedError
from langchain_chutes._refusals import Telling
from langchain_chutes._structured.schemas import Schema

__all__ = ["METHODS", "check_method", "parsed"]

METHODS = ("json_schema", "function_calling", "json_mode")


def check_method(method: str, schema: Schema | None, strict: bool | None = None, tools: object = None) -> None:
    """Refuse an unknown method and incompatible options."""
    if method not in METHODS:
        raise RequestRefusedError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}.")
    if schema is None and method != "json_mode":
        raise RequestRefusedError(f"method={method!r} needs a schema; only method='json_mode' works without one.")
    if strict is not None and method == "json_mode":
        raise RequestRefusedError("strict needs a schema, so it cannot be combined with 'json_mode'.")
    if tools and method != "json_schema":
        raise RequestRefusedError("tools together with structured output need method='json_schema'.")


def parsed(asked: Runnable[Any, Any], parser: BaseOutputParser[Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """Return a chain that parses a model's answers, with or without the raw message."""
    if not include_raw:
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


def _read(parser: BaseOutputParser[Any], raw: list[Any]) -> AddableDict:
    """Parse a complete answer, returning a parsing error instead of raising it."""
    from langchain_chutes._convert.restart import collect

    message: BaseMessage = raw[0] if len(raw) == 1 else collect(raw)
    try:
        read = parser.parse_result([ChatGeneration(message=message)])
    except Exception as error:  # validators may raise anything
        return AddableDict(parsed=None, parsing_error=error)
    return AddableDict(parsed=read, parsing_error=None)
