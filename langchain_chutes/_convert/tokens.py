"""Estimates of how many tokens a request has, without a tokenizer or a network call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage

from chutes_core.tokens import estimate_tokens
from langchain_chutes._convert.messages import request_messages
from langchain_chutes._convert.tools import Tool, tool_params

__all__ = ["estimate_message_tokens"]

# The gateway downscales images to 1,024 pixels; one of that size takes about this many tokens.
_PER_IMAGE = 1_200
_PER_MESSAGE = 4


def estimate_message_tokens(messages: Sequence[BaseMessage], tools: Sequence[Tool] | None = None) -> int:
    """Estimate the tokens in a request: texts, tool calls, images and tool specifications."""
    total = estimate_tokens(json.dumps(tool_params(tools), ensure_ascii=False)) if tools else 0
    for message in request_messages(messages):
        content: Any = message.get("content") or ""
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            total += estimate_tokens(part["text"]) if part.get("type") == "text" else _PER_IMAGE
        if calls := message.get("tool_calls"):
            total += estimate_tokens(json.dumps(calls, ensure_ascii=False))
        total += _PER_MESSAGE
    return total
