"""What a chute is for: its kind, by its template and by what it publishes. What that does not settle is "other".

>>> kind_of("diffusion", {"/generate": "image/jpeg"}), kind_of("other", {"/speak": "audio/wav"})
('image', 'speech')
>>> kind_of("other", {"/generate": "audio/wav"})  # speech or music
'other'
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chutes_core.catalog import checked

__all__ = ["KINDS", "is_path", "kind_of", "published"]

KINDS = ("chat", "embedding", "image", "speech", "transcription", "video", "music", "moderation", "other")

_BY_TEMPLATE = {"vllm": "chat", "embedding": "embedding", "diffusion": "image"}
_BY_PATH = {
    "chat": r"/v1/chat/completions",
    "embedding": r"/v1/embeddings",
    "image": r"/v1/images/\w+",
    "speech": r"/speak|/tts|/v1/audio/speech",
    "transcription": r"/transcribe|/v1/audio/transcriptions",
    "video": r"/\w+2video|/v1/videos",
    "music": r"/(\w+[2_-])?music",
    "moderation": r"/moderate|/v1/moderations",
}
# Audio is not among them: it may be speech or music.
_BY_MEDIUM = ("image", "video")
_PATH = re.compile(r"/[A-Za-z0-9._~-][A-Za-z0-9._~/-]*")


def is_path(value: object) -> bool:
    """Return whether a value may be a path that a chute publishes: one that leads nowhere else.

    >>> is_path("/v1/audio/speech"), is_path("/../users/me"), is_path("//host/x"), is_path("/a?b=c")
    (True, False, False, False)
    """
    usable = checked.matching(value, _PATH)
    return usable is not None and not {".", ".."} & set(usable.split("/"))


def published(cords: object) -> dict[str, str]:
    """Return the public paths of a chute, each with the media type of its answers ("" if it does not say).

    >>> published([{"public_api_path": "/speak", "output_content_type": "audio/wav"}, {"public_api_path": None}])
    {'/speak': 'audio/wav'}
    """
    found: dict[str, str] = {}
    for cord in cords if isinstance(cords, list) else ():
        path = cord.get("public_api_path") if isinstance(cord, Mapping) else None
        if isinstance(path, str) and is_path(path):
            found[path] = checked.text(cord.get("output_content_type")) or ""
    return found


def kind_of(template: object, paths: Mapping[str, str]) -> str:
    """Return the kind that the template names, else the only one that the published paths do."""
    known = _BY_TEMPLATE.get(template) if isinstance(template, str) else None
    if known is not None:
        return known
    kinds = {kind for path, media_type in paths.items() if (kind := _kind_of_path(path, media_type)) is not None}
    return kinds.pop() if len(kinds) == 1 else "other"


def _kind_of_path(path: str, media_type: str) -> str | None:
    named = next((kind for kind, pattern in _BY_PATH.items() if re.fullmatch(pattern, path)), None)
    medium = media_type.partition("/")[0]
    return named or (medium if medium in _BY_MEDIUM else None)
