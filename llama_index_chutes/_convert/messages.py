"""Convert LlamaIndex messages to the service's format, and replies to messages. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import IOBase
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    ChatResponse,
    CitableBlock,
    CitationBlock,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    LogProb,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.bridge.pydantic import BaseModel

from chutes_core import Reply, RequestRefusedError, ToolCall, Usage
from chutes_core.reply.body import call_body, meta_body, reply_body, token_counts
from llama_index_chutes._convert.raw import Raw

if TYPE_CHECKING:
    from chutes_core.fallback.stream import FallbackReply

__all__ = ["arguments_of", "chat_response", "flat", "reply_message", "wire_messages"]

_ROLES = {
    MessageRole.DEVELOPER: "system",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.FUNCTION: "tool",
}

# ------------------------------------------------------------------------------------------------ to the service


def wire_messages(messages: Iterable[ChatMessage], *, echo_reasoning: bool = False) -> list[dict[str, Any]]:
    """Return a conversation in the service's format; some models need the reasoning of their earlier answers back."""
    return [_wire_message(message, echo_reasoning) for message in messages]


def _wire_message(message: ChatMessage, echo_reasoning: bool) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role.value)
    blocks = list(flat(message.blocks))
    wire: dict[str, Any] = {"role": role, "content": _content(blocks)}
    if isinstance(name := message.additional_kwargs.get("name"), str):
        wire["name"] = name
    if role == "tool":
        wire["tool_call_id"] = message.additional_kwargs.get("tool_call_id") or ""
    calls = [block for block in blocks if isinstance(block, ToolCallBlock)]
    if role != "assistant":
        if calls:
            raise RequestRefusedError(f"A message with role {role!r} has a tool call; only the assistant's may.")
        return wire
    wire_calls: list[Any] = [
        call_body(call.tool_call_id or f"call_{number}", call.tool_name, call.tool_kwargs)
        for number, call in enumerate(calls)
    ]
    if not calls:
        wire_calls = [_plain(call) for call in message.additional_kwargs.get("tool_calls") or ()]
    if wire_calls:
        wire["tool_calls"] = wire_calls
        wire["content"] = wire["content"] or None
    if echo_reasoning:
        thoughts = [block.content for block in blocks if isinstance(block, ThinkingBlock) and block.content]
        if thoughts:
            wire["reasoning_content"] = "".join(thoughts)
    return wire


def flat(blocks: Iterable[Any]) -> Iterator[Any]:
    """Yield the blocks; those inside a citation follow a text that names the source."""
    for block in blocks:
        if isinstance(block, CitableBlock | CitationBlock):
            named = (("Title", block.title), ("Source", block.source))
            if origin := "\n".join(f"{name}: {value}" for name, value in named if value):
                yield TextBlock(text=origin)
            yield from flat(block.nested_blocks)
        else:
            yield block


def _content(blocks: Sequence[Any]) -> str | list[dict[str, Any]]:
    """Return plain text if there is only text, which every template supports; else a list of parts."""
    said = [block for block in blocks if not isinstance(block, CachePoint | ThinkingBlock | ToolCallBlock)]
    if all(isinstance(block, TextBlock) for block in said):
        return "\n".join(block.text for block in said)
    return [_part(block) for block in said]


def _part(block: object) -> dict[str, Any]:
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, ImageBlock):
        return _medium("image", block, block.resolve_image, block.image_mimetype)
    if isinstance(block, VideoBlock):
        if block.fps is not None:
            raise RequestRefusedError(
                "A VideoBlock's fps has no place in a message on Chutes: leave it out, or tell the engine with "
                f"extra_body={{'mm_processor_kwargs': {{'fps': {block.fps}}}}}."
            )
        return _medium("video", block, block.resolve_video, block.video_mimetype)
    if isinstance(block, AudioBlock):
        raise RequestRefusedError("Chutes takes no audio in a chat: send its transcript as text.")
    if isinstance(block, DocumentBlock):
        raise RequestRefusedError(
            f"The document {block.title!r} cannot be sent: Chutes takes no files. Send its text as a TextBlock, or "
            "its pages as ImageBlocks."
        )
    raise RequestRefusedError(f"A {type(block).__name__} cannot be sent to Chutes.")


def _medium(
    kind: str, block: ImageBlock | VideoBlock, read: Callable[[], IOBase], mimetype: str | None
) -> dict[str, Any]:
    address = str(block.url) if block.url else _data_uri(read().read(), mimetype, kind)
    detail = {"detail": block.detail} if block.detail else {}
    return {"type": f"{kind}_url", f"{kind}_url": {"url": address, **detail}}


