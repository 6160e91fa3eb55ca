"""The steps of a reply on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Play", "Refuse", "Reset", "Step", "Wait"]


class Refuse:
    """No connection."""


class Reset:
    """The connection is reset."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing, for some seconds."""

    seconds: float


Step = bytes | Wait | Reset


@dataclass(frozen=True, slots=True)
class Play:
    """A scripted reply: a wait, a status and headers, then the steps of the body."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    before: Sequence[Wait | Refuse] = ()
