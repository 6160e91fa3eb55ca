"""Convert LangChain messages to request messages. Pure.

>>> from langchain_core.messages import HumanMessage, SystemMessage
>>> request_messages([SystemMessage("Be brief."), HumanMessage("Hello")])
[{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hello'}]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from chutes_core.errors import RequestRefusedError
from chutes_core.reply.body import call_body
from chutes_core.request.content import content_parts, joined_text, reasoning_text

__all__ = ["request_messages"]

Wire = dict[str, Any]
_ROLES = ((HumanMessage, "user"), (SystemMessage, "system"), (FunctionMessage, "function"))


def request_messages(messages: Sequence[BaseMessage], *, echo_reasoning: bool = False) -> list[Wire]:
    """Convert a conversation.

    Args:
        messages: The conversation; it is not changed.
        echo_reasoning: Send the model's earlier reasoning back to it.

    Raises:
        RequestRefusedError: The service would refuse a message, or part of it would be lost.
    """
    messages = list(_unfolded(messages))
    answered = {message.tool_call_id for message in messages if isinstance(message, ToolMessage)}
    wire: list[Wire] = []
    pictures: list[Wire] = []
    for message in messages:
        if pictures and not isinstance(message, ToolMessage):
            wire.append({"role": "user", "content": pictures})
            pictures = []
        if isinstance(message, AIMessage):
            told = _assistant(message, answered, echo_reasoning=echo_reasoning)
        elif isinstance(message, ToolMessage):
            told = _tool(message, pictures)
        else:
            told = {"role": _role(message), "content": _content(message.content)}
        wire.append({**told, "name": message.name} if message.name else told)
    return [*wire, {"role": "user", "content": pictures}] if pictures else wire


def _unfolded(messages: Iterable[BaseMessage]) -> Iterable[BaseMessage]:
    """Move tool results out of user messages, where Anthropic histories put them."""
    for message in messages:
        content = message.content
        blocks = content if isinstance(content, list) else []
        results = [block for block in blocks if isinstance(block, dict) and block.get("type") == "tool_result"]
        if not results or not isinstance(message, HumanMessage):
            yield message
            continue
        for block in results:
            yield ToolMessage(
                content=block.get("content") or "",
                tool_call_id=str(block.get("tool_use_id")),
                status="error" if block.get("is_error") else "success",
            )
        if rest := [block for block in blocks if block not in results]:
            yield message.model_copy(update={"content": rest})


def _role(message: BaseMessage) -> str:
    for kind, role in _ROLES:
        if isinstance(message, kind):
            return role
    if isinstance(message, ChatMessage):
        return message.role
    raise RequestRefusedError(f"A {type(message).__name__} is no message to send to a model.")


def _content(content: str | list[str | dict[Any, Any]]) -> str | list[Wire]:
    """Convert content, to a plain string if it is only text: some templates support nothing else."""
    if isinstance(content, str):
        return content
    parts = content_parts(content)
    if not parts:
        return ""
    return joined_text(parts) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _assistant(message: AIMessage, answered: set[str], *, echo_reasoning: bool) -> Wire:
    parts = content_parts(message.content)
    media = [part for part in parts if part["type"] != "text"]
    text = joined_text(parts)
    calls = list(_calls(message, answered))
    # A tool call without text has null content, not "": some templates would render an empty answer.
    wire: Wire = {"role": "assistant", "content": parts if media else text or (None if calls else "")}
    if calls:
        wire["tool_calls"] = calls
    kept = message.additional_kwargs.get("reasoning_content")
    if echo_reasoning and (thought := reasoning_text(message.content) or kept) and isinstance(thought, str):
        wire["reasoning_content"] = thought
    return wire


def _calls(message: AIMessage, answered: set[str]) -> Iterable[Wire]:
    """Yield the tool calls of a turn, including those found only in its blocks.

    Invalid calls are left out: the gateway refuses broken arguments, and repairing them would put words in the
    model's mouth. If a tool message answers one (for example, to report the error), it must stay, with its
    arguments quoted.
    """
    known = set()
    for call in message.tool_calls:
        known.add(call["id"])
        yield call_body(call["id"], call["name"], call["args"])
    for invalid in message.invalid_tool_calls:
        known.add(invalid["id"])
        if invalid["id"] in answered:
            yield call_body(invalid["id"], invalid["name"], {"invalid_arguments": invalid["args"]})
    if isinstance(message.content, list):
        for block in message.content:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind in ("tool_call", "tool_use") and block.get("id") not in known:  # type: ignore[union-attr]
                arguments = block.get("args" if kind == "tool_call" else "input")  # type: ignore[union-attr]
                yield call_body(block.get("id"), block.get("name"), arguments)  # type: ignore[union-attr]


def _tool(message: ToolMessage, pictures: list[Wire]) -> Wire:
    """Convert a tool result; its images follow in a user message, as most templates show only text under "tool"."""
    parts = content_parts(message.content)
    media = [part for part in parts if part["type"] in ("image_url", "video_url")]
    texts = [part for part in parts if part not in media]
    content: str | list[Wire]
    if all(part["type"] == "text" for part in texts):
        content = joined_text(texts, "\n")
        if message.status == "error" and not content.lower().startswith("error"):
            content = f"Error: {content}"
        content = content or ("(see the next message)" if media else "")
    else:
        content = texts
    if media:
        pictures += [{"type": "text", "text": f"From the result of tool call {message.tool_call_id}:"}, *media]
    return {"role": "tool", "content": content, "tool_call_id": message.tool_call_id}
