"""Side requests of a sealed call: the list of machines, their evidence, the processor vendor's collateral.

They are made by the same hand as the call itself, within the timeout of the step that needs the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from chutes_core.calls.clock import Clock
from chutes_core.calls.effects import Flow, Open, Read, WireFailure, WireRequest, opened
from chutes_core.door import loads
from chutes_core.e2ee.collateral import Fetched
from chutes_core.errors import Kind
from chutes_core.failures.reading import failure

__all__ = ["Asking", "parsed"]


class Asking:
    """Makes side requests within the timeout of the step that needs them."""

    def __init__(self, step: Open | Read, clock: Clock, model: str) -> None:
        within = step.headers_within if isinstance(step, Open) else step.within
        self._until = None if within is None else clock.now() + within
        self._clock = clock
        self._open = step if isinstance(step, Open) else None
        self.model = model

    def left(self) -> float | None:
        """Return what is left of the timeout."""
        return None if self._until is None else max(self._until - self._clock.now(), 0.0)

    def json(self, url: str, params: Mapping[str, str] | None = None) -> Flow[object]:
        """Request JSON from the service, with the key."""
        step = cast("Open", self._open)
        answer = yield from self._get(
            WireRequest(url, None, step.request.headers, "GET", step.request.secret, params or {})
        )
        try:
            return loads(answer.body)
        except ValueError:
            raise failure(Kind.MALFORMED, f"{urlsplit(url).path}: the body is not JSON", model=self.model) from None

    def public(self, url: str) -> Flow[Fetched]:
        """Request from a third party, without key or headers."""
        return (yield from self._get(WireRequest(url, None, {}, "GET")))

    def _get(self, request: WireRequest) -> Flow[Fetched]:
        if self.left() == 0.0:
            raise WireFailure("timeout", "the time limit passed")
        effect = Open(request, cast("Open", self._open).connect, self.left())
        headers = yield from opened(effect, self._clock.now)
        lowered = {name.lower(): value for name, value in headers.items()}
        blocks: list[bytes] = []
        while (block := (yield Read(self.left()))) is not None:
            blocks.append(cast("bytes", block))
        return Fetched(lowered, b"".join(blocks))


def parsed(content: bytes) -> object:
    """Parse a body as JSON, or else return it as text."""
    try:
        return loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")
