"""Failures for unusable answers, with everything that was received."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, ThinkingBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel

from chutes_core import APIError, Choice, Kind, Reply, ToolCall, Usage
from chutes_core.failures.reading import failure

__all__ = ["arrived", "finish_reason", "invalid_calls", "said_of", "unusable", "usage_of"]


def unusable(
    said: str, response: ChatResponse, *, model: str, quiet: bool = False, kind: Kind = Kind.MALFORMED
) -> APIError:
    """Return the failure for an unusable answer.

    Args:
        said: What is wrong.
        response: The answer. If it has tool calls but no text, ``.partial`` is the raw text of the calls.
        model: The model that answered.
        quiet: The answer came encrypted: keep its text out of everything shown or stored.
        kind: What the failure is.
    """
    error = failure(kind, said, model=model, partial_reply=arrived(response, model, calls_as_text=True))
    if not quiet:
        return error
    from chutes_core.e2ee.privacy import without_words

    return without_words(error, opened=False)


def arrived(response: ChatResponse, model: str, *, calls_as_text: bool = False) -> Reply:
    """Return what has arrived of an answer, from a Chutes model or another provider's.

    >>> arrived(ChatResponse(message={"role": "assistant", "content": "Hi"}, raw={"id": "1"}), "acme/one").content
    'Hi'
    """
    message = response.message
    raw: Mapping[str, Any] = response.raw if isinstance(response.raw, Mapping) else {}
    calls = tuple(_call(block) for block in message.blocks if isinstance(block, ToolCallBlock))
    invalid = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"], call["error"])
        for call in invalid_calls(response)
    )
    text = message.content or ""
    if calls_as_text and not text:
        text = "\n".join(call.arguments for call in (*calls, *invalid))
    thought = "".join(block.content or "" for block in message.blocks if isinstance(block, ThinkingBlock))
    refusal = str(message.additional_kwargs.get("refusal") or "")
    choice = Choice(0, text, thought, calls, invalid, finish_reason(response), refusal=refusal)
    told = raw.get("id"), raw.get("model")
    reply_id, answered = (each if isinstance(each, str) else None for each in told)
    return Reply(reply_id, answered or model, (choice,), usage_of(response))


def _call(block: ToolCallBlock) -> ToolCall:
    given = block.tool_kwargs
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    return ToolCall(block.tool_call_id or "", block.tool_name, arguments)


def invalid_calls(response: ChatResponse) -> list[Mapping[str, Any]]:
    """Return an answer's invalid tool calls, which :func:`reply_message` keeps separately."""
    return response.message.additional_kwargs.get("invalid_tool_calls") or []


def said_of(invalid: list[Mapping[str, Any]]) -> str:
    """Describe what is wrong with tool calls."""
    return "; ".join(f"the call of {call['function']['name']!r}: {call['error']}" for call in invalid)


def finish_reason(response: ChatResponse) -> str | None:
    """Return an answer's finish reason, if it has one in the service's format."""
    raw = response.raw if isinstance(response.raw, Mapping) else {}
    choices = raw.get("choices") or ()
    return next(
        (each["finish_reason"] for each in choices if isinstance(each, Mapping) and "finish_reason" in each), None
    )


def usage_of(chunk: ChatResponse) -> Usage | None:
    """Return a chunk's token usage from wherever integrations put it."""
    raw = chunk.raw
    told = raw.get("usage") if isinstance(raw, Mapping) else getattr(raw, "usage", None)
    if isinstance(told, BaseModel):
        told = told.model_dump()
    return Usage.parse(told if isinstance(told, Mapping) else chunk.additional_kwargs or None)
