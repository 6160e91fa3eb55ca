"""Structured output from a fallback: each member is asked in its own way, and the caller sees objects only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel

from chutes_core.fallback.report import ATTEMPTS, RESTART
from chutes_core.reply.structured import Form
from llama_index_chutes._structured.plans import Reader

__all__ = ["Wanted"]


class Wanted(dict[str, Any]):
    """A structured output request that also keeps the class, so that each member can be asked in its own way.

    Attributes:
        result: The object, once a member has produced one.
    """

    def __init__(
        self,
        output_cls: type[BaseModel],
        messages: Sequence[ChatMessage] = (),
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name=output_cls.__name__)
        self.output_cls: type[Any] = output_cls
        self.result: Any = None
        self.several = bool((params or {}).get("allow_parallel_tool_calls"))
        self._arguments = {**(params or {}), "messages": list(messages)}
        self._reader: Reader[Any] = Reader(output_cls, several=self.several)

    @property
    def form(self) -> Form:
        """The form of the object."""
        return self._reader.form

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
        if RESTART in chunk.additional_kwargs:
            return None
        return self._reader.partial(chunk)
