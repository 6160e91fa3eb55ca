"""What the server says: bytes that are made once, chosen by the model that is asked for.

``bench/500`` answers in 500 chunks and ``bench/think-500`` thinks for the first half of them. ``bench/paced-30-100``
says when each of its 30 chunks was sent, one every 100 ms. ``bench/form-1`` fills a form with :data:`PERSON`, and
whoever gives tools gets a call of the tool ``Person``.
"""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Mapping
from functools import lru_cache

from chutes_core.testing import Answer

CHUNKS = 500
READ = 1400  # about what one packet carries
PERSON = {"name": "Ada Lovelace", "age": 36, "city": "London", "about": "She wrote the first program. " * 30}
_MORE = {"system_fingerprint": None}  # one of the peers insists on it


def text_of(chunks: int) -> str:
    """The whole answer of ``bench/<chunks>``."""
    # All of one length, and no two in a row the same: one of the peers takes repetition for a fault.
    return "".join(f"{1000 + number % 9000} " for number in range(chunks))


def _answer(model: str, *, tools: bool) -> Answer:
    *kind, size = model.removeprefix("bench/").split("-")
    pieces = int(size)
    if tools:
        return Answer("", tool_calls=[("Person", PERSON)], pieces=pieces)
    if kind == ["form"]:
        return Answer(json.dumps(PERSON))
    if kind == ["think"]:
        return Answer(text_of(pieces // 2), reasoning=text_of(pieces // 2), pieces=pieces // 2)
    return Answer(text_of(pieces), pieces=pieces)


def _head(kind: str, length: int | None) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {kind}", "X-Chutes-InvocationId: bench", size]
    return "\r\n".join([*lines, "", ""]).encode()


def reply(content: bytes, kind: str = "application/json") -> bytes:
    """A reply in one piece."""
    return _head(kind, len(content)) + content


def http_chunk(content: bytes) -> bytes:
    """One part of a body whose length is not known beforehand."""
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


STREAM_HEAD = _head("text/event-stream", None)
STREAM_END = http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def event(chunk: Mapping[str, object]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps({**chunk, **_MORE}, separators=(",", ":")).encode() + b"\n\n"


@lru_cache(maxsize=64)
def plain(model: str, tools: bool) -> bytes:
    """The body of an answer in one piece."""
    return json.dumps({**_answer(model, tools=tools).body(model), **_MORE}).encode()


@lru_cache(maxsize=64)
def chunks(model: str, tools: bool) -> tuple[Mapping[str, object], ...]:
    """The chunks of a streamed answer."""
    return tuple(_answer(model, tools=tools).chunks(model))


@lru_cache(maxsize=64)
def whole(model: str, tools: bool) -> bytes:
    """A reply in one piece."""
    return reply(plain(model, tools))


@lru_cache(maxsize=64)
def stream(model: str, tools: bool) -> tuple[bytes, ...]:
    """A stream, in the reads that it comes in."""
    return reads(b"".join(map(event, chunks(model, tools))))


def reads(body: bytes) -> tuple[bytes, ...]:
    """A streamed body, in the reads that it comes in."""
    parts = [http_chunk(body[start : start + READ]) for start in range(0, len(body), READ)]
    parts[0] = STREAM_HEAD + parts[0]
    parts[-1] += STREAM_END
    return tuple(parts)


@lru_cache(maxsize=8)
def paced_parts(model: str) -> tuple[bytes, bytes, bytes, bytes]:
    """The opening of a paced stream, what stands before and after the time in each chunk, and its end."""
    opening, first, *_, closing, usage = Answer(text_of(3), pieces=3).chunks(model)
    before, after = event(first).split(text_of(1).encode(), 1)
    return (
        STREAM_HEAD + http_chunk(event(opening)),
        before,
        after,
        http_chunk(event(closing) + event(usage)) + STREAM_END,
    )


@lru_cache(maxsize=8)
def _vector(dimensions: int, plain: bool) -> str:
    numbers = [math.sin(position + 1.0) / 8 for position in range(dimensions)]
    packed = array("f", numbers)
    return json.dumps(packed.tolist()) if plain else json.dumps(base64.b64encode(packed.tobytes()).decode())


@lru_cache(maxsize=8)
def embeddings(count: int, dimensions: int, plain: bool) -> bytes:
    """The vectors of so many texts."""
    vector = _vector(dimensions, plain)
    rows = ",".join(f'{{"object":"embedding","index":{n},"embedding":{vector}}}' for n in range(count))
    usage = f'{{"prompt_tokens":{count},"total_tokens":{count}}}'
    return reply(f'{{"object":"list","model":"bench/{dimensions}","data":[{rows}],"usage":{usage}}}'.encode())
