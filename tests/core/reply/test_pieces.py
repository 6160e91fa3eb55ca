"""A whole reply given out as a stream reads the same as in one piece."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chutes_core.errors import APIError
from chutes_core.reply.assemble import parse_reply
from chutes_core.reply.guard import StreamGuard
from chutes_core.reply.pieces import as_events

CALL: Any = {"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": '{"amount": 1}'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def body(*messages: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    choices = [{"index": at, "message": each, "finish_reason": finish} for at, each in enumerate(messages)]
    return {"id": "1", "model": "acme/one", "created": 5, "choices": choices, "usage": USAGE, **more}


@pytest.mark.parametrize(
    "reply",
    [
        body({"role": "assistant", "content": "Hi"}),
        body({"content": "Hi", "reasoning_content": "hm"}),
        body({"content": "<think>hm</think>Hi", "reasoning_content": None, "tool_calls": None}),
        body({"content": None, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, finish="tool_calls"),
        body({"content": "I pay.", "tool_calls": [CALL]}),
        body({"content": "Hi"}, {"content": "Ho"}),
        body({"content": "Hi"}, finish="length", beyond={"a": 1}),
    ],
)
def test_it_is_the_same_reply(reply: dict[str, Any]) -> None:
    """Texts, calls, choices, usage, and fields that nobody knows."""
    choices = len(reply["choices"])
    guard = StreamGuard(model="acme/one", choices=choices)
    deltas = [*guard.feed(as_events(json.dumps(reply).encode())), *guard.close()]
    assert guard.reply == parse_reply(reply, choices=choices)
    assert "".join(delta.content for delta in deltas if delta.choice == 0) == guard.reply.content


@pytest.mark.parametrize(
    "content",
    [b"", b"no json", b"[1]", b"{}", b'{"error": {"message": "died"}}', b'{"detail": "died"}', b'{"choices": [5]}'],
)
def test_what_is_no_reply_is_an_error(content: bytes) -> None:
    """The guard judges it, as anything else that came in a stream."""
    guard = StreamGuard(model="acme/one")
    with pytest.raises(APIError):
        [*guard.feed(as_events(content)), *guard.close()]
