"""Effects: what a call needs from the outside world, and how a flow is run.

A flow (:mod:`chutes_core.flows`) is a generator that makes the decisions; it yields :class:`Effect` values, and
output for the caller, such as deltas. A hand (:mod:`chutes_core.wire`) performs the effects, blocking or on the event
loop; :func:`drive` and :func:`adrive` run a flow with one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from chutes_core.auth import Secret
from chutes_core.conversation import Message
from chutes_core.images import ImagePolicy

__all__ = [
    "AsyncHand",
    "Authorize",
    "Effect",
    "Flow",
    "Hand",
    "Inline",
    "Open",
    "Read",
    "Sleep",
    "StatusFailure",
    "WireFailure",
    "WireRequest",
    "adrive",
    "arun",
    "drive",
    "run",
]

T = TypeVar("T")
Reason = Literal["connect", "connect_timeout", "timeout", "broken"]


class WireFailure(Exception):
    """The transport failed; ``reason`` says how, ``said`` is its own message."""

    def __init__(self, reason: Reason, said: str) -> None:
        super().__init__(said)
        self.reason = reason
        self.said = said


class StatusFailure(Exception):
    """The service answered with an error status."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.content = content


class _Bearer(str):
    """A header value whose repr is masked, for tools that show the variables of frames."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'Bearer ****'"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One HTTP request. The key is kept apart, masked, until the request is sent.

    The payload is ``body`` as JSON, or ``content`` as is.
    """

    url: str
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    secret: Secret | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)

    def plain_headers(self) -> dict[str, str]:
        """Return the headers to send, key included."""
        key = {"Authorization": _Bearer(f"Bearer {self.secret.get_secret_value()}")} if self.secret else {}
        return {**self.headers, **key}


class Effect:
    """An action that a flow requests. Anything else it yields is for the caller."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Open(Effect):
    """Send a request and wait for the reply's headers. Returns the headers."""

    request: WireRequest
    connect: float | None
    headers_within: float | None


@dataclass(frozen=True, slots=True)
class Read(Effect):
    """Wait for the next bytes of the reply. Returns None at its end."""

    within: float | None


@dataclass(frozen=True, slots=True)
class Sleep(Effect):
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Inline(Effect):
    """Fetch the remote images of messages. Returns the messages with the images inlined."""

    messages: Sequence[Message]
    policy: ImagePolicy


@dataclass(frozen=True, slots=True)
class Authorize(Effect):
    """Get the key; if one was refused, another one if possible. Returns a Secret."""

    refused: Secret | None = None


Flow = Generator[object, object, T]


class Hand(Protocol):
    """Performs effects, blocking."""

    def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""

    def close(self) -> None:
        """Release the reply."""


class AsyncHand(Protocol):
    """Performs effects on the event loop."""

    async def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""

    async def close(self) -> None:
        """Release the reply."""


def drive(flow: Flow[T], wire: Hand, outcome: list[T]) -> Generator[object, None, None]:
    """Run a flow, blocking, and append its return value to ``outcome``."""
    try:
        step = next(flow)
        while True:
            if not isinstance(step, Effect):
                yield step
                step = next(flow)
                continue
            failed: WireFailure | StatusFailure | None = None
            try:
                value = wire.perform(step)
            except (WireFailure, StatusFailure) as failure:
                failed = failure
            step = flow.send(value) if failed is None else flow.throw(failed)
    except StopIteration as end:
        outcome.append(end.value)
    finally:
        flow.close()
        wire.close()


async def adrive(flow: Flow[T], wire: AsyncHand, outcome: list[T]) -> AsyncGenerator[object, None]:
    """Run a flow on the event loop, and append its return value to ``outcome``."""
    try:
        step = next(flow)
        while True:
            if not isinstance(step, Effect):
                yield step
                step = next(flow)
                continue
            failed: WireFailure | StatusFailure | None = None
            try:
                value = await wire.perform(step)
            except (WireFailure, StatusFailure) as failure:
                failed = failure
            step = flow.send(value) if failed is None else flow.throw(failed)
    except StopIteration as end:
        outcome.append(end.value)
    finally:
        flow.close()
        await wire.close()


def run(flow: Flow[T], wire: Hand) -> T:
    """Run a flow to its end and return its value."""
    outcome: list[T] = []
    for _ in drive(flow, wire, outcome):
        pass
    return outcome[0]


async def arun(flow: Flow[T], wire: AsyncHand) -> T:
    """Run a flow to its end and return its value."""
    outcome: list[T] = []
    async for _ in adrive(flow, wire, outcome):
        pass
    return outcome[0]
