"""Content blocks in every form that LangChain and other providers have given them."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core import RequestRefusedError
from chutes_core.request.content import content_parts

PNG = "iVBORw0KGgoAAAANSUhEUgAA"
URI = f"data:image/png;base64,{PNG}"
WEB = "https://example.com/cat.png"


def image(url: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url, **more}}]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"type": "image", "url": WEB}, image(WEB)),
        ({"type": "image", "base64": PNG, "mime_type": "image/png"}, image(URI)),
        ({"type": "image", "base64": PNG}, image(URI)),
        ({"type": "image", "source_type": "url", "url": WEB}, image(WEB)),
        ({"type": "image", "source_type": "base64", "data": PNG, "mime_type": "image/png"}, image(URI)),
        ({"type": "image", "source": {"type": "url", "url": WEB}}, image(WEB)),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}, image(URI)),
        ({"type": "image", "image": WEB}, image(WEB)),
        ({"type": "image_url", "image_url": {"url": WEB, "detail": "low"}}, image(WEB, detail="low")),
        ({"type": "image_url", "image_url": WEB}, image(WEB)),
        ({"type": "input_image", "image_url": WEB, "detail": "high"}, image(WEB, detail="high")),
        ({"type": "non_standard", "value": {"type": "image_url", "image_url": WEB}}, image(WEB)),
        ({"type": "video", "url": WEB}, [{"type": "video_url", "video_url": {"url": WEB}}]),
        (
            {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"},
            [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}],
        ),
        ({"type": "video_url", "video_url": {"url": WEB}}, [{"type": "video_url", "video_url": {"url": WEB}}]),
    ],
)
def test_images_and_videos_of_every_form_become_addresses(block: Any, parts: list[dict[str, Any]]) -> None:
    """Whatever the form, the service gets an address or a data: URI."""
    assert content_parts([block]) == parts


@pytest.mark.parametrize(
    "block",
    [
        "hello",
        {"type": "text", "text": "hello", "id": "1", "annotations": [], "index": 0},
        {"text": "hello"},
        {"type": "input_text", "text": "hello"},
        {"type": "text-plain", "text": "hello", "mime_type": "text/plain"},
        {"type": "file", "source_type": "text", "text": "hello"},
        {"type": "document", "source": {"type": "text", "data": "hello", "media_type": "text/plain"}},
        {"type": "refusal", "refusal": "hello"},
        {"type": "tool_result", "tool_use_id": "1", "content": "hello"},
    ],
)
def test_text_of_every_form_becomes_text(block: Any) -> None:
    """Text is text, without what only other services read."""
    assert content_parts([block]) == [{"type": "text", "text": "hello"}]


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"type": "file", "base64": "JVBERi0=", "mime_type": "application/pdf"}, "takes no files"),
        ({"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}, "takes no files"),
        ({"type": "file", "file_id": "file-1"}, "takes no files"),
        ({"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}, "no audio"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "no audio"),
        ({"type": "image", "file_id": "file-1"}, "keeps no files"),
        ({"type": "image", "base64": "AAAA"}, "image/png"),
        ({"type": "video", "base64": "AAAA"}, "video/mp4"),
        ({"type": "image", "base64": b"png"}, "base64 text"),
        ({"type": "image"}, "no data"),
        ({"type": "image_url", "image_url": {}}, "no address"),
        ({"type": "text"}, "has no text"),
        (
            {"image_url": {"url": "https://example.org/a.png"}, "detail": "low"},
            "has no 'type', only 'image_url', 'detail'",
        ),
        ({}, "has no 'type', only nothing"),
    ],
)
def test_what_the_service_cannot_take_is_refused_by_name(block: Any, why: str) -> None:
    """Nothing is dropped in silence: the message says what is wrong and what to do."""
    with pytest.raises(RequestRefusedError, match=why):
        content_parts([block])


def test_an_unknown_block_is_left_to_the_service() -> None:
    """What is newer than this library goes through as it is."""
    block = {"type": "hologram", "hologram": {"data": "AAAA"}}
    assert content_parts([block]) == [block]
