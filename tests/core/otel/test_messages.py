"""Messages as OpenTelemetry's conventions have them."""

from __future__ import annotations

import json

import pytest

from chutes_core.otel.messages import input_messages, output_messages
from chutes_core.response import Choice, Reply, ToolCall

CALL = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": '{"to": "Ada"}'}}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"role": "user", "content": "Hi"}, [{"type": "text", "content": "Hi"}]),
        ({"role": "user", "content": ""}, []),
        ({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, [{"type": "text", "content": "Hi"}]),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            [{"type": "uri", "modality": "image", "uri": "https://example.com/a.png"}],
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            [{"type": "blob", "modality": "image"}],
        ),
        (
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            [{"type": "tool_call", "id": "1", "name": "pay", "arguments": {"to": "Ada"}}],
        ),
        (
            {"role": "tool", "tool_call_id": "1", "content": "paid"},
            [{"type": "tool_call_response", "id": "1", "response": "paid"}],
        ),
    ],
)
def test_what_was_asked(message: dict[str, object], parts: list[object]) -> None:
    assert json.loads(input_messages([message])) == [{"role": message["role"], "parts": parts}]


def test_what_was_answered() -> None:
    call, broken = ToolCall("1", "pay", '{"to": "Ada"}'), ToolCall("2", "pay", '{"to": ')
    reply = Reply("1", "acme/one", (Choice(0, "Hi", "Hm.", (call, broken), (), None),))
    (told,) = json.loads(output_messages(reply))
    assert told["finish_reason"] == "error"
    assert [part["type"] for part in told["parts"]] == ["reasoning", "text", "tool_call", "tool_call"]
    assert [part.get("arguments") for part in told["parts"][2:]] == [{"to": "Ada"}, '{"to": ']


@pytest.mark.parametrize("odd", [None, 7, "text", []])
def test_what_is_no_list_of_messages_is_none(odd: object) -> None:
    assert json.loads(input_messages(odd if not isinstance(odd, str) else ())) == []
