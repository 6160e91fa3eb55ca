"""A reply as plain data in the service's own format. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields

from chutes_core.response import Choice, Reply, ReplyMeta
from chutes_core.usage import Usage

__all__ = ["call_bodies", "call_body", "choice_body", "meta_body", "reply_body", "token_counts", "usage_body"]


def reply_body(reply: Reply) -> dict[str, object]:
    """Return a whole reply, with every field that the service sent.

    >>> body = reply_body(Reply("1", "acme/one", (Choice(0, "Hi", "", (), (), "stop"),), extra={"beyond": True}))
    >>> body["choices"][0]["message"], body["model"], body["beyond"]
    ({'role': 'assistant', 'content': 'Hi', 'refusal': None}, 'acme/one', True)
    """
    return {
        **reply.extra,
        "id": reply.id,
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [choice_body(choice, {"message": _message(choice)}) for choice in reply.choices],
        "usage": usage_body(reply.usage),
    }


def choice_body(choice: Choice, said: Mapping[str, object]) -> dict[str, object]:
    """Return a choice around what was said: a ``message``, or the ``delta`` of a stream's last chunk."""
    ending = {"finish_reason": choice.finish_reason, "logprobs": choice.logprobs}
    return {**choice.extra, "index": choice.index, **said, **ending}


def call_bodies(choice: Choice) -> list[dict[str, object]]:
    """Return all calls as the model wrote them: to see whether one is valid is the reader's, as with the service."""
    calls = sorted((*choice.tool_calls, *choice.invalid_tool_calls), key=lambda call: call.index)
    return [call_body(call.id, call.name, call.arguments) for call in calls]


def call_body(call_id: object, name: object, arguments: object) -> dict[str, object]:
    """Return a tool call, whose arguments are text or what is to be written as text.

    >>> call_body("call_1", "add", {"a": 1})
    {'id': 'call_1', 'type': 'function', 'function': {'name': 'add', 'arguments': '{"a": 1}'}}
    """
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name or "", "arguments": text}}


def usage_body(usage: Usage | None) -> dict[str, object] | None:
    """Return the usage with its details where OpenAI's format has them; what was not reported is left out.

    >>> usage_body(Usage(9, 5, 14, cached_tokens=4))["prompt_tokens_details"]
    {'cached_tokens': 4}
    """
    if usage is None:
        return None
    details = {
        "prompt_tokens_details": ("cached_tokens", usage.cached_tokens),
        "completion_tokens_details": ("reasoning_tokens", usage.reasoning_tokens),
    }
    return {
        **token_counts(usage),
        **{name: {count: value} for name, (count, value) in details.items() if value is not None},
    }


def token_counts(usage: Usage) -> dict[str, int]:
    """Return the counts that every usage has, by the service's names."""
    return {name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def meta_body(meta: ReplyMeta) -> dict[str, object]:
    """Return what the service said beside a reply, and what its machine proved; a trace only if there is one.

    >>> meta_body(ReplyMeta("abc", quota_used=7))["quota_used"]
    7
    """
    told = {name: getattr(meta, name) for name in _META}
    if meta.trace:
        told["trace"] = [event.to_dict() for event in meta.trace]
    return {**told, "attested": meta.attested.to_dict() if meta.attested is not None else None}


_META = tuple(each.name for each in fields(ReplyMeta) if each.name != "trace")


def _message(choice: Choice) -> dict[str, object]:
    calls = call_bodies(choice)
    message: dict[str, object] = {"role": "assistant", "content": choice.content or (None if calls else "")}
    message["refusal"] = choice.refusal or None
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    if calls:
        message["tool_calls"] = calls
    return message