def _data_uri(data: Any, mimetype: str | None, kind: str) -> str:
    """Return a data URL; without a MIME type, the type is detected from the first bytes."""
    if not mimetype:
        import filetype  # type: ignore[import-untyped]

        mimetype = getattr(filetype.guess(data), "mime", None)
    if not mimetype or not mimetype.startswith(f"{kind}/"):
        raise RequestRefusedError(
            f"The data of a {kind} block is not known to be one ({mimetype or 'no type given'}): "
            f"give {kind}_mimetype, such as '{kind}/{'png' if kind == 'image' else 'mp4'}'."
        )
    return f"data:{mimetype};base64,{base64.b64encode(data).decode()}"


def arguments_of(block: ToolCallBlock) -> str:
    """Return the arguments of a tool call as JSON text."""
    given = block.tool_kwargs
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _plain(call: Any) -> Any:
    """Return a tool call from another integration's message as plain data."""
    return call.model_dump() if hasattr(call, "model_dump") else call


# -------------------------------------------------------------------------------------------- from the service


def reply_message(reply: Reply) -> ChatMessage:
    """Return a whole reply as a message: reasoning, text, tool calls.

    Invalid calls must not be run, so they are kept separately in ``additional_kwargs["invalid_tool_calls"]``.
    """
    blocks: list[ContentBlock] = []
    if reply.reasoning:
        tokens = reply.usage.reasoning_tokens if reply.usage else None
        blocks.append(ThinkingBlock(content=reply.reasoning, num_tokens=tokens))
    if reply.content or not (reply.reasoning or reply.tool_calls):
        blocks.append(TextBlock(text=reply.content))
    blocks += [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=call.args) for call in reply.tool_calls
    ]
    extra: dict[str, Any] = {}
    if reply.tool_calls:
        # Where the framework's streaming structured-output programs look for them.
        extra["tool_calls"] = [_call_of(call) for call in reply.tool_calls]
    if reply.invalid_tool_calls:
        extra["invalid_tool_calls"] = [{**_call_of(call), "error": call.error} for call in reply.invalid_tool_calls]
    if refusal := next((choice.refusal for choice in reply.choices), ""):
        extra["refusal"] = refusal
    return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=extra)


def chat_response(reply: Reply, delta: str | None = None) -> ChatResponse:
    """Return a whole reply, with all of it in ``raw``, in the service's format; ``delta`` is the last of a stream."""
    told: Mapping[str, Any] = {}
    if type(reply) is not Reply:
        from chutes_core.fallback.report import beside

        answer: FallbackReply = reply  # type: ignore[assignment]
        told = beside(answer)
        if answer.origin is not None:
            return _carried(answer.origin, delta, reply.usage, told)  # type: ignore[arg-type]
    return ChatResponse(
        message=reply_message(reply),
        raw=Raw({**reply_body(reply), **_meta(reply), **told}),
        delta=delta,
        logprobs=_logprobs(reply),
        additional_kwargs=_counts(reply.usage),
    )


def _counts(usage: Usage | None) -> dict[str, Any]:
    """Return the tokens as handlers of other providers' models look for them."""
    return {} if usage is None else dict(token_counts(usage))


def _meta(reply: Reply) -> dict[str, Any]:
    meta = {name: value for name, value in meta_body(reply.meta).items() if value is not None}
    return {"chutes": meta} if meta else {}


def _carried(whole: ChatResponse, delta: str | None, usage: Usage | None, told: Mapping[str, Any]) -> ChatResponse:
    """Return another provider's answer with ``raw`` as ours is, and the usage where token counters look for it."""
    raw = whole.raw
    if isinstance(raw, BaseModel):
        raw = raw.model_dump()
    elif not isinstance(raw, Mapping):
        raw = {} if raw is None else {"raw": raw}
    if usage is not None and not raw.get("usage"):
        raw = {**raw, "usage": asdict(usage)}
    extra = {**_counts(usage), **whole.additional_kwargs}
    return whole.model_copy(update={"raw": Raw({**raw, **told}), "delta": delta, "additional_kwargs": extra})


def _call_of(call: ToolCall) -> dict[str, Any]:
    return call_body(call.id, call.name, call.arguments)


def _logprobs(reply: Reply) -> list[list[LogProb]] | None:
    """Return each token's log probabilities: the chosen token's, or the top ones if requested."""
    told = reply.choices[0].logprobs if reply.choices else None
    tokens = told.get("content") if isinstance(told, Mapping) else None
    if not isinstance(tokens, list):
        return None
    return [[_logprob(entry) for entry in token.get("top_logprobs") or [token]] for token in tokens]


def _logprob(entry: Mapping[str, Any]) -> LogProb:
    return LogProb(token=entry.get("token", ""), logprob=entry.get("logprob", 0.0), bytes=entry.get("bytes") or [])
