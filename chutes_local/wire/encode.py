"""The JSON on the wire: complete replies and stream chunks, as SGLang and vLLM write them behind Chutes.

An answer is a sequence of :class:`Frame`, which knows nothing of JSON; an :class:`Encoder` writes each as an
event, and :func:`whole` writes all of them as one reply.

>>> frame = Frame("content", text="Hi", usage=Usage(3, 1))
>>> Encoder("Qwen/Qwen3-32B-TEE", "sglang", created=0).chunk(frame)["choices"][0]["delta"]["content"]
'Hi'
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chutes_local.wire.errors import compact

FrameKind = Literal["role", "content", "reasoning", "tool", "finish", "usage"]
DONE = b"data: [DONE]\n\n"
END_TOKEN = 151645
VISIBLE = frozenset({"content", "tool"})
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens so far; ``completion`` includes ``reasoning``."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0

    def as_json(self) -> Json:
        """Return the usage with reasoning tokens at the top level, where SGLang puts them."""
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "prompt_tokens_details": None,
            "reasoning_tokens": self.reasoning,
        }


@dataclass(frozen=True, slots=True)
class ToolPart:
    """A fragment of one tool call; only the first has a ``name``."""

    index: int
    call_id: str
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """One step of an answer, before it becomes bytes."""

    kind: FrameKind
    index: int = 0
    text: str = ""
    tool: ToolPart | None = None
    finish: str | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def visible(self) -> bool:
        """Whether a user would see it: text or tool JSON, not role, reasoning, finish or usage."""
        return self.kind in VISIBLE


def new_id() -> str:
    """Return an id for a reply or a call: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Encoder:
    """Writes frames as the events of one stream; ``renew()`` makes it act as another machine."""

    def __init__(
        self, model: str, engine: str, *, reasoning_key: str = "reasoning_content", created: int | None = None
    ) -> None:
        """Write for ``model`` in the dialect of ``engine``."""
        self.model = model
        self.engine = engine
        self.reasoning_key = reasoning_key
        self.created = int(time.time()) if created is None else created
        self.continuous = True
        self.with_usage = True
        self.calls: dict[str, str] = {}
        self.renew()

    def renew(self) -> None:
        """Take a new id, and use new ids for tool calls from now on."""
        self.ident = new_id()
        self.verification = new_id()
        self.calls = {}

    def call_id(self, wanted: str) -> str:
        """Return the id of a tool call, stable within one machine's answer."""
        return self.calls.setdefault(wanted, f"call_{secrets.token_hex(12)}")

    def event(self, frame: Frame) -> bytes:
        """Write one frame as bytes; none for a usage frame when usage is withheld."""
        if frame.kind == "usage" and not self.with_usage:
            return b""
        return b"data: " + compact(self.chunk(frame)) + b"\n\n"

    def chunk(self, frame: Frame) -> Json:
        """Write one frame as a chunk."""
        shows_usage = self.with_usage and (self.continuous or frame.kind == "usage")
        return {
            "id": self.ident,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [] if frame.kind == "usage" else [self._choice(frame)],
            "usage": frame.usage.as_json() if shows_usage else None,
            "chutes_verification": self.verification,
        }

    def _choice(self, frame: Frame) -> Json:
        stop = "matched_stop" if self.engine == "sglang" else "stop_reason"
        return {
            "index": frame.index,
            "delta": self._delta(frame),
            "logprobs": None,
            "finish_reason": frame.finish,
            stop: self.stopped_by(frame.finish),
        }

    def stopped_by(self, finish: str | None) -> int | None:
        """Return what ended an answer: SGLang names the token, vLLM only a stop string."""
        return END_TOKEN if self.engine == "sglang" and finish in ("stop", "tool_calls") else None

    def _delta(self, frame: Frame) -> Json:
        given: Json = {}
        if frame.kind == "role":
            given = {"role": "assistant", "content": ""}
        elif frame.kind == "content":
            given = {"content": frame.text}
        elif frame.kind == "reasoning":
            given = {self.reasoning_key: frame.text}
        elif frame.tool:
            given = {"tool_calls": [self._tool(frame.tool)]}
        if self.engine != "sglang":
            return given
        # SGLang writes every key of the delta, null where there is nothing.
        return {"role": None, "content": None, self.reasoning_key: None, "tool_calls": None, **given}

    def _tool(self, part: ToolPart) -> Json:
        function: Json = {"name": part.name, "arguments": part.arguments}
        first = (
            {"id": self.call_id(part.call_id), "type": "function"} if part.name else {"id": None, "type": "function"}
        )
        return {"index": part.index, **first, "function": function}


class TextEncoder(Encoder):
    """The encoder for ``/v1/completions``."""

    def chunk(self, frame: Frame) -> Json:
        """Write one frame as a chunk of plain text."""
        return {**super().chunk(frame), "object": "text_completion"}

    def event(self, frame: Frame) -> bytes:
        """Write one frame as bytes; plain text has no role event."""
        return b"" if frame.kind == "role" else super().event(frame)

    def _choice(self, frame: Frame) -> Json:
        return {"index": frame.index, "text": frame.text, "logprobs": None, "finish_reason": frame.finish}


def whole(frames: Sequence[Frame], encoder: Encoder) -> Json:
    """Build a complete chat reply, as the service answers without ``stream``.

    >>> frames = [Frame("content", text="Hi"), Frame("finish", finish="stop"), Frame("usage")]
    >>> whole(frames, Encoder("m", "sglang"))["choices"][0]["message"]["content"]
    'Hi'
    """
    usage = frames[-1].usage if frames else Usage()
    return {
        "id": encoder.ident,
        "object": "chat.completion",
        "created": encoder.created,
        "model": encoder.model,
        "choices": [_whole_choice(i, frames, encoder) for i in sorted({f.index for f in frames})],
        "usage": usage.as_json(),
        "metadata": {"weight_version": "default"},
        "chutes_verification": encoder.verification,
        "prompt_sha256": secrets.token_hex(32),
    }


def whole_text(frames: Sequence[Frame], encoder: Encoder) -> Json:
    """Build a complete reply of ``/v1/completions``."""
    reply = whole(frames, encoder)
    choices = [
        {
            "index": choice["index"],
            "text": choice["message"]["content"] or "",
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for choice in reply["choices"]
    ]
    return {**reply, "object": "text_completion", "choices": choices}


def _whole_choice(index: int, frames: Sequence[Frame], encoder: Encoder) -> Json:
    mine = [frame for frame in frames if frame.index == index]
    content = "".join(f.text for f in mine if f.kind == "content")
    reasoning = "".join(f.text for f in mine if f.kind == "reasoning")
    calls = _whole_calls(mine, encoder)
    finish = next((f.finish for f in mine if f.kind == "finish"), None)
    message: Json = {
        "role": "assistant",
        "content": content or (None if calls else ""),
        encoder.reasoning_key: reasoning or None,
        "tool_calls": calls or None,
    }
    stop = "matched_stop" if encoder.engine == "sglang" else "stop_reason"
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": finish,
        stop: encoder.stopped_by(finish),
    }


def _whole_calls(frames: Sequence[Frame], encoder: Encoder) -> list[Json]:
    calls: dict[int, ToolPart] = {}
    for part in (frame.tool for frame in frames if frame.tool):
        known = calls.get(part.index)
        calls[part.index] = replace(known, arguments=known.arguments + part.arguments) if known else part
    return [
        {
            "id": encoder.call_id(part.call_id),
            "index": part.index,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in calls.values()
    ]
