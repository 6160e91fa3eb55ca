"""Tools and structured output for a group of models that each support them in their own way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import (
    Runnable,
    RunnableBinding,
    RunnableSequence,
)

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from langchain_chutes._convert.tools import Tool
from langchain_chutes._structured.parsers import AnswerParser, answer_parser
from langchain_chutes._structured.schemas import Schema
from langchain_chutes._structured.schemas import response_format as described
from langchain_chutes.chat_models import ChatChutes

__all__ = ["Form", "ToolList", "asked_of", "bind_ours", "check_form"]


class ToolList(list[dict[str, Any]]):
    """Tool specifications for a request, along with the original tools for models that use another format.

    Args:
        described: The specifications.
        raw: The tools as passed by the caller.
        strict: Whether arguments must follow the schema.
    """

    def __init__(
        self, described: Sequence[dict[str, Any]] = (), raw: Sequence[Tool] = (), strict: bool | None = None
    ) -> None:
        super().__init__(described)
        self.raw = list(raw)
        self.strict = strict


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
    method: str | None = None
    strict: bool | None = None
    include_raw: bool = False
    tools: tuple[Tool, ...] = ()
    quiet: bool = False

    def __repr__(self) -> str:
        # Part of cache keys, so it must be complete and contain no memory address.
        told = json.dumps(described(self.schema), sort_keys=True, default=str) if self.schema is not None else ""
        names = [getattr(tool, "name", None) or getattr(tool, "__name__", None) or str(tool) for tool in self.tools]
        return f"Form({told!r}, method={self.method!r}, strict={self.strict!r}, raw={self.include_raw}, tools={names})"

    def wish(self, model: BaseChatModel) -> dict[str, Any]:
        """Return the arguments for a model's ``with_structured_output``."""
        wishes = {"method": self.method, "strict": self.strict, "tools": list(self.tools) or None}
        if not isinstance(model, ChatChutes):
            del wishes["tools"]
        return {name: value for name, value in wishes.items() if value is not None}

    @cached_property
    def parser(self) -> AnswerParser:
        """Return the parser for an answer."""
        return answer_parser(self.schema, "either")


def check_form(form: Form, whole: ChatGeneration, model: str) -> None:
    """Raise if a member's whole answer does not match what was asked for."""
    message = cast("AIMessage", whole.message)
    # An answer that hit its length limit would hit it with every member; a tool call is not yet an answer.
    if message.response_metadata.get("finish_reason") == "length" or (form.tools and message.tool_calls):
        return
    try:
        form.parser.parse_result([whole])
    except OutputParserException as problem:
        if not form.quiet:
            raise failure(Kind.MALFORMED, str(problem), model=model) from problem
    else:
        return
    raise failure(Kind.MALFORMED, "the answer does not have the form that was asked for", model=model)


def bind_ours(model: ChatChutes, options: dict[str, Any], form: Form | None) -> dict[str, Any]:
    """Return the call options for a Chutes model."""
    if form is not None:
        asked = asked_of(model.with_structured_output(form.schema, **form.wish(model)))
        return {**(asked.kwargs if isinstance(asked, RunnableBinding) else {}), **options}
    return options


def asked_of(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """Return the model inside a structured-output chain, without its parser."""
    return runnable.first if isinstance(runnable, RunnableSequence) else runnable
