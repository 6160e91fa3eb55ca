"""Answers of a given form: how they are asked for, and how they come out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import BaseOutputParser
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableMap
from langchain_core.runnables.utils import AddableDict

from chutes_core.errors import RequestRefusedError
from langchain_chutes._schemas import Schema

__all__ = ["METHODS", "check_method", "parsed"]

METHODS = ("json_schema", "function_calling", "json_mode")


def check_method(method: str, schema: Schema | None, strict: bool | None = None, tools: object = None) -> None:
    """Refuse a method that there is not, and what does not go with it."""
    if method not in METHODS:
        raise RequestRefusedError(f"method must be one of {', '.join(map(repr, METHODS))}, not {method!r}.")
    if schema is None and method != "json_mode":
        raise RequestRefusedError(f"method={method!r} needs a schema; only method='json_mode' does without.")
    if strict is not None and method == "json_mode":
        raise RequestRefusedError("strict needs a schema to be strict about: it does not go with 'json_mode'.")
    if tools and method != "json_schema":
        raise RequestRefusedError("tools beside an answer of a given form go with method='json_schema' only.")


def parsed(asked: Runnable[Any, Any], parser: BaseOutputParser[Any], *, include_raw: bool) -> Runnable[Any, Any]:
    """What reads the answers of a model, alone or beside the answer itself."""
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

    return RunnableMap(raw=asked) | RunnableGenerator(beside, abeside, name="read")


def _read(parser: BaseOutputParser[Any], raw: list[Any]) -> AddableDict:
    """Read an answer that is whole, and say what is wrong with its form rather than raise it."""
    from langchain_chutes._restart import collect

    message: BaseMessage = raw[0] if len(raw) == 1 else collect(raw)
    try:
        read = parser.parse_result([ChatGeneration(message=message)])
    except Exception as error:  # whatever a model's own validators raise
        return AddableDict(parsed=None, parsing_error=error)
    return AddableDict(parsed=read, parsing_error=None)
