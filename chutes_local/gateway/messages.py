"""Flatten the messages of a request to plain text for a small model, with the gateway's own checks.

>>> flatten([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]).messages
[{'role': 'user', 'content': 'Hi'}]
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.wire.read import read_json

ROLES = ("system", "user", "assistant", "tool", "developer")
MEDIA = ("image_url", "video_url", "image", "video")
MAX_REMOTE = 8

Message = Mapping[str, object]


@dataclass(slots=True)
class Flat:
    """Messages as plain text, and one line about each image or video in them."""

    messages: list[dict[str, str]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    remote: int = 0


def flatten(messages: Sequence[Message]) -> Flat:
    """Turn every message into a role and a text."""
    flat = Flat()
    for message in messages:
        role = str(message.get("role"))
        text = _text(message.get("content"), flat, needed=role != "assistant")
        if role == "tool":
            name = message.get("name") or "the tool"
            flat.messages.append({"role": "user", "content": f"Result of {name}: {text}"})
            continue
        calls = message.get("tool_calls")
        if isinstance(calls, list) and calls:
            text = "\n".join(filter(None, [text, *map(_call_text, calls)]))
        flat.messages.append({"role": "system" if role == "developer" else role, "content": text})
    if flat.remote > MAX_REMOTE:
        raise Refused(errors.detail(400, f"Exceeded maximum image URLs per request: {flat.remote}"))
    return flat


def check_history(messages: Sequence[Message]) -> None:
    """Refuse an assistant message whose tool arguments are not JSON, as the gateway does."""
    for message in messages:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, Mapping):
                raise Refused(errors.engine_400("messages: tool_calls must be a list of objects"))
            function = call.get("function")
            arguments = function.get("arguments") if isinstance(function, Mapping) else None
            try:
                # The gateway rewrites "" to "null" before the check.
                read_json((arguments or "null").encode()) if isinstance(arguments, str) else None
            except ValueError as error:
                raise Refused(errors.detail(400, errors.BAD_ARGUMENTS)) from error


def check_files(messages: Sequence[Message]) -> None:
    """Refuse file parts."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") in ("file", "file_url"):
                raise Refused(errors.detail(400, errors.NO_FILES))


def check_roles(messages: Sequence[Message], *, developer: bool, strict_system: bool) -> None:
    """Refuse what chat templates refuse: unknown roles, and for some models a system message that is not first."""
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES or (role == "developer" and not developer):
            raise Refused(errors.engine_400(f"Unexpected message role: {role}"))
        if strict_system and role == "system" and place > 0:
            raise Refused(errors.engine_400("System message must be at the beginning."))


def _text(content: object, flat: Flat, *, needed: bool) -> str:
    """Return the text of a content; refuse, as engines do, what is none."""
    if isinstance(content, str):
        return content
    if content is None and not needed:
        return ""
    if not isinstance(content, list):
        raise Refused(errors.engine_400("messages: content must be a text or a list of parts"))
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in MEDIA:
            medium = "video" if kind.startswith("video") else "image"
            flat.kinds.add(medium)
            flat.media.append(_describe(medium, part.get(kind), flat))
        else:
            raise Refused(
                errors.engine_400(f"Unknown part type: {kind}" if kind != "text" else "a text part has no text")
            )
    return "\n".join(texts)


def _call_text(call: Mapping[str, object]) -> str:
    function = call.get("function")
    if not isinstance(function, Mapping):
        return ""
    return f"I call {function.get('name')} with {function.get('arguments') or '{}'}"


def _describe(medium: str, value: object, flat: Flat) -> str:
    """Describe an image or video without seeing it: its origin, format, size and pixels."""
    plain = isinstance(value, str)
    url = str(value.get("url", "")) if isinstance(value, Mapping) else str(value)
    if not url.startswith("data:"):
        _check_remote(url, plain)
        flat.remote += 1
        return f"a remote {medium}, which the local server does not fetch"
    header, _, payload = url.partition(",")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(errors.detail(400, f"Invalid image URL: {error}")) from error
    media_type = header.removeprefix("data:").split(";")[0] or "unknown type"
    pixels = pixel_size(data)
    size = f", {pixels[0]} x {pixels[1]} pixels" if pixels else ""
    return f"{media_type}{size}, {len(data)} bytes"


def _check_remote(url: str, plain: bool) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(errors.detail(400, f"Invalid image URL: {error}")) from error
    if parts.scheme not in ("http", "https"):
        raise Refused(
            errors.detail(400, f"Only HTTP(s) URLs are supported for images: {parts.scheme} is not supported")
        )
    ports = (None, 443) if plain else (None, 80, 443)
    if (plain and parts.scheme != "https") or port not in ports:
        raise Refused(errors.detail(400, f"Failed to fetch {url}: scheme or port not allowed"))


def pixel_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height from a PNG or GIF header.

    >>> pixel_size(b"GIF89a" + bytes([2, 0, 3, 0]))
    (2, 3)
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:4] == b"GIF8" and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width, height
    return None
