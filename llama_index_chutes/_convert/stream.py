"""Convert stream deltas to LlamaIndex chunks, each with the message so far.

The cost of a chunk must not grow with the answer: only the block that a delta changes is rebuilt, and what the core
has checked is not validated again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

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

from chutes_core.response import Delta, Reply
from llama_index_chutes._convert.messages import chat_response, completion_response

if TYPE_CHECKING:
    from chutes_core import AsyncStream, Stream, ToolCallDelta
    from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
    from chutes_core.spending.meter import Unbegun
    from chutes_core.usage import Usage

__all__ = ["ChatDraft", "CompletionDraft", "Draft", "adrain", "drain", "unbegun"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)
_ROLE = MessageRole.ASSISTANT


class Draft(Protocol[T_co]):
    """An answer in progress, from a Chutes model or another provider's."""

    def add(self, delta: Delta) -> T_co | None:
        """Add a delta and return its chunk, or None if there is nothing to show."""

    def finish(self, reply: Reply, delta: str | None = None) -> T_co:
        """Return the whole answer; a streamed one has a ``delta``."""


def unbegun() -> Unbegun:
    """Return a guard for a stream that has not begun, for its generator to own."""
    from chutes_core.spending.meter import Unbegun  # not loaded before the first call

    return Unbegun()


def drain(stream: Stream | FallbackStream, draft: Draft[T_co], before: Unbegun) -> Generator[T_co, None, None]:
    """Yield a stream's chunks; stopping early releases its connection."""
    before.begin()
    with stream:
        for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply, "")


async def adrain(
    stream: AsyncStream | AsyncFallbackStream, draft: Draft[T_co], before: Unbegun
) -> AsyncGenerator[T_co, None]:
    """Yield a stream's chunks; stopping early releases its connection."""
    before.begin()
    async with stream:
        async for delta in stream:
            chunk = draft.add(delta)
            if chunk is not None:
                yield chunk
    yield draft.finish(stream.reply, "")


class _Draft(Generic[T]):
    """What the two kinds of answers share: what a fallback adds to its members' deltas and replies."""

    def finish(self, reply: Reply, delta: str | None = None) -> T:
        """Return the whole answer, with the usage in ``raw``, and there too what a fallback tells of its attempts."""
        if type(reply) is Reply:
            return self._whole(reply, delta, {})
        from chutes_core.fallback.report import beside

        answer: FallbackReply = reply  # type: ignore[assignment]
        if answer.origin is None:
            return self._whole(reply, delta, beside(answer))
        whole: ChatResponse = answer.origin  # type: ignore[assignment]
        return self._carried(whole, delta, _raw_of(whole, reply.usage, beside(answer)))

    def _other(self, delta: Delta) -> T:
        """Return the chunk of a delta that only fallbacks have."""
        from chutes_core.fallback.relay import Restart
        from chutes_core.fallback.report import RESTART

        if isinstance(delta, Restart):
            self._begin()
            marker = self._marker({RESTART: delta.model})
            if delta.text:
                from llama_index_chutes._convert.restart import void

                void(marker)  # type: ignore[arg-type]
            return marker
        chunk: ChatResponse = delta.origin  # type: ignore[attr-defined]
        return self._carried(chunk, chunk.delta, chunk.raw)

    def _begin(self) -> None:
        raise NotImplementedError

    def _marker(self, mark: dict[str, Any]) -> T:
        """Return a chunk without text, from which the next answer grows."""
        raise NotImplementedError

    def _whole(self, reply: Reply, delta: str | None, added: Mapping[str, Any]) -> T:
        """Return a reply as an answer."""
        raise NotImplementedError

    def _carried(self, chunk: ChatResponse, delta: str | None, raw: object) -> T:
        """Return another provider's chunk or answer as one of ours."""
        raise NotImplementedError


def _raw_of(whole: ChatResponse, usage: Usage | None, added: Mapping[str, Any]) -> dict[str, Any]:
    """Return another provider's ``raw`` as a dict with additional entries.

    Token usage is put where the framework's counters look for it; some integrations put it elsewhere.
    """
    raw = whole.raw
    if isinstance(raw, BaseModel):
        found = raw.model_dump()
    else:
        found = dict(raw) if isinstance(raw, Mapping) else {"raw": raw} if raw is not None else {}
    if usage is not None and not found.get("usage"):
        from chutes_core.fallback.report import counts

        found["usage"] = counts(usage)
    return {**found, **added}


class ChatDraft(_Draft[ChatResponse]):
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
        if type(delta) is not Delta:
            return self._other(delta)
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

    def _marker(self, mark: dict[str, Any]) -> ChatResponse:
        message = ChatMessage(role=_ROLE, content="")
        return ChatResponse(message=message, delta="", raw=mark, additional_kwargs=dict(mark))

    def _whole(self, reply: Reply, delta: str | None, added: Mapping[str, Any]) -> ChatResponse:
        return chat_response(reply, delta, added)

    def _carried(self, chunk: ChatResponse, delta: str | None, raw: object) -> ChatResponse:
        return chunk if raw is chunk.raw else chunk.model_copy(update={"raw": raw, "delta": delta})


class CompletionDraft(_Draft[CompletionResponse]):
    """A completion in progress."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._text = ""

    def add(self, delta: Delta) -> CompletionResponse | None:
        """Return the text so far."""
        if type(delta) is not Delta:
            return self._other(delta)
        content, reasoning = delta.content, delta.reasoning
        if delta.choice or not (content or reasoning):
            return None
        self._text += content
        extra = {"thinking_delta": reasoning} if reasoning else {}
        return CompletionResponse(text=self._text, delta=content, additional_kwargs=extra)

    def _marker(self, mark: dict[str, Any]) -> CompletionResponse:
        return CompletionResponse(text="", delta="", raw=mark, additional_kwargs=dict(mark))

    def _whole(self, reply: Reply, delta: str | None, added: Mapping[str, Any]) -> CompletionResponse:
        return completion_response(reply, delta, added)

    def _carried(self, chunk: ChatResponse, delta: str | None, raw: object) -> CompletionResponse:
        extra = chunk.additional_kwargs
        return CompletionResponse(text=chunk.message.content or "", delta=delta, raw=raw, additional_kwargs=extra)


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
