"""The limits on what :mod:`chutes_core.wire.images` fetches."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ImagePolicy"]


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Limits on what may be fetched.

    Attributes:
        max_count: The most images and videos in one request.
        max_bytes: The largest size of each.
        max_redirects: The most redirects for each.
        timeout: Seconds for each, redirects included; the time limit of the whole call holds besides.
        allow_private: Also connect to private addresses; for tests and trusted messages only.
    """

    max_count: int = 8
    max_bytes: int = 20_000_000
    max_redirects: int = 3
    timeout: float = 30.0
    allow_private: bool = False
