"""Streams: each delta of the core to one chunk of LlamaIndex, with the message so far.

A chunk's cost must not grow with the answer: only the block that a delta changes is made anew.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
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

from llama_index_chutes._messages import chat_response, completion_response

if TYPE_CHECKING:
    from chutes_core import AsyncStream, Delta, Reply, Stream, ToolCallDelta

__all__ = ["ChatDraft", "CompletionDraft", "Draft", "adrain", "drain"]

T_co = TypeVar("T_co", covariant=True)


class Draft(Protocol[T_co]):
    """An answer that is being written."""

    def add(self, delta: Delta) -> T_co | None:
        """Take a delta and return the chunk it makes, or None where it adds nothing to show."""

    def finish(self, reply: Reply) -> T_co:
        """Return the last chunk, which has everything."""


def drain(stream: Stream, draft: Draft[T_co]) -> Generator[T_co, None, None]:
    """Give out the chunks of a stream; leaving it early gives its connection back."""
    with stream:
        for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply)


async def adrain(stream: AsyncStream, draft: Draft[T_co]) -> AsyncGenerator[T_co, None]:
    """Give out the chunks of a stream; leaving it early gives its connection back."""
    async with stream:
        async for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply)


class ChatDraft:
    """A chat answer that is being written."""

    def __init__(self) -> None:
        self._text = ""
        self._thought = ""
        self._head: list[ContentBlock] = []
        self._calls: dict[int, ToolCallBlock] = {}

    def add(self, delta: Delta) -> ChatResponse | None:
        """Return the message so far; a tool call in it has its arguments as text until it is whole."""
        if delta.choice or not (delta.content or delta.reasoning or delta.tool_calls):
            return None
        extra: dict[str, Any] = {}
        if delta.reasoning:
            self._thought += delta.reasoning
            self._head = [ThinkingBlock(content=self._thought)]
            extra["thinking_delta"] = delta.reasoning
        self._text += delta.content
        for piece in delta.tool_calls:
            self._calls[piece.index] = _longer(self._calls.get(piece.index), piece)
        blocks = [*self._head, TextBlock(text=self._text), *self._calls.values()]
        if not self._text and len(blocks) > 1:
            del blocks[len(self._head)]
        message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
        return ChatResponse(message=message, delta=delta.content, additional_kwargs=extra)

    def finish(self, reply: Reply) -> ChatResponse:
        """Return the whole message, with its tool calls, and in ``raw`` the usage."""
        return chat_response(reply, delta="")


def _longer(block: ToolCallBlock | None, piece: ToolCallDelta) -> ToolCallBlock:
    if block is None:
        return ToolCallBlock(tool_call_id=piece.id, tool_name=piece.name or "", tool_kwargs=piece.arguments)
    return ToolCallBlock(
        tool_call_id=block.tool_call_id or piece.id,
        tool_name=block.tool_name or piece.name or "",
        tool_kwargs=f"{block.tool_kwargs}{piece.arguments}",
    )


class CompletionDraft:
    """A completion that is being written."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, delta: Delta) -> CompletionResponse | None:
        """Return the text so far."""
        if delta.choice or not (delta.content or delta.reasoning):
            return None
        self._text += delta.content
        extra = {"thinking_delta": delta.reasoning} if delta.reasoning else {}
        return CompletionResponse(text=self._text, delta=delta.content, additional_kwargs=extra)

    def finish(self, reply: Reply) -> CompletionResponse:
        """Return the whole text, and in ``raw`` the usage."""
        return completion_response(reply, delta="")
