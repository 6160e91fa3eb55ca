"""Effects: what a call needs from the outside world, and how a flow is run.

A flow (:mod:`chutes_core.calls.flows`) is a generator that makes the decisions; it yields :class:`Effect` values, and
output for the caller, such as deltas. A hand (:mod:`chutes_core.wire.hands`) performs the effects, blocking or on the
event loop; :func:`drive` and :func:`adrive` run a flow with one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

from chutes_core.calls.bodies import JSON, Most
from chutes_core.errors import APIError
from chutes_core.failures.redirects import MOST_REDIRECTS, next_place
from chutes_core.request.image_policy import ImagePolicy
from chutes_core.request.messages import Message
from chutes_core.secrets.headers import HiddenText
from chutes_core.secrets.masking import Known
from chutes_core.secrets.places import check_place
from chutes_core.secrets.secret import Secret

__all__ = [
    "Abandoned",
    "Arrived",
    "AsyncHand",
    "Authorize",
    "Effect",
    "Flow",
    "Hand",
    "Inline",
    "Open",
    "Read",
    "Resolve",
    "Sleep",
    "StatusFailure",
    "WireFailure",
    "WireRequest",
    "adrive",
    "arun",
    "drive",
    "layered",
    "opened",
    "run",
]

T = TypeVar("T")
Reason = Literal["connect", "connect_timeout", "timeout", "broken", "too_large", "invalid"]


class WireFailure(Exception):
    """The transport failed; ``reason`` says how, ``said`` is its own message.

    ``invalid`` is a body that cannot be read: damaged, or in an encoding that was not asked for.
    """

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


class Abandoned(BaseException):
    """Ends a flow because an effect failed in a way that is not the call's, such as a key function's own error.

    To the flow it is what ``GeneratorExit`` is, which ``yield from`` would not hand on with a ``reason``.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class Arrived(dict[str, str]):
    """The headers of a reply that succeeded.

    Attributes:
        status: Its status.
        raw: The headers as they were sent, repeated ones each by itself.
    """

    def __init__(self, headers: Mapping[str, str], status: int, raw: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(headers)
        self.status = status
        self.raw = raw


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

    @property
    def telling(self) -> Mapping[str, str]:
        """What a server may write back beside the key: the headers, and the parameters whose values do not show.

        Those that stand in the address already are the caller's of the SDK, and count as well.
        """
        if not self.params and "?" not in self.url:
            return self.headers
        hidden = {f"?{name}": value for name, value in self.params.items() if isinstance(value, HiddenText)}
        given = {f"?{name}": value for name, value in parse_qsl(urlsplit(self.url).query)}
        return {**self.headers, **given, **hidden}

    def plain_headers(self) -> dict[str, str]:
        """Return the headers to send, key included.

        Raises:
            ConfigurationError: The key may not go to this address.
        """
        if self.secret is None:
            return dict(self.headers)
        check_place(self.url, self.secret)
        return {**self.headers, "Authorization": HiddenText(f"Bearer {self.secret.get_secret_value()}")}


class Effect:
    """An action that a flow requests. Anything else it yields is for the caller."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Open(Effect):
    """Send a request and wait for the reply's headers. Returns them, as :class:`Arrived`.

    ``most`` is how large the reply's body may be.
    """

    request: WireRequest
    connect: float | None
    headers_within: float | None
    most: Most = JSON


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
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Resolve(Effect):
    """Look up a host's addresses. Returns them, as strings."""

    host: str
    port: int
    within: float | None


@dataclass(frozen=True, slots=True)
class Authorize(Effect):
    """Get the key; if one was refused, another one if possible. Returns a Secret."""

    refused: Secret | None = None


Flow = Generator[object, object, T]


def layered(call: Flow[T], answer: Callable[[Open | Read], Flow[object]]) -> Flow[T]:
    """Run a call with a layer between it and the service: another flow, which does what it asks of the wire.

    What the layer fails with, the call gets as the failure of its own effect.
    """
    try:
        step = next(call)
        while True:
            failed: Exception | None = None
            value: object = None
            try:
                value = (yield from answer(step)) if isinstance(step, Open | Read) else (yield step)
            except (WireFailure, StatusFailure, APIError) as problem:
                failed = problem
            step = call.send(value) if failed is None else call.throw(failed)
    except StopIteration as end:
        return cast("T", end.value)
    finally:
        call.close()


def opened(effect: Open, now: Callable[[], float]) -> Flow[Mapping[str, str]]:
    """Send a request and wait for the reply's headers, following a few redirects within the same limit of time.

    Raises:
        StatusFailure: The reply is an error, or a redirect that is not followed.
    """
    started, within = now(), effect.headers_within
    for left in reversed(range(MOST_REDIRECTS + 1)):
        try:
            return cast("Mapping[str, str]", (yield effect))
        except StatusFailure as failed:
            answer = failed
        request = effect.request
        place = next_place(request.method, request.url, answer.status, answer.headers) if left else None
        if place is None:
            break
        rest = None if within is None else max(within - (now() - started), 0.0)
        effect = replace(effect, request=replace(request, url=place, params={}), headers_within=rest)
    raise answer


class Hand(Protocol):
    """Performs effects, blocking."""

    def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""

    def close(self) -> None:
        """Release the reply."""


class AsyncHand(Protocol):
    """Performs effects on the event loop."""

    def perform(self, effect: Effect) -> Awaitable[object]:
        """Perform one effect of a flow."""

    async def close(self) -> None:
        """Release the reply."""


def drive(flow: Flow[T], wire: Hand, outcome: list[T]) -> Generator[object, None, None]:
    """Run a flow, blocking, and append its return value to ``outcome``; its failure has no secret in it."""
    known, problem = Known(), None
    try:
        step = next(flow)
        while True:
            if not isinstance(step, Effect):
                yield step
                step = next(flow)
                continue
            if type(step) is Open:
                known.learn(step.request.telling, step.request.secret)
            failed: WireFailure | StatusFailure | None = None
            try:
                value = wire.perform(step)
            except (WireFailure, StatusFailure) as failure:
                failed = failure
            step = flow.send(value) if failed is None else flow.throw(failed)
    except StopIteration as end:
        outcome.append(end.value)
    except (APIError, WireFailure) as error:
        problem = known.mask(error)
        step = value = failed = None  # what has arrived is not shown by this frame
    except Exception as error:
        with suppress(Abandoned):
            flow.throw(Abandoned(error))
        raise
    finally:
        flow.close()
        wire.close()
    if problem is not None:
        raise problem


async def adrive(flow: Flow[T], wire: AsyncHand, outcome: list[T]) -> AsyncGenerator[object, None]:
    """Run a flow on the event loop, and append its return value to ``outcome``; its failure has no secret in it."""
    known, problem = Known(), None
    try:
        step = next(flow)
        while True:
            if not isinstance(step, Effect):
                yield step
                step = next(flow)
                continue
            if type(step) is Open:
                known.learn(step.request.telling, step.request.secret)
            failed: WireFailure | StatusFailure | None = None
            try:
                value = await wire.perform(step)
            except (WireFailure, StatusFailure) as failure:
                failed = failure
            step = flow.send(value) if failed is None else flow.throw(failed)
    except StopIteration as end:
        outcome.append(end.value)
    except (APIError, WireFailure) as error:
        problem = known.mask(error)
        step = value = failed = None  # what has arrived is not shown by this frame
    except Exception as error:
        with suppress(Abandoned):
            flow.throw(Abandoned(error))
        raise
    finally:
        flow.close()
        await wire.close()
    if problem is not None:
        raise problem


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
