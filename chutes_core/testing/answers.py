"""Scripted answers, and the requests that were received."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Answer", "SentRequest"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A scripted answer.

    Attributes:
        text: The answer.
        reasoning: The reasoning before it.
        tool_calls: Pairs of a tool's name and its arguments.
        finish_reason: The finish reason; None derives it from the answer.
        pieces: How many chunks the text, the reasoning and each tool call's arguments are split into.
        reasoning_field: The engine's name for reasoning; "think" puts it into the content between tags.
        prompt_tokens: The tokens of the prompt.
        cached_tokens: How many of them were cached.
    """

    text: str = "The quick brown fox jumps over the lazy dog."
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, object]]] = ()
    finish_reason: str | None = None
    pieces: int = 4
    reasoning_field: str = "reasoning_content"
    prompt_tokens: int = 11
    cached_tokens: int = 0

    @property
    def _content(self) -> str:
        think = self.reasoning_field == "think" and self.reasoning
        return f"<think>{self.reasoning}</think>\n\n{self.text}" if think else self.text

    def deltas(self) -> list[dict[str, object]]:
        """Return the deltas of a clean stream, without the opening and closing ones."""
        steps: list[dict[str, object]] = []
        if self.reasoning and self.reasoning_field != "think":
            steps += [{self.reasoning_field: piece} for piece in _cut(self.reasoning, self.pieces)]
        steps += [{"content": piece} for piece in _cut(self._content, self.pieces)]
        for index, (name, arguments) in enumerate(self.tool_calls):
            first, *rest = _cut(json.dumps(dict(arguments)), self.pieces) or ["{}"]
            head = {"index": index, "id": f"call_{index}", "type": "function"}
            steps.append({"tool_calls": [{**head, "function": {"name": name, "arguments": first}}]})
            steps += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in rest]
        return steps

    def usage(self, completion_tokens: int) -> dict[str, object]:
        """Return the usage after ``completion_tokens`` tokens of the answer."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens} if self.cached_tokens else None,
        }

    @property
    def ending(self) -> str:
        """The finish reason."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")

    def chunks(self, model: str, *, machine: int = 0) -> list[dict[str, object]]:
        """Return the chunks of a clean stream: running usage on each, and once more at the end."""
        base = {
            "id": f"chatcmpl-{machine}",
            "object": "chat.completion.chunk",
            "created": 1_780_000_000,
            "model": model,
        }

        def chunk(delta: Mapping[str, object], tokens: int, finish: str | None = None) -> dict[str, object]:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "matched_stop": None}
            return {**base, "choices": [choice], "usage": self.usage(tokens), "chutes_verification": "0" * 32}

        deltas = self.deltas()
        steps = [chunk({"role": "assistant", "content": ""}, 0)]
        steps += [chunk({"role": None, **delta}, tokens) for tokens, delta in enumerate(deltas, 1)]
        steps.append(chunk({"role": None, "content": None}, len(deltas), self.ending))
        return [*steps, {**base, "choices": [], "usage": self.usage(len(deltas))}]

    def body(self, model: str) -> dict[str, object]:
        """Return the unstreamed reply."""
        message: dict[str, object] = {"role": "assistant", "content": self._content or None, "tool_calls": None}
        if self.reasoning and self.reasoning_field != "think":
            message[self.reasoning_field] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{n}",
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(dict(given))},
                }
                for n, (name, given) in enumerate(self.tool_calls)
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.ending}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 1_780_000_000,
            "model": model,
            "choices": [choice],
            "usage": self.usage(len(self.deltas())),
        }


def _cut(text: str, pieces: int) -> list[str]:
    size = max(-(-len(text) // max(pieces, 1)), 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A received request, without the key."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: Mapping[str, object]

    @property
    def model(self) -> str:
        """The requested model string."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether a stream was requested."""
        return bool(self.body.get("stream"))
