"""Messages as OpenTelemetry's conventions for generative AI write them, in JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from chutes_core.response import Reply

__all__ = ["input_messages", "output_messages"]


def input_messages(messages: object) -> str:
    """Write what was asked.

    >>> input_messages([{"role": "user", "content": "Hi"}])
    '[{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]'
    """
    given = messages if isinstance(messages, Sequence) else ()
    return _json([{"role": each.get("role"), "parts": list(_parts(each))} for each in given])


def output_messages(reply: Reply) -> str:
    """Write what was answered.

    >>> from chutes_core.response import Choice
    >>> output_messages(Reply("1", "acme/one", (Choice(0, "Hello!", "", (), (), "stop"),)))
    '[{"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}], "finish_reason": "stop"}]'
    """
    told = []
    for choice in reply.choices:
        parts: list[object] = []
        if choice.reasoning:
            parts.append({"type": "reasoning", "content": choice.reasoning})
        if choice.content:
            parts.append({"type": "text", "content": choice.content})
        parts += [_call(call.id, call.name, call.arguments) for call in choice.tool_calls]
        told.append({"role": "assistant", "parts": parts, "finish_reason": choice.finish_reason or "error"})
    return _json(told)


def _parts(message: Mapping[str, object]) -> Iterator[object]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}
        return
    if isinstance(content, str) and content:
        yield {"type": "text", "content": content}
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping):
            yield _part(part)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") or {}
        yield _call(call.get("id"), function.get("name"), function.get("arguments"))


def _part(part: Mapping[str, object]) -> object:
    kind = str(part.get("type"))
    if kind == "text":
        return {"type": "text", "content": part.get("text")}
    value = part.get(kind)
    url = value.get("url") if isinstance(value, Mapping) else None
    modality = kind.partition("_")[0]
    if isinstance(url, str) and not url.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": url}
    return {"type": "blob", "modality": modality}  # the bytes themselves are too many for a span


def _call(call_id: object, name: object, arguments: object) -> object:
    try:
        read = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        read = arguments
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": read}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
