"""Convert stream deltas to LlamaIndex chunks, each with the message so far.

The cost of a chunk must not grow with the answer: only the block that a delta changes is rebuilt, and what the core
has checked is not validated again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    ContentBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import BaseModel

from llama_index_chutes._messages import chat_response, completion_response

if TYPE_CHECKING:
    from chutes_core import AsyncStream, Delta, Reply, Stream, ToolCallDelta
    from chutes_core.spending.meter import Unbegun

__all__ = ["ChatDraft", "CompletionDraft", "Draft", "adrain", "drain", "unbegun"]

T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)
_ROLE = MessageRole.ASSISTANT


class Draft(Protocol[T_co]):
    """An answer in progress, from a Chutes model or another provider's."""

    def add(self, delta: Delta) -> T_co | None:
        """Add a delta and return its chunk, or None if there is nothing to show."""

    def finish(self, reply: Reply, delta: str | None = None, told: Mapping[str, Any] | None = None) -> T_co:
        """Return the whole answer, with ``told`` added to ``raw``; a streamed one has a ``delta``."""

    def restart(self, mark: Mapping[str, Any]) -> T_co:
        """Discard the answer so far and return a marker chunk without text."""

    def relay(self, chunk: ChatResponse) -> T_co:
        """Convert another provider's chunk."""

    def adopt(self, whole: ChatResponse, delta: str | None, raw: Mapping[str, Any]) -> T_co:
        """Convert another provider's whole answer."""


def unbegun() -> Unbegun:
    """Return a guard for a stream that has not begun, for its generator to own."""
    from chutes_core.spending.meter import Unbegun  # not loaded before the first call

    return Unbegun()


def drain(stream: Stream, draft: Draft[T_co], before: Unbegun) -> Generator[T_co, None, None]:
    """Yield a stream's chunks; stopping early releases its connection."""
    before.begin()
    with stream:
        for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply, "")


async def adrain(stream: AsyncStream, draft: Draft[T_co], before: Unbegun) -> AsyncGenerator[T_co, None]:
    """Yield a stream's chunks; stopping early releases its connection."""
    before.begin()
    async with stream:
        async for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply, "")


class ChatDraft:
    """A chat answer in progress.

    >>> from chutes_core import Delta
    >>> draft = ChatDraft()
    >>> [draft.add(Delta(content=text)).message.content for text in ("Hel", "lo")]
    ['Hel', 'Hello']
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._text = ""
        self._thought = ""
        self._head: list[ContentBlock] = []
        self._calls: dict[int, ToolCallBlock] = {}

    def add(self, delta: Delta) -> ChatResponse | None:
        """Return the message so far; a tool call has its arguments as text until it is complete."""
        content, reasoning, calls = delta.content, delta.reasoning, delta.tool_calls
        if delta.choice or not (content or reasoning or calls):
            return None
        extra: dict[str, Any] = {}
        if reasoning:
            self._thought += reasoning
            self._head = [ThinkingBlock(content=self._thought)]
            extra["thinking_delta"] = reasoning
        if content:
            self._text += content
        for piece in calls:
            self._calls[piece.index] = _longer(self._calls.get(piece.index), piece)
        blocks = list(self._head)
        if self._text or not (blocks or self._calls):
            blocks.append(TextBlock(text=self._text))
        if self._calls:
            blocks += self._calls.values()
        message = _made(ChatMessage, {**_MESSAGE, "role": _ROLE, "additional_kwargs": {}, "blocks": blocks})
        return _made(ChatResponse, {**_CHUNK, "message": message, "delta": content, "additional_kwargs": extra})

    def finish(self, reply: Reply, delta: str | None = None, told: Mapping[str, Any] | None = None) -> ChatResponse:
        """Return the whole message, with its tool calls, and the usage in ``raw``."""
        return chat_response(reply, delta, told)

    def restart(self, mark: Mapping[str, Any]) -> ChatResponse:
        """Return a chunk with an empty message, from which the next answer grows."""
        self._begin()
        message = ChatMessage(role=_ROLE, content="")
        return ChatResponse(message=message, delta="", raw=dict(mark), additional_kwargs=dict(mark))

    def relay(self, chunk: ChatResponse) -> ChatResponse:
        """Return the chunk unchanged."""
        return chunk

    def adopt(self, whole: ChatResponse, delta: str | None, raw: Mapping[str, Any]) -> ChatResponse:
        """Return the whole message."""
        return whole.model_copy(update={"raw": dict(raw), "delta": delta})


class CompletionDraft:
    """A completion in progress."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, delta: Delta) -> CompletionResponse | None:
        """Return the text so far."""
        content, reasoning = delta.content, delta.reasoning
        if delta.choice or not (content or reasoning):
            return None
        self._text += content
        extra = {"thinking_delta": reasoning} if reasoning else {}
        return CompletionResponse(text=self._text, delta=content, additional_kwargs=extra)

    def finish(
        self, reply: Reply, delta: str | None = None, told: Mapping[str, Any] | None = None
    ) -> CompletionResponse:
        """Return the whole text, and the usage in ``raw``."""
        return completion_response(reply, delta, told)

    def restart(self, mark: Mapping[str, Any]) -> CompletionResponse:
        """Return a chunk without text."""
        self._text = ""
        return CompletionResponse(text="", delta="", raw=dict(mark), additional_kwargs=dict(mark))

    def relay(self, chunk: ChatResponse) -> CompletionResponse:
        """Return the text so far."""
        return CompletionResponse(
            text=chunk.message.content or "", delta=chunk.delta, additional_kwargs=chunk.additional_kwargs
        )

    def adopt(self, whole: ChatResponse, delta: str | None, raw: Mapping[str, Any]) -> CompletionResponse:
        """Return the whole text."""
        return CompletionResponse(
            text=whole.message.content or "", delta=delta, raw=dict(raw), additional_kwargs=whole.additional_kwargs
        )


def _longer(block: ToolCallBlock | None, piece: ToolCallDelta) -> ToolCallBlock:
    if block is None:
        return ToolCallBlock(tool_call_id=piece.id, tool_name=piece.name or "", tool_kwargs=piece.arguments)
    return ToolCallBlock(
        tool_call_id=block.tool_call_id or piece.id,
        tool_name=block.tool_name or piece.name or "",
        tool_kwargs=f"{block.tool_kwargs}{piece.arguments}",
    )


# ------------------------------------------------------------------------------------- objects without validation


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Return the field defaults that can be shared; the others must be passed."""
    return {name: field.default for name, field in model.model_fields.items() if field.default_factory is None}


_MESSAGE, _CHUNK = _defaults(ChatMessage), _defaults(ChatResponse)
_set = object.__setattr__


def _made(model: type[M], values: dict[str, Any]) -> M:
    """Create a model instance without validation, which saves a third of a chunk's cost."""
    made = model.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", set(values))
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made
