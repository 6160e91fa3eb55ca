"""Failures for unusable answers, with everything that was received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse, ThinkingBlock, ToolCallBlock

from chutes_core import APIError, Choice, Kind, Reply, ToolCall, Usage
from chutes_core.failures.reading import failure
from llama_index_chutes._convert.messages import arguments_of

__all__ = ["arrived", "unusable", "usage_of"]


def unusable(said: str, reply: Reply, *, model: str, quiet: bool = False, kind: Kind = Kind.MALFORMED) -> APIError:
    """Return the failure for an unusable answer; if that came encrypted, its text is kept out of all that is shown.

    If it has tool calls but no text, ``.partial`` is the raw text of the calls.
    """
    choice = reply.choices[0]
    calls = "\n".join(call.arguments for call in (*choice.tool_calls, *choice.invalid_tool_calls))
    told = replace(reply, choices=(replace(choice, content=choice.content or calls),))
    error = failure(kind, said, model=model, partial_reply=told)
    if not quiet:
        return error
    from chutes_core.e2ee.privacy import without_words

    return without_words(error, opened=False)


def arrived(response: ChatResponse, model: str) -> Reply:
    """Return what has arrived of an answer, from a Chutes model or another provider's."""
    message = response.message
    raw: Mapping[str, Any] = response.raw if isinstance(response.raw, Mapping) else {}
    calls = tuple(
        ToolCall(block.tool_call_id or "", block.tool_name, arguments_of(block))
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    )
    invalid = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"], call["error"])
        for call in message.additional_kwargs.get("invalid_tool_calls") or ()
    )
    thought = "".join(block.content or "" for block in message.blocks if isinstance(block, ThinkingBlock))
    refusal = str(message.additional_kwargs.get("refusal") or "")
    choices = [each for each in raw.get("choices") or () if isinstance(each, Mapping)]
    reason = next((each["finish_reason"] for each in choices if "finish_reason" in each), None)
    choice = Choice(0, message.content or "", thought, calls, invalid, reason, refusal=refusal)
    told = raw.get("id"), raw.get("model")
    reply_id, answered = (each if isinstance(each, str) else None for each in told)
    return Reply(reply_id, answered or model, (choice,), usage_of(response))


def usage_of(answer: ChatResponse | CompletionResponse | None) -> Usage | None:
    """Return the token usage of an answer or a chunk from wherever integrations put it."""
    if answer is None:
        return None
    raw = answer.raw
    told: Mapping[str, Any] = raw if isinstance(raw, Mapping) else getattr(raw, "__dict__", {})
    return Usage.of_any(told.get("usage") or told.get("usage_metadata") or answer.additional_kwargs)
