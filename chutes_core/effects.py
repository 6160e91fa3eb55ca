"""What a call asks of the outside world, and how a flow is run.

A flow (:mod:`chutes_core.flows`) is a generator that decides; it yields :class:`Effect` values, and what it
has for the caller, such as deltas. A hand (:mod:`chutes_core.wire`) carries the effects out, blocking or on the
event loop; :func:`drive` and :func:`adrive` run a flow with one.
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
    """The transport failed: which way, and in which words."""

    def __init__(self, reason: Reason, said: str) -> None:
        super().__init__(said)
        self.reason = reason
        self.said = said


class StatusFailure(Exception):
    """The service answered with a status that is not a success."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.content = content


class _Bearer(str):
    """A header that does not show itself where frames are shown with their variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'Bearer ****'"


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One HTTP request. The key is kept apart, masked, until the moment of sending.

    What is sent is ``body`` as JSON, or ``content`` as it is.
    """

    url: str
    body: Mapping[str, object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    secret: Secret | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)

    def plain_headers(self) -> dict[str, str]:
        """The headers as they are sent, key included."""
        key = {"Authorization": _Bearer(f"Bearer {self.secret.get_secret_value()}")} if self.secret else {}
        return {**self.headers, **key}


class Effect:
    """Something that a flow wants done. Whatever else it yields is for the caller."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Open(Effect):
    """Send a request and wait for the reply's headers. Gives the headers."""

    request: WireRequest
    connect: float | None
    headers_within: float | None


@dataclass(frozen=True, slots=True)
class Read(Effect):
    """Wait for the next bytes of the reply. Gives None at its end."""

    within: float | None


@dataclass(frozen=True, slots=True)
class Sleep(Effect):
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Inline(Effect):
    """Fetch the remote images of messages. Gives the messages with the images in them."""

    messages: Sequence[Message]
    policy: ImagePolicy


@dataclass(frozen=True, slots=True)
class Authorize(Effect):
    """Find the key; another one, if there is one, than that which was refused. Gives a Secret."""

    refused: Secret | None = None


Flow = Generator[object, object, T]


class Hand(Protocol):
    """Carries out effects, blocking."""

    def perform(self, effect: Effect) -> object:
        """Do what a flow asks."""

    def close(self) -> None:
        """Let go of the reply."""


class AsyncHand(Protocol):
    """Carries out effects on the event loop."""

    async def perform(self, effect: Effect) -> object:
        """Do what a flow asks."""

    async def close(self) -> None:
        """Let go of the reply."""


def drive(flow: Flow[T], wire: Hand, outcome: list[T]) -> Generator[object, None, None]:
    """Run a flow, blocking; what it returns is put into ``outcome``."""
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
    """Run a flow on the event loop; what it returns is put into ``outcome``."""
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
    """Run a flow to its end and return what it returns."""
    outcome: list[T] = []
    for _ in drive(flow, wire, outcome):
        pass
    return outcome[0]


async def arun(flow: Flow[T], wire: AsyncHand) -> T:
    """Run a flow to its end and return what it returns."""
    outcome: list[T] = []
    async for _ in adrive(flow, wire, outcome):
        pass
    return outcome[0]
