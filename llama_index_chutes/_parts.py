"""The parts that members yield to the fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.program.utils import FlexibleModel

from chutes_core import Delta, Reply, Usage
from chutes_core.fallback import Call, Try
from chutes_core.fallback.report import ATTEMPTS, RESTART, counts
from llama_index_chutes._stream import ChatDraft
from llama_index_chutes._structured import Reader

__all__ = ["Final", "Part", "Pieces", "Restart", "Wanted", "adopted", "ends", "has_calls", "shows", "usage_in", "waits"]


@dataclass(frozen=True, slots=True)
class Restart:
    """Another member starts over; discard what came before."""

    step: Try


@dataclass(frozen=True, slots=True)
class Final:
    """The complete answer of another provider's model."""

    response: ChatResponse
    usage: Usage | None


Part = Delta | Reply | ChatResponse | Final | Restart

# ----------------------------------------------------------------------------------- what the engine asks of a part
# These run for every part, so the most frequent case comes first.


def shows(part: Part) -> bool:
    """Return whether a part contains any of the answer."""
    if type(part) is Delta:
        return bool(part.content or part.reasoning or part.tool_calls)
    if isinstance(part, ChatResponse):
        return bool(part.delta or part.message.content or part.additional_kwargs.get("thinking_delta"))
    return False


def usage_in(part: Part) -> Usage | None:
    """Return the token usage that a part reports."""
    return part.usage if type(part) is Delta or isinstance(part, Reply | Final) else None


def ends(part: Part) -> bool:
    """Return whether a part is the end, which waits until the engine accepts the answer."""
    return type(part) is not Delta and not isinstance(part, ChatResponse)


def waits(part: Part) -> bool:
    """Return whether to hold a part: if an answer may restart, tool calls wait until they are complete."""
    if type(part) is Delta:
        return bool(part.tool_calls)
    return not isinstance(part, ChatResponse) or has_calls(part)


def has_calls(chunk: ChatResponse) -> bool:
    """Return whether a chunk has a tool call, in either of the framework's formats."""
    message = chunk.message
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        isinstance(block, ToolCallBlock) for block in message.blocks
    )


# ------------------------------------------------------------------------------------------------------- objects


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
        self._reader = self.reader()

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

    def reader(self) -> Reader[Any]:
        """Return a reader for one answer."""
        return Reader(self.output_cls, several=self.several)


class Pieces:
    """Detects when a member's parts first yield a partial object.

    Callers see only partial objects, not text, so another member may take over until there is one.
    """

    def __init__(self, wanted: Wanted, call: Call) -> None:
        self._wanted = wanted
        self._call = call
        self.begin()

    def begin(self) -> None:
        """Start with a new member."""
        self._draft = ChatDraft()
        self._reader = self._wanted.reader()

    def __call__(self, part: Part) -> bool:
        """Take the next part and return whether it yields a partial object."""
        if shows(part):
            self._call.first_part(given_out=False)  # this still counts as the time to first token
        chunk = self._draft.add(part) if type(part) is Delta else part
        return isinstance(chunk, ChatResponse) and self._reader.partial(chunk) is not None


def adopted(end: Final, added: Mapping[str, Any]) -> dict[str, Any]:
    """Return another provider's ``raw`` as a dict with additional entries.

    Token usage is put where the framework's counters look for it; some integrations put it elsewhere.
    """
    raw = end.response.raw
    if isinstance(raw, BaseModel):
        found = raw.model_dump()
    else:
        found = dict(raw) if isinstance(raw, Mapping) else {"raw": raw} if raw is not None else {}
    if end.usage is not None and not found.get("usage"):
        found["usage"] = counts(end.usage)
    return {**found, **added}
