"""Estimates of tokens."""

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_chutes._convert.tokens import estimate_message_tokens


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
