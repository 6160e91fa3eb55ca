"""A machine at the other end, and the words of a streamed answer as it would send them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from chutes_core.e2ee.frames import FrameReader
from chutes_core.e2ee.seal import ReplyKey, seal
from chutes_local.wire.seal import MachineKey, ReplySeal, event

WORDS = ["The", " walrus", " said", " nothing", "."]


@lru_cache(maxsize=1)
def machine() -> MachineKey:
    """One machine for all tests: a key pair is nothing that a test could use up."""
    return MachineKey()


def asked(body: bytes = b'{"model":"m"}') -> tuple[ReplyKey, ReplySeal]:
    """Seal a request and let the machine open it: the two ends of one reply."""
    sealed = seal(machine().public, body)
    return sealed.key, machine().open(sealed.blob)[1]


def chunk(text: str, count: int, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "acme/sea-TEE",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": count, "total_tokens": 3 + count},
    }


def plain_events(words: list[str] = WORDS) -> list[bytes]:
    """The events inside: one for each word, the end, and the end marker."""
    chunks = [chunk(word, count) for count, word in enumerate(words, 1)]
    chunks.append(chunk("", len(words), "stop"))
    return [b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks] + [b"data: [DONE]\n\n"]


def sealed_lines(reply: ReplySeal, events: list[bytes] | None = None) -> list[bytes]:
    """The outer stream, in parts: the beginning, then for each event its usage and its frame."""
    lines = [reply.begin()]
    for plain in plain_events() if events is None else events:
        if plain.startswith(b"data: {"):
            lines.append(event({"usage": json.loads(plain[6:])["usage"]}))
        lines.append(reply.frame(plain))
    return lines


def text_of(plain: bytes) -> str:
    """Join the words of plain events."""
    found = ""
    for line in plain.splitlines():
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices")
            found += (choices[0]["delta"].get("content") or "") if choices else ""
    return found


def read(key: ReplyKey, blocks: list[bytes], **how: Any) -> bytes:
    """Read a whole stream."""
    reader = FrameReader(key, **how)
    plain = b"".join(reader.feed(block) for block in blocks)
    reader.close()
    return plain
