"""Side questions of a sealed call: which machines there are, what they prove, what the maker says of them.

They are asked by the same hand as the call itself, and within the time of the step that needs the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from chutes_core.clock import Clock
from chutes_core.e2ee.collateral import Fetched
from chutes_core.effects import Flow, Open, Read, WireFailure, WireRequest
from chutes_core.errors import Kind
from chutes_core.failures import failure

__all__ = ["Asking", "parsed"]


class Asking:
    """Asks side questions within the time of the step that needs the answers."""

    def __init__(self, step: Open | Read, clock: Clock, model: str) -> None:
        within = step.headers_within if isinstance(step, Open) else step.within
        self._until = None if within is None else clock.now() + within
        self._clock = clock
        self._open = step if isinstance(step, Open) else None
        self.model = model

    def left(self) -> float | None:
        """What is left of the time."""
        return None if self._until is None else max(self._until - self._clock.now(), 0.0)

    def json(self, url: str, params: Mapping[str, str] | None = None) -> Flow[object]:
        """Ask the service, with the key."""
        step = cast("Open", self._open)
        answer = yield from self._get(
            WireRequest(url, None, step.request.headers, "GET", step.request.secret, params or {})
        )
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise failure(Kind.MALFORMED, f"{urlsplit(url).path}: the body is not JSON", model=self.model) from None

    def public(self, url: str) -> Flow[Fetched]:
        """Ask somebody else, who is told nothing of us."""
        return (yield from self._get(WireRequest(url, None, {}, "GET")))

    def _get(self, request: WireRequest) -> Flow[Fetched]:
        if self.left() == 0.0:
            raise WireFailure("timeout", "the time limit passed")
        headers = cast("Mapping[str, str]", (yield Open(request, cast("Open", self._open).connect, self.left())))
        lowered = {name.lower(): value for name, value in headers.items()}
        blocks: list[bytes] = []
        while (block := (yield Read(self.left()))) is not None:
            blocks.append(cast("bytes", block))
        return Fetched(lowered, b"".join(blocks))


def parsed(content: bytes) -> object:
    """Read a body as JSON, or as the text that it is."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")
