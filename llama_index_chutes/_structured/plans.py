"""Structured output: how each model is asked for it, and how its answer is parsed.

A model that supports JSON schemas gets one; another is made to call a tool whose arguments are the answer; one that
supports neither gets instructions in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel, create_flexible_model

from chutes_core import Kind, Reply
from chutes_core.reply.reader import Reader
from chutes_core.reply.structured import FormError
from chutes_core.request.objects import OWN, Mode, asked_for
from llama_index_chutes._convert.raw import RawChunk
from llama_index_chutes._convert.unusable import arrived, unusable

__all__ = ["Plan", "partial_in", "reader_of"]

M = TypeVar("M", bound=BaseModel)


def reader_of(output_cls: type[M], params: Mapping[str, Any]) -> Reader[M]:
    """Return the reader of one answer; the caller's parameters say whether it may be several objects."""
    return Reader(output_cls, create_flexible_model, several=bool(params.get("allow_parallel_tool_calls")))


def partial_in(reader: Reader[Any], chunk: ChatResponse) -> Any | FlexibleModel | None:
    """Return the partial object in a chunk, or None."""
    calls = [block.tool_kwargs for block in chunk.message.blocks if isinstance(block, ToolCallBlock)]
    return reader.partial(calls or [chunk.message.content or ""])


class Plan(Generic[M]):
    """One structured output request, as it is put to one model; ``request`` has the arguments of the call.

    Args:
        output_cls: The class of the answer.
        mode: How to request it.
        messages: The messages.
        params: The caller's parameters; those set by the mode are left out.
        model: The model.
        json_mode: With prompt instructions: whether the model can be restricted to JSON.
        quiet: Do not quote an unusable answer: it came encrypted.
    """

    def __init__(
        self,
        output_cls: type[M],
        mode: Mode,
        messages: Sequence[ChatMessage],
        params: Mapping[str, Any],
        *,
        model: str,
        json_mode: bool = False,
        quiet: bool = False,
    ) -> None:
        self._reader = reader_of(output_cls, params)
        self._model = model
        self._quiet = quiet
        schema, several = self._reader.form.schema, bool(params.get("allow_parallel_tool_calls"))
        asked, words = asked_for(mode, output_cls.__name__, schema, several=several, json_mode=json_mode)
        given = {name: value for name, value in params.items() if name not in OWN}
        self.request = {"messages": _with_last(messages, words) if words else messages, **asked, **given}

    def ends(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk is the last of a stream."""
        return type(chunk.raw) is not RawChunk

    def partial(self, chunk: ChatResponse) -> M | FlexibleModel | None:
        """Return the partial object in a chunk, or None."""
        return partial_in(self._reader, chunk)

    def read(self, answer: ChatResponse | Reply) -> M:
        """Parse the answer: the only JSON value in it that matches the class.

        Raises:
            MalformedReplyError: None matches, or several that differ.
            RefusalError: The model refused.
        """
        reply = answer if isinstance(answer, Reply) else arrived(answer, self._model)
        if refusal := next((choice.refusal for choice in reply.choices), ""):
            said = "" if self._quiet else refusal
            raise unusable(said, reply, model=self._model, quiet=self._quiet, kind=Kind.REFUSED)
        try:
            return self._reader.read(reply)  # type: ignore[return-value]  # a list only of whoever asks for several
        except FormError as error:
            name, problem = self._reader.cls.__name__, None if self._quiet else error.problem
            fault = f"it is not a {name}" if self._quiet else self._reader.fault(error, reply)
        # Raised out here, since an exception keeps the one that was being handled, which quotes the answer.
        said = f"the structured answer cannot be used: {fault}"
        raise unusable(said, reply, model=self._model, quiet=self._quiet) from problem


def _with_last(messages: Sequence[ChatMessage], words: str) -> list[ChatMessage]:
    """Return copies of the messages with words added to the last one of the user."""
    copied, block = list(messages), TextBlock(text=words)
    for position in reversed(range(len(copied))):
        if copied[position].role == MessageRole.USER:
            copied[position] = copied[position].model_copy(update={"blocks": [*copied[position].blocks, block]})
            return copied
    return [*copied, ChatMessage(role=MessageRole.USER, blocks=[block])]
