"""Estimates of tokens."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_chutes._tokens import estimate_message_tokens, estimate_tokens


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abcd", 1), ("abcde", 2), ("你好", 2), ("привет", 4)])
def test_a_text(text: str, tokens: int) -> None:
    """Four ASCII letters, or three bytes of anything else."""
    assert estimate_tokens(text) == tokens


def test_a_conversation_counts_all_that_is_sent() -> None:
    """Texts, calls, images and tools; the bytes of an image are not text."""
    plain = estimate_message_tokens([HumanMessage("Hello")])
    picture = {"type": "image", "base64": "iVBORw0KGgo" + "A" * 100_000, "mime_type": "image/png"}
    assert plain < 1_000 < estimate_message_tokens([HumanMessage(["Hello", picture])]) < 2_000
    calling = AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c"}])
    assert estimate_message_tokens([calling, ToolMessage("3", tool_call_id="c")]) > 2 * plain

    def add(a: int) -> int:
        """Add."""
        return a

    assert estimate_message_tokens([HumanMessage("Hello")], [add]) > plain + 10
