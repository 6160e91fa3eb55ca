"""What a chute is for."""

from __future__ import annotations

import pytest

from chutes_core.catalog.kinds import KINDS, kind_of, published

WAV, MP4 = "audio/wav", "video/mp4"


@pytest.mark.parametrize(
    ("template", "paths", "kind"),
    [
        ("vllm", {}, "chat"),
        ("embedding", {"/v1/embeddings": ""}, "embedding"),
        ("diffusion", {"/generate": "image/jpeg"}, "image"),
        (None, {"/v1/chat/completions": "", "/v1/completions": ""}, "chat"),
        (None, {"/generate": "image/png"}, "image"),
        (None, {"/speak": WAV}, "speech"),
        ("other", {"/v1/audio/speech": ""}, "speech"),
        (None, {"/transcribe": "application/json"}, "transcription"),
        (None, {"/text2video": MP4, "/image2video": MP4}, "video"),
        (None, {"/generate": MP4}, "video"),
        (None, {"/text2music": WAV}, "music"),
        (None, {"/v1/moderations": ""}, "moderation"),
    ],
)
def test_a_kind_follows_from_the_template_or_the_paths(template: object, paths: dict[str, str], kind: str) -> None:
    """The template decides; where there is none that does, what is published."""
    assert kind_of(template, paths) == kind
    assert kind in KINDS


@pytest.mark.parametrize(
    ("template", "paths"),
    [
        (None, {}),
        ("other", {"/predict": "application/json"}),
        ("tei", {"/embed": ""}),
        (None, {"/generate": WAV}),
        (None, {"/speak": WAV, "/transcribe": ""}),
        (["vllm"], {}),
    ],
)
def test_what_is_not_settled_is_other(template: object, paths: dict[str, str]) -> None:
    """Nothing known, audio of either kind, and two kinds at once are no guess."""
    assert kind_of(template, paths) == "other"


@pytest.mark.parametrize(
    "cords", [None, 5, {}, [None, 5, {}], [{"public_api_path": "//host/x"}, {"public_api_path": 3}]]
)
def test_paths_that_cannot_be_read_are_none(cords: object) -> None:
    """Whatever stands where the cords should, there is no path in it."""
    assert published(cords) == {}
