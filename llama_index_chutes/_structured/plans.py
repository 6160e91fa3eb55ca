"""Structured output: how each model is asked for it, and how its answer is parsed.

A model that supports JSON schemas gets one; another is made to call a tool whose arguments are the answer; one that
supports neither gets instructions in the prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.program.utils import FlexibleModel, create_flexible_model

from chutes_core import Kind
from chutes_core.json_text import Pace
from chutes_core.reply.structured import Form, FormError, Found, Piece, agreed, field_names, in_calls, in_text, pieces
from llama_index_chutes._convert.unusable import finish_reason, invalid_calls, said_of, unusable

__all__ = ["Inquiry", "Mode", "Plan", "Reader"]

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
        """Parse the object from a complete answer; a list of them, if several were allowed."""

    def partial(self, chunk: ChatResponse) -> M_co | FlexibleModel | None:
        """Return the partial object, or None."""


class Reader(Generic[M]):
    """Reads the objects of one class out of one answer, whole or still growing.

    Args:
        output_cls: The class.
        several: Return every object in a list, rather than the one that all of them are.
    """

    def __init__(self, output_cls: type[M], *, several: bool = False) -> None:
        self._output_cls = output_cls
        self._several = several
        self.schema = output_cls.model_json_schema()
        self.form = Form(self.schema, field_names(output_cls))
        self._flexible: type[FlexibleModel] | None = None
        self._pace = Pace()

    def read(self, response: ChatResponse) -> M:
        """Return the object, or the list of objects.

        Raises:
            FormError: There is none, or there are several that differ.
        """
        if invalid := invalid_calls(response):
            raise FormError(said_of(invalid), read=False)
        if calls := _calls(response):
            answers = in_calls(calls, self.form, self._fits)
        else:
            answers = in_text(_text(response), self.form, self._fits, cut=finish_reason(response) == "length")
        return [each.result for each in answers] if self._several else agreed(answers)  # type: ignore[return-value]

    def partial(self, response: ChatResponse) -> M | FlexibleModel | None:
        """Return what can be shown of the object, or None; a long answer is not read anew with every chunk."""
        texts = _calls(response) or [_text(response)]
        if not self._pace.due(sum(len(text) for text in texts if isinstance(text, str))):
            return None
        shown = [piece for text in texts if (piece := self._piece(text)) is not None]
        return shown if self._several and shown else shown[-1] if shown else None  # type: ignore[return-value]

    def _piece(self, text: object) -> M | FlexibleModel | None:
        found = pieces(text, self.form) if isinstance(text, str) else [Piece(text, True)]
        for value, whole in found:
            piece = _validated(self._output_cls, value)
            if piece is None and not whole:
                self._flexible = self._flexible or create_flexible_model(self._output_cls)
                return _validated(self._flexible, value)
            if piece is not None:
                return piece
        return None

    def _fits(self, found: Found) -> M:
        try:
            return self._output_cls.model_validate_json(found.text)
        except ValidationError as problem:
            if problem.errors()[0]["type"] != "json_invalid":
                raise
        # Strings may have line breaks, which pydantic's parser does not accept.
        return self._output_cls.model_validate_json(json.dumps(found.value))


def _calls(response: ChatResponse) -> list[object]:
    """Return the arguments of the tool calls."""
    return [block.tool_kwargs for block in response.message.blocks if isinstance(block, ToolCallBlock)]


def _text(response: ChatResponse) -> str:
    return response.message.content or ""


@dataclass(frozen=True)
class Plan(Generic[M]):
    """One structured output request.

    Attributes:
        output_cls: The class of the answer.
        mode: How it is requested.
        messages: The messages to send.
        params: The request parameters.
        model: The model, for error messages.
        reader: Reads the answer.
        quiet: Do not quote an unusable answer: it came encrypted.
    """

    output_cls: type[M]
    mode: Mode
    messages: Sequence[ChatMessage]
    params: Mapping[str, Any]
    model: str
    reader: Reader[M]
    quiet: bool = False

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
        several = bool((params or {}).get("allow_parallel_tool_calls"))
        reader = Reader(output_cls, several=several)
        schema = reader.schema
        name = _NAME.sub("_", output_cls.__name__)[:64]
        if mode is Mode.SCHEMA:
            form = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
            return cls(output_cls, mode, messages, {**given, "response_format": form}, model, reader, quiet)
        if mode is Mode.TOOL:
            description = schema.get("description") or f"Give the answer as a {name}."
            function = {"name": name, "description": description, "parameters": schema}
            tool = {"type": "function", "function": function}
            single = {} if several else {"parallel_tool_calls": False}
            asked = {**single, **given, "tools": [tool], "tool_choice": "required"}
            return cls(output_cls, mode, messages, asked, model, reader, quiet)
        if json_mode:
            given["response_format"] = {"type": "json_object"}
        told = TextBlock(text=_IN_WORDS + json.dumps(schema, ensure_ascii=False))
        return cls(output_cls, mode, _with_last(messages, told), given, model, reader, quiet)

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of the call."""
        return {"messages": self.messages, **self.params}

    def ends(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk is the last of a stream."""
        return chunk.raw is not None

    def read(self, response: ChatResponse) -> M:
        """Parse the answer: the only JSON value in it that matches the class.

        Raises:
            MalformedReplyError: None matches, or several that differ.
            RefusalError: The model refused.
        """
        if refusal := response.message.additional_kwargs.get("refusal"):
            said = "" if self.quiet else str(refusal)
            raise unusable(said, response, model=self.model, quiet=self.quiet, kind=Kind.REFUSED)
        try:
            return self.reader.read(response)
        except FormError as error:
            fault, problem = self._fault(error, response), None if self.quiet else error.problem
        # Raised out here, since an exception keeps the one that was being handled, which quotes the answer.
        said = f"the structured answer cannot be used: {fault}"
        raise unusable(said, response, model=self.model, quiet=self.quiet) from problem

    def partial(self, response: ChatResponse) -> M | FlexibleModel | None:
        """Return the partial object in a chunk, or None."""
        return self.reader.partial(response)

    def _fault(self, error: FormError, response: ChatResponse) -> str:
        """Describe what is wrong with an answer."""
        if self.quiet:
            return f"it is not a {self.output_cls.__name__}"
        if isinstance(error.problem, ValidationError):
            faults = (f"{'.'.join(map(str, each['loc'])) or 'all'}: {each['msg']}" for each in error.problem.errors())
            return f"it is not a {self.output_cls.__name__}: {'; '.join(faults)}"
        if error.said:
            return f"{error.why}: {json.dumps(error.said, ensure_ascii=False)[:500]}"
        if _calls(response) or invalid_calls(response):
            return error.why
        text = _text(response).strip()
        return f"{error.why}: {text[:200]!r}" if text else "it is empty"


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
