"""Structured output from a fallback: each member is asked in its own way, and the caller sees objects only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel

from chutes_core.fallback.report import ATTEMPTS, RESTART
from chutes_core.reply.reader import Reader
from llama_index_chutes._structured.plans import partial_in, reader_of

__all__ = ["Wanted"]


class Wanted(dict[str, Any]):
    """A structured output request that also keeps the class, so that each member can be asked in its own way.

    Attributes:
        reader: Reads the object while it grows.
        result: The object, once a member has produced one.
    """

    def __init__(self, output_cls: type[BaseModel], messages: Sequence[ChatMessage], params: Mapping[str, Any]) -> None:
        super().__init__(name=output_cls.__name__)
        self.output_cls: type[Any] = output_cls
        self.several = bool(params.get("allow_parallel_tool_calls"))
        self.reader: Reader[Any] = reader_of(output_cls, params)
        self.result: Any = None
        self._arguments = {**params, "messages": messages}

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of the call."""
        return {**self._arguments, "structured": self}

    def ends(self, chunk: ChatResponse) -> bool:
        """Return whether a chunk is the last of a stream, which reports the attempts."""
        return isinstance(chunk.raw, Mapping) and ATTEMPTS in chunk.raw

    def read(self, response: ChatResponse) -> Any:
        """Return the object, parsed when the member's answer was complete."""
        return self.result

    def partial(self, chunk: ChatResponse) -> Any | FlexibleModel | None:
        """Return the partial object, or None."""
        return None if RESTART in chunk.additional_kwargs else partial_in(self.reader, chunk)
