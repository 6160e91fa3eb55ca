"""Convert the content blocks of any provider to the parts that the service accepts.

Frameworks have had several formats for images, and stored histories contain other providers'. All are converted to
``image_url`` or ``video_url``; unsupported content is refused by name, and nothing is dropped silently.

>>> content_parts([{"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}])
[{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,iVBORw0KGgo='}}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from chutes_core.errors import RequestRefusedError

__all__ = ["content_parts", "joined_text", "reasoning_text"]

Part = dict[str, object]
Block = str | Mapping[str, object]

# These repeat what a message has beside its content, which is what is sent.
_SAID_ELSEWHERE = frozenset(
    {
        "tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "function_call", "input_json_delta",
        "reasoning", "thinking", "redacted_thinking", "reasoning_content",
    }
)  # fmt: skip
_MAGIC = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}


def content_parts(content: str | Iterable[Block]) -> list[Part]:
    """Translate the content of a message part by part.

    Raises:
        RequestRefusedError: The service does not support a part, or the part is incomplete.
    """
    if isinstance(content, str):
        return [_text(content)] if content else []
    return [part for block in content for part in _parts(block)]


def joined_text(parts: Iterable[Part], between: str = "") -> str:
    """Join text parts: most were one text before they were split into blocks."""
    return between.join(str(part["text"]) for part in parts if part["type"] == "text")


def reasoning_text(content: str | Iterable[Block]) -> str:
    """Return the reasoning in the blocks of a message.

    >>> reasoning_text([{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Yes."}])
    'Hm.'
    """
    if isinstance(content, str):
        return ""
    mappings = (block for block in content if isinstance(block, Mapping))
    texts = (block.get(str(block["type"])) for block in mappings if block.get("type") in ("reasoning", "thinking"))
    return "".join(text for text in texts if isinstance(text, str))


def _text(text: object) -> Part:
    return {"type": "text", "text": str(text)}


def _parts(block: Block) -> list[Part]:
    if isinstance(block, str):
        return [_text(block)] if block else []
    kind = block.get("type")
    if kind in ("text", "input_text", "output_text", "text-plain") or (kind is None and "text" in block):
        if isinstance(text := block.get("text"), str):
            return [_text(text)] if text else []
        raise RequestRefusedError(f"A {kind!r} block has no text: give its text in 'text'.")
    if kind in ("image", "video"):
        return [_medium(str(kind), _address(str(kind), block), block.get("detail"))]
    if kind in ("image_url", "video_url", "input_image"):
        return [_addressed(str(kind), block)]
    if kind == "non_standard" and isinstance(value := block.get("value"), Mapping):
        return _parts(value)
    if kind == "tool_result":  # Anthropic's format, inside a tool message
        return content_parts(cast("str | list[Block]", block.get("content") or ""))
    if kind == "refusal":
        return [_text(block.get("refusal", ""))]
    if kind in _SAID_ELSEWHERE:
        return []
    if kind in ("file", "document", "input_file", "file_url"):
        return [_file(block)]
    if kind in ("audio", "input_audio", "audio_url"):
        raise RequestRefusedError("Chutes takes no audio in a chat: send its transcript as text.")
    if not isinstance(kind, str):
        raise RequestRefusedError(
            f"A content block has no 'type', only {', '.join(map(repr, block)) or 'nothing'}: say what it is, as in "
            "{'type': 'text', 'text': ...}."
        )
    # Newer than this library or provider-specific: let the service decide.
    return [dict(block)]


def _medium(kind: str, url: str, detail: object = None) -> Part:
    holder: Part = {"url": url}
    if detail is not None:
        holder["detail"] = detail
    return {"type": f"{kind}_url", f"{kind}_url": holder}


def _addressed(kind: str, block: Mapping[str, object]) -> Part:
    """Read OpenAI's formats: a URL in a dict or bare, and the Responses API format."""
    name = "video" if kind == "video_url" else "image"
    holder = block.get("image_url" if kind == "input_image" else kind)
    url = holder.get("url") if isinstance(holder, Mapping) else holder
    if not isinstance(url, str) or not url:
        raise RequestRefusedError(f"A {kind!r} block has no address: {{'type': '{kind}', '{kind}': {{'url': ...}}}}.")
    detail = holder.get("detail") if isinstance(holder, Mapping) else block.get("detail")
    return _medium(name, url, detail)


def _address(kind: str, block: Mapping[str, object]) -> str:
    """Return the URL of an image or video, or a data URL of its bytes, from any of LangChain's formats."""
    if isinstance(source := block.get("source"), Mapping):  # Anthropic's
        data, mime = source.get("data"), source.get("media_type")
        url = source.get("url")
    else:
        url, mime = block.get("url"), block.get("mime_type")
        data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if isinstance(url, str) and url:
        return url
    if isinstance(data, bytes | bytearray):
        raise RequestRefusedError(f"The bytes of a block of type {kind!r} must be given as base64 text.")
    if isinstance(data, str) and data:
        return f"data:{mime or _guess(kind, data)};base64,{data}"
    if isinstance(holder := block.get(kind), Mapping | str):  # vLLM's {"type": "image", "image": ...}
        found = holder.get("url") if isinstance(holder, Mapping) else holder
        if isinstance(found, str) and found:
            return found
    what = "a file id, and Chutes keeps no files" if block.get("file_id") or block.get("id") else "no data"
    raise RequestRefusedError(f"A block of type {kind!r} has {what}: give its 'url', or its 'base64' and 'mime_type'.")


def _guess(kind: str, data: str) -> str:
    found = next((mime for start, mime in _MAGIC.items() if data.startswith(start)), None)
    if kind != "image" or found is None:
        example = "image/png" if kind == "image" else "video/mp4"
        raise RequestRefusedError(f"The base64 of a block of type {kind!r} needs its 'mime_type', such as {example!r}.")
    return found


def _file(block: Mapping[str, object]) -> Part:
    """Accept a text file; refuse any other."""
    source = block.get("source")
    text = block.get("text")
    if isinstance(source, Mapping) and source.get("type") == "text":
        text = source.get("data")
    if isinstance(text, str):
        return _text(text)
    raise RequestRefusedError("Chutes takes no files: send the file's text, or its pages as images.")
