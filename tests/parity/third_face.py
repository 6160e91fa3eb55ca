"""The core behind a third framework: what a face has to do, and no more.

It is not shipped: docs/architecture.md shows it, and test_third_face.py holds it to the table of the other two.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chutes_core import (
    APIError,
    AsyncChutesClient,
    AsyncFallbackClient,
    ChutesClient,
    ChutesError,
    Delta,
    FallbackClient,
    Reply,
    Restart,
    Retry,
)

from .third_framework import Answer, Call, ModelFailed, Part, Picture, Piece, Result, Text, Thought, Tool, Turn, Void

Client = ChutesClient | FallbackClient
AsyncClient = AsyncChutesClient | AsyncFallbackClient
ROLES = {"system": "system", "user": "user", "model": "assistant"}


# --------------------------------------------------------------------------------------------------- what is sent


def messages_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return the conversation as messages; the result of a tool is one by itself."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, Result):
                messages.append({"role": "tool", "content": part.text, "tool_call_id": part.call})
        content = [_content(part) for part in turn.parts if isinstance(part, Text | Picture)]
        calls = [_call(part) for part in turn.parts if isinstance(part, Call)]
        if content or calls:
            words = [part["text"] for part in content if part["type"] == "text"]
            said = "".join(words) if len(words) == len(content) else content
            message = {"role": ROLES[turn.by], "content": said or None}
            messages.append({**message, "tool_calls": calls} if calls else message)
    return messages


def _content(part: Text | Picture) -> dict[str, Any]:
    if isinstance(part, Picture):
        return {"type": "image_url", "image_url": {"url": part.url}}
    return {"type": "text", "text": part.text}


def _call(part: Call) -> dict[str, Any]:
    function = {"name": part.tool, "arguments": json.dumps(part.arguments)}
    return {"id": part.id, "type": "function", "function": function}


def _tool(tool: Tool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": tool.name, "description": tool.purpose, "parameters": tool.inputs}}


# ------------------------------------------------------------------------------------------------ what comes back


def answer_of(reply: Reply) -> Answer:
    """Return the whole answer. A call that is not whole is no call."""
    parts: list[Part] = [Thought(reply.reasoning)] if reply.reasoning else []
    parts += [Text(reply.content)] if reply.content else []
    parts += [Call(call.id, call.name, call.args) for call in reply.tool_calls]
    tokens = (reply.usage.prompt_tokens, reply.usage.completion_tokens) if reply.usage else None
    unusable = [f"{call.name}: {call.error}" for call in reply.invalid_tool_calls]
    return Answer(Turn("model", parts), reply.model, tokens, reply.finish_reason, unusable)


def pieces_of(delta: Delta) -> Iterator[Piece]:
    """Return what a delta adds; calls come when they are whole."""
    if isinstance(delta, Restart):
        yield Void()
    if delta.reasoning:
        yield Thought(delta.reasoning)
    if delta.content:
        yield Text(delta.content)


@contextmanager
def failing_as_the_framework_does() -> Iterator[None]:
    """Raise the framework's error; its cause has kind, scope and attempts."""
    try:
        yield
    except APIError as error:
        raise ModelFailed(str(error), error.partial, again=error.retry is Retry.HERE) from error
    except ChutesError as error:  # refused here, or all members failed
        raise ModelFailed(str(error), "", again=False) from error


# ------------------------------------------------------------------------------------------------------- the faces


class _Face:
    def __init__(self, model: str | None, defaults: Mapping[str, Any]) -> None:
        self._fixed = {**({"model": model} if model else {}), **defaults}  # a fallback's members have their names

    def _params(self, tools: Sequence[Tool], settings: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._fixed, "tools": [_tool(tool) for tool in tools], **settings}


class ThirdModel(_Face):
    """The framework's model, blocking: one model of a client, or a fallback."""

    def __init__(self, client: Client, model: str | None = None, **defaults: Any) -> None:
        super().__init__(model, defaults)
        self._client = client

    def answer(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Answer:
        with failing_as_the_framework_does():
            return answer_of(self._client.chat(messages_of(turns), **self._params(tools, settings)))

    def pieces(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Iterator[Piece]:
        with failing_as_the_framework_does():
            with self._client.stream(messages_of(turns), **self._params(tools, settings)) as stream:
                for delta in stream:
                    yield from pieces_of(delta)
            yield answer_of(stream.reply)


class AsyncThirdModel(_Face):
    """The framework's model on an event loop."""

    def __init__(self, client: AsyncClient, model: str | None = None, **defaults: Any) -> None:
        super().__init__(model, defaults)
        self._client = client

    async def answer(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> Answer:
        with failing_as_the_framework_does():
            return answer_of(await self._client.chat(messages_of(turns), **self._params(tools, settings)))

    async def pieces(self, turns: Sequence[Turn], tools: Sequence[Tool] = (), **settings: Any) -> AsyncIterator[Piece]:
        with failing_as_the_framework_does():
            async with self._client.stream(messages_of(turns), **self._params(tools, settings)) as stream:
                async for delta in stream:
                    for piece in pieces_of(delta):
                        yield piece
            yield answer_of(stream.reply)
