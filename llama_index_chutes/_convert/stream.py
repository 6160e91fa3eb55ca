"""Convert stream deltas to LlamaIndex chunks, each with the message so far.

The cost of a chunk must not grow with the answer: only the block that a delta changes is rebuilt, and what the core
has checked is not validated again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

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

from chutes_core.response import Delta
from llama_index_chutes._convert.messages import chat_response
from llama_index_chutes._convert.raw import RawChunk

if TYPE_CHECKING:
    from chutes_core import AsyncStream, Stream, ToolCallDelta
    from chutes_core.fallback.carried import Carried
    from chutes_core.fallback.stream import AsyncFallbackStream, FallbackStream
    from chutes_core.spending.meter import Unbegun

__all__ = ["ChatDraft", "achunks", "chunks", "completion", "unbegun"]

M = TypeVar("M", bound=BaseModel)
_ROLE = MessageRole.ASSISTANT


def unbegun() -> Unbegun:
    """Return a guard for a stream that has not begun, for its generator to own."""
    from chutes_core.spending.meter import Unbegun  # not loaded before the first call

    return Unbegun()


def chunks(
    stream: Stream | FallbackStream, before: Unbegun, made: Callable[[ChatResponse], Any] | None = None
) -> Generator[Any, None, None]:
    """Yield a stream's chunks, or what is made of each; stopping early releases its connection."""
    before.begin()
    draft = ChatDraft()
    with stream:
        for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk if made is None else made(chunk)
    last = chat_response(stream.reply, "")
    yield last if made is None else made(last)


async def achunks(
    stream: AsyncStream | AsyncFallbackStream, before: Unbegun, made: Callable[[ChatResponse], Any] | None = None
) -> AsyncGenerator[Any, None]:
    """Async version of :func:`chunks`."""
    before.begin()
    draft = ChatDraft()
    async with stream:
        async for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk if made is None else made(chunk)
    last = chat_response(stream.reply, "")
    yield last if made is None else made(last)


def completion(chunk: ChatResponse) -> CompletionResponse:
    """Return a chunk or a whole answer as a completion's, with what is not text alongside."""
    message, values, extra = chunk.message, chunk.__dict__, chunk.additional_kwargs
    if chunk.raw is not None and type(chunk.raw) is not RawChunk:
        thoughts = [block.content for block in message.blocks if isinstance(block, ThinkingBlock) and block.content]
        extra = {**({"thinking": "".join(thoughts)} if thoughts else {}), **message.additional_kwargs, **extra}
    kept = {name: values[name] for name in ("delta", "raw", "logprobs")}
    made = _made(CompletionResponse, {"text": message.content or "", "additional_kwargs": extra, **kept})
    if type(chunk) is ChatResponse:
        return made
    from llama_index_chutes._convert.restart import is_void, void

    return void(made) if is_void(chunk) else made


class ChatDraft:
    """A chat answer in progress, from a Chutes model or another provider's."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._text = ""
        self._thought = ""
        self._head: list[ContentBlock] = []
        self._calls: dict[int, ToolCallBlock] = {}

    def add(self, delta: Delta) -> ChatResponse | None:
        """Return the message so far; a tool call has its arguments as text until it is complete."""
        if type(delta) is not Delta:
            return self._of_fallback(delta)
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
        said: dict[str, Any] = {"role": "assistant", "content": content or None}
        if reasoning:
            said["reasoning_content"] = reasoning
        if calls:
            said["tool_calls"] = [_piece(piece) for piece in calls]
        raw = RawChunk(object="chat.completion.chunk", choices=[{"index": 0, "delta": said, "finish_reason": None}])
        return _made(
            ChatResponse, {**_CHUNK, "message": message, "raw": raw, "delta": content, "additional_kwargs": extra}
        )

    def _of_fallback(self, delta: Delta) -> ChatResponse:
        """Return the chunk of a delta that only fallbacks have: another provider's, or the mark of a restart."""
        from chutes_core.fallback.relay import Restart
        from llama_index_chutes._convert.restart import marker

        if isinstance(delta, Restart):
            self._begin()
            return marker(delta.model, text=delta.text)
        carried: Carried = delta  # type: ignore[assignment]
        return carried.origin  # type: ignore[return-value]


def _piece(piece: ToolCallDelta) -> dict[str, Any]:
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": piece.index, "id": piece.id, "type": "function", "function": function}


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
