"""Structured output: how each model is asked for it, and how its answer is parsed.

A model that supports JSON schemas gets one; another is made to call a tool whose arguments are the answer; one that
supports neither gets instructions in the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.program.utils import FlexibleModel, create_flexible_model
from pydantic_core import from_json

from chutes_core import APIError
from llama_index_chutes._json import candidates, values
from llama_index_chutes._unusable import finish_reason, invalid_calls, said_of, unusable

__all__ = ["Inquiry", "Mode", "Plan"]

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V", bound=BaseModel)
M_co = TypeVar("M_co", covariant=True)

_NAME = re.compile(r"[^A-Za-z0-9_-]")
_NOT_OURS = ("tool_choice", "tool_required", "allow_parallel_tool_calls", "response_format", "tools")
_IN_WORDS = (
    "Answer with one JSON object that conforms to this JSON schema, and with nothing else. Give values, "
    "do not repeat the schema.\n"
)


class Mode(StrEnum):
    """How a model is asked for structured output."""

    SCHEMA = "schema"
    TOOL = "tool"
    WORDS = "words"


class Inquiry(Protocol[M_co]):
    """A structured output request for ``chat`` or ``stream_chat`` that also parses the responses."""

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of the call."""

    def ends(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk is the last of a stream."""

    def read(self, response: ChatResponse) -> M_co:
        """Parse the object from a complete answer."""

    def partial(self, chunk: ChatResponse) -> M_co | FlexibleModel | None:
        """Return the partial object, or None."""


@dataclass(frozen=True)
class Plan(Generic[M]):
    """One structured output request.

    Attributes:
        output_cls: The class of the answer.
        mode: How it is requested.
        messages: The messages to send.
        params: The request parameters.
        model: The model, for error messages.
        quiet: Do not quote an unusable answer: it came encrypted.
    """

    output_cls: type[M]
    mode: Mode
    messages: Sequence[ChatMessage]
    params: Mapping[str, Any]
    model: str
    quiet: bool = False
    _flexible: list[type[FlexibleModel]] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        output_cls: type[M],
        mode: Mode,
        messages: Sequence[ChatMessage],
        params: Mapping[str, Any] | None,
        *,
        model: str,
        json_mode: bool = False,
        quiet: bool = False,
    ) -> Plan[M]:
        """Build a request.

        Args:
            output_cls: The class of the answer.
            mode: How to request it.
            messages: The messages.
            params: The caller's parameters; those set by the mode are left out.
            model: The model.
            json_mode: With prompt instructions: whether the model can be restricted to JSON.
            quiet: Do not quote the answer in error messages.
        """
        given = {name: value for name, value in (params or {}).items() if name not in _NOT_OURS}
        schema = output_cls.model_json_schema()
        name = _NAME.sub("_", output_cls.__name__)[:64]
        if mode is Mode.SCHEMA:
            form = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
            return cls(output_cls, mode, messages, {**given, "response_format": form}, model, quiet)
        if mode is Mode.TOOL:
            description = schema.get("description") or f"Give the answer as a {name}."
            function = {"name": name, "description": description, "parameters": schema}
            tool = {"type": "function", "function": function}
            asked = {**given, "tools": [tool], "tool_choice": "required"}
            return cls(output_cls, mode, messages, asked, model, quiet)
        if json_mode:
            given["response_format"] = {"type": "json_object"}
        told = TextBlock(text=_IN_WORDS + json.dumps(schema, ensure_ascii=False))
        return cls(output_cls, mode, _with_last(messages, told), given, model, quiet)

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of the call."""
        return {"messages": self.messages, **self.params}

    def ends(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk is the last of a stream."""
        return chunk.raw is not None

    def read(self, response: ChatResponse) -> M:
        """Parse the answer: the first JSON value in it that matches the class.

        Raises:
            MalformedReplyError: None matches.
        """
        text = self._text(response)
        problems: list[tuple[bool, ValidationError]] = []
        for found in candidates(text):
            try:
                return self.output_cls.model_validate_json(found)
            except ValidationError as problem:
                problems.append((not found.startswith("{"), problem))
        # A value that is not an object is probably a quotation; for an object, the error says what is wrong.
        first = min(problems, key=itemgetter(0))[1] if problems else None
        raise self._failure(self._fault(text, first, response), response) from (None if self.quiet else first)

    def partial(self, response: ChatResponse) -> M | FlexibleModel | None:
        """Return the partial object in a chunk, or None."""
        for found, may_go_on in values(self._text(response)):
            value = from_json(found, allow_partial="trailing-strings")
            piece = _validated(self.output_cls, value)
            if piece is not None:
                return piece
            if may_go_on:
                if not self._flexible:
                    self._flexible.append(create_flexible_model(self.output_cls))
                return _validated(self._flexible[0], value)
        return None

    @staticmethod
    def _text(response: ChatResponse) -> str:
        """Return the answer: the first tool call's arguments, or the text, which some models use instead."""
        for block in response.message.blocks:
            if isinstance(block, ToolCallBlock):
                given = block.tool_kwargs
                return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        return response.message.content or ""

    def _fault(self, text: str, problem: ValidationError | None, response: ChatResponse) -> str:
        """Describe what is wrong with an answer."""
        if self.quiet:
            return f"it is not a {self.output_cls.__name__}"
        if problem is not None:
            faults = (f"{'.'.join(map(str, each['loc'])) or 'all'}: {each['msg']}" for each in problem.errors())
            return f"it is not a {self.output_cls.__name__}: {'; '.join(faults)}"
        if text.strip():
            return f"there is no JSON in {text.strip()[:200]!r}"
        return said_of(invalid_calls(response)) or "it is empty"

    def _failure(self, what: str, response: ChatResponse) -> APIError:
        cut = " The answer was cut at max_tokens." if finish_reason(response) == "length" else ""
        said = f"the structured answer cannot be used: {what}.{cut}"
        return unusable(said, response, model=self.model, quiet=self.quiet)


def _validated(model: type[V], value: object) -> V | None:
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _with_last(messages: Sequence[ChatMessage], block: TextBlock) -> list[ChatMessage]:
    """Return copies of the messages with a block added to the last user message."""
    copied = list(messages)
    for position in reversed(range(len(copied))):
        if copied[position].role == MessageRole.USER:
            copied[position] = copied[position].model_copy(update={"blocks": [*copied[position].blocks, block]})
            return copied
    return [*copied, ChatMessage(role=MessageRole.USER, blocks=[block])]
