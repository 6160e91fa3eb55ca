"""Messages: flattened for a small model, refused where the gateway refuses."""

from __future__ import annotations

import base64
import struct

import pytest

from chutes_local.gateway.messages import check_files, check_history, check_roles, flatten
from chutes_local.wire.errors import Refused

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 64, 48)
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()


def image(url: object) -> dict[str, object]:
    return {"role": "user", "content": [{"type": "text", "text": "See?"}, {"type": "image_url", "image_url": url}]}


def call(arguments: str) -> dict[str, object]:
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}],
    }


def refused(error: pytest.ExceptionInfo[Refused]) -> tuple[int, str]:
    return error.value.answer.status, error.value.answer.body.decode()


def test_parts_calls_and_results_become_text() -> None:
    """Text parts join, tool calls and their results are told in words."""
    flat = flatten(
        [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            call('{"x": 1}'),
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42"},
        ]
    )
    assert flat.messages == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": 'I call f with {"x": 1}'},
        {"role": "user", "content": "Result of f: 42"},
    ]


def test_pictures_are_described_without_being_seen() -> None:
    """A data URI is described by format, pixels and size; a remote picture is not fetched."""
    flat = flatten([image({"url": PNG_URL}), image({"url": "https://example.com/a.png"})])
    assert flat.media == [
        f"image/png, 64 x 48 pixels, {len(PNG)} bytes",
        "a remote image, which the local server does not fetch",
    ]
    assert flat.kinds == {"image"}


@pytest.mark.parametrize(
    ("url", "phrase"),
    [
        ({"url": "ftp://example.com/a"}, "Only HTTP(s) URLs are supported for images"),
        ({"url": "http://example.com:8080/a"}, "Failed to fetch http://example.com:8080/a"),
        ("http://example.com/a", "Failed to fetch"),
        ({"url": "data:image/png;base64,???"}, "Invalid image URL"),
    ],
)
def test_pictures_the_service_would_not_fetch(url: object, phrase: str) -> None:
    """Other schemes, other ports, plain http as a bare string, and broken data are 400."""
    with pytest.raises(Refused) as error:
        flatten([image(url)])
    status, body = refused(error)
    assert status == 400
    assert phrase in body


def test_at_most_eight_remote_pictures() -> None:
    """The ninth remote picture is one too many."""
    remote = image({"url": "https://example.com/a.png"})
    assert len(flatten([remote] * 8).media) == 8
    with pytest.raises(Refused, match="Exceeded maximum image URLs per request: 9"):
        flatten([remote] * 9)


def test_broken_tool_arguments_in_the_history_are_refused() -> None:
    """Arguments that are not JSON are a 400; an empty text passes as null."""
    check_history([call("{}"), call("")])
    with pytest.raises(Refused, match=r"Invalid tool_calls\.function\.arguments value, expected JSON"):
        check_history([call('{"x": 1')])


@pytest.mark.parametrize("kind", ["file", "file_url"])
def test_file_parts_are_refused(kind: str) -> None:
    """Files are not supported."""
    with pytest.raises(Refused, match="File content not currently supported"):
        check_files([{"role": "user", "content": [{"type": kind}]}])


def test_roles_follow_the_models_template() -> None:
    """developer is for models that know it; strict templates want the system message first."""
    developer, system, user = ({"role": role, "content": "x"} for role in ("developer", "system", "user"))
    check_roles([developer], developer=True, strict_system=False)
    check_roles([user, system], developer=False, strict_system=False)
    with pytest.raises(Refused, match="Unexpected message role: developer"):
        check_roles([developer], developer=False, strict_system=False)
    with pytest.raises(Refused, match="System message must be at the beginning"):
        check_roles([user, system], developer=False, strict_system=True)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"role": "user"}, "content must be a text or a list of parts"),
        ({"role": "tool", "content": None}, "content must be"),
        ({"role": "user", "content": {"type": "text", "text": "Hi"}}, "content must be"),
        ({"role": "assistant", "content": 1}, "content must be"),
        ({"role": "user", "content": ["Hi"]}, "Unknown part type: None"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "Unknown part type: input_audio"),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "a text part has no text"),
    ],
)
def test_what_is_no_content_is_refused(message: dict[str, object], said: str) -> None:
    """As engines refuse it, rather than answered as if it were empty; an assistant that calls a tool needs none."""
    with pytest.raises(Refused) as caught:
        flatten([message])
    status, body = refused(caught)
    assert status == 400
    assert said in body
    assert flatten([{"role": "assistant", "content": None}]).messages == [{"role": "assistant", "content": ""}]
