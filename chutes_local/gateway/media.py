r"""A chute that draws and one that speaks: no models, but real PNG and WAV files that follow from the words.

>>> drawing("a red square", 16, 16)[:4], spoken("hello")[:4]
(b'\x89PNG', b'RIFF')
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import wave
import zlib

from starlette.responses import Response

from chutes_local.faults.kinds import Fault
from chutes_local.gateway.inference import Call
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import Chute

_SIDE, _SIDES = 64, range(16, 513)
_RATE, _LETTER, _LONGEST = 8_000, 400, 200
"""Samples in a second and for a letter, and the most letters that are spoken."""


async def draw(call: Call, chute: Chute, fault: Fault | None) -> Response:
    """``POST /generate``: a picture of ``width`` by ``height`` for a ``prompt``."""
    prompt = _text(call, "prompt")
    picture = drawing(prompt, *(_side(call, name) for name in ("width", "height")))
    return _given(call, chute, picture, "image/png")


async def speak(call: Call, chute: Chute, fault: Fault | None) -> Response:
    """``POST /speak``: the sound of a ``text``."""
    return _given(call, chute, spoken(_text(call, "text")), "audio/wav")


def drawing(prompt: str, width: int, height: int) -> bytes:
    """Return a PNG that fades from one colour of the prompt to another."""
    colours = hashlib.sha256(prompt.encode()).digest()
    first, second = colours[:3], colours[3:6]
    rows = bytearray()
    for y in range(height):
        pixel = bytes((a * (height - y) + b * y) // height for a, b in zip(first, second, strict=True))
        rows += b"\0" + pixel * width
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def spoken(text: str) -> bytes:
    """Return a WAV with a tone for each letter, and silence for all else."""
    samples = bytearray()
    for letter in text[:_LONGEST]:
        pitch = 200 + 8 * (ord(letter) % 64) if letter.isalnum() else 0
        for place in range(_LETTER):
            samples += struct.pack("<h", int(8_000 * math.sin(2 * math.pi * pitch * place / _RATE)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(samples)
    return file.getvalue()


def _text(call: Call, name: str) -> str:
    value = call.body.get(name)
    if not isinstance(value, str) or not value:
        raise _wrong(name, "Field required" if value is None else "Input should be a text that is not empty")
    return value


def _side(call: Call, name: str) -> int:
    value = call.body.get(name, _SIDE)
    if not isinstance(value, int) or value not in _SIDES:
        raise _wrong(name, f"Input should be a whole number from {_SIDES[0]} to {_SIDES[-1]}")
    return value


def _wrong(name: str, said: str) -> Refused:
    return Refused(errors.detail(422, [{"loc": ["body", name], "msg": said, "type": "value_error"}]))


def _given(call: Call, chute: Chute, content: bytes, media_type: str) -> Response:
    call.bill(chute, 0, 0)
    return Response(content, headers=call.reply_headers(), media_type=media_type)
