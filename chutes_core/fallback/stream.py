"""The answer of a fallback as a stream of deltas, whichever member gives it.

Each attempt is a stream of a client; what it yields goes through the relay, which holds it back until it may be given
out. Between the parts of an answer that was given up and those of the next, :class:`Restart` says that what came
before is void.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from chutes_core.errors import APIError
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.drivers import Relay, afallback, fallback
from chutes_core.fallback.trace import Attempt, Receipt
from chutes_core.response import Delta, Reply
from chutes_core.usage import Usage

if TYPE_CHECKING:
    from chutes_core.calls.clock import Clock
    from chutes_core.client import AsyncStream, Stream

__all__ = ["AsyncFallbackStream", "DeltaRelay", "FallbackReply", "FallbackStream", "Restart"]

Part = Delta | Reply
Ask = Callable[[Try], "Stream"]
AsyncAsk = Callable[[Try], "AsyncStream"]
Price = Callable[[Reply], float | None]


@dataclass(slots=True)
class Restart(Delta):
    """What came before is void: the member ``model`` starts over.

    It comes only with ``FallbackPolicy(after_commit="restart")``.
    """

    model: str = ""


@dataclass(frozen=True, slots=True)
class FallbackReply(Reply):
    """The answer of a fallback, and how it came about.

    Attributes:
        attempts: Every attempt, in order; the last one answered.
        first_hop: Whom the first request went to: one ``"member"``, or several through the ``"server"``.
    """

    attempts: tuple[Attempt, ...] = ()
    first_hop: str = "member"

    @classmethod
    def of(cls, reply: Reply, call: Call) -> FallbackReply:
        """Add to a reply what is known of the call."""
        return cls(
            reply.id, reply.model, reply.choices, reply.usage, reply.meta, reply.created, reply.extra,
            tuple(call.attempts), call.first_hop,
        )  # fmt: skip


class DeltaRelay(Relay[Part]):
    """Relays deltas, and tells of attempts as they end.

    Args:
        call: The call.
        whole: Give nothing out before the answer is complete.
        price: Returns the cost of a reply.
        on_attempt: Is told of each attempt that has ended.
    """

    def __init__(
        self, call: Call, *, whole: bool, price: Price, on_attempt: Callable[[Attempt], object] | None = None
    ) -> None:
        super().__init__(
            call,
            shows=_shows,
            usage=_usage,
            marker=_restart,
            holds=_waits if call.policy.after_commit == "restart" else _ends,
            whole=whole,
            receipt=lambda part: _receipt(part, price),
        )
        self.whole = whole
        self.current: Stream | AsyncStream | None = None
        self.reply = Reply(None, None, ())
        self._on_attempt = on_attempt
        self._told = 0

    def begin(self, step: Try) -> list[Part]:
        """Start an attempt."""
        self.tell()
        self.current = None
        return super().begin(step)

    def failed(self, error: APIError) -> None:
        """Record a member's failure."""
        self.call.failed(error, self._used())

    def left(self) -> None:
        """Record that the caller stopped early."""
        self.call.cancelled(self._used())

    def _used(self) -> Usage | None:
        """Return what an unfinished attempt used, which its deltas do not say."""
        return self.current.reply.usage if self.current is not None else None

    def tell(self) -> None:
        """Tell of the attempts that have ended since the last time."""
        if self._on_attempt is not None:
            ended, self._told = self.call.attempts[self._told :], len(self.call.attempts)
            for attempt in ended:
                self._on_attempt(attempt)

    def arrived(self) -> FallbackReply:
        """Return the answer, or what has arrived of it."""
        reply = self.reply
        if self.call.served is None and self.current is not None:
            reply = self.current.reply
        return FallbackReply.of(reply, self.call)

    def asking(self, ask: Ask) -> Callable[[Try], Generator[Part, None, None]]:
        """Return the attempts as generators of parts; the last part is the reply."""

        def parts(step: Try) -> Generator[Part, None, None]:
            stream = self.current = ask(step)
            with stream:
                if self.whole:  # nobody sees the deltas: only where they begin, and what they come to, matters
                    for delta in stream:
                        if _shows(delta):
                            self.call.first_part(given_out=False)
                            break
                    for _ in stream:
                        pass
                else:
                    yield from stream
            yield stream.reply

        return parts

    def asking_async(self, ask: AsyncAsk) -> Callable[[Try], AsyncGenerator[Part, None]]:
        """Async version of :meth:`asking`."""

        async def parts(step: Try) -> AsyncGenerator[Part, None]:
            stream = self.current = ask(step)
            async with stream:
                if self.whole:
                    async for delta in stream:
                        if _shows(delta):
                            self.call.first_part(given_out=False)
                            break
                    async for _ in stream:
                        pass
                else:
                    async for delta in stream:
                        yield delta
            yield stream.reply

        return parts


class FallbackStream(Iterator[Delta]):
    """A streamed answer of a fallback: iterate over its deltas, then read :attr:`reply`.

    Nothing is sent until you request the first delta. Leaving the ``with`` block, or closing or dropping the stream,
    releases its connection.
    """

    def __init__(self, relay: DeltaRelay, ask: Ask, clock: Clock) -> None:
        self._relay = relay
        self._parts = fallback(relay, relay.asking(ask), clock=clock)

    @property
    def reply(self) -> FallbackReply:
        """The whole reply once the stream has ended; until then, what has arrived from the member asked last."""
        return self._relay.arrived()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        try:
            part = next(self._parts)
            if isinstance(part, Reply):  # the end: there is nothing after it
                self._relay.reply = part
                part = next(self._parts)
        except BaseException:
            self._relay.tell()
            raise
        return cast("Delta", part)

    def close(self) -> None:
        """Stop the stream and release the connection."""
        self._parts.close()
        self._relay.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFallbackStream(AsyncIterator[Delta]):
    """A streamed answer of a fallback: ``async for`` over its deltas, then read :attr:`reply`."""

    def __init__(self, relay: DeltaRelay, ask: AsyncAsk, clock: Clock) -> None:
        self._relay = relay
        self._parts = afallback(relay, relay.asking_async(ask), clock=clock)

    @property
    def reply(self) -> FallbackReply:
        """The whole reply once the stream has ended; until then, what has arrived from the member asked last."""
        return self._relay.arrived()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        try:
            part = await anext(self._parts)
            if isinstance(part, Reply):
                self._relay.reply = part
                part = await anext(self._parts)
        except BaseException:
            self._relay.tell()
            raise
        return cast("Delta", part)

    async def aclose(self) -> None:
        """Stop the stream and release the connection."""
        await self._parts.aclose()
        self._relay.tell()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# ----------------------------------------------------------------------------------- what the engine asks of a part
# These run for every delta, so the most frequent case comes first.


def _shows(part: Part) -> bool:
    return isinstance(part, Delta) and bool(part.content or part.reasoning or part.tool_calls)


def _usage(part: Part) -> Usage | None:
    return part.usage


def _ends(part: Part) -> bool:
    return isinstance(part, Reply)


def _waits(part: Part) -> bool:
    """A tool call must not be acted on before it is certain that the answer stays."""
    return isinstance(part, Reply) or bool(part.tool_calls)


def _restart(step: Try) -> Part:
    return Restart(model=step.member.name)


def _receipt(part: Part, price: Price) -> Receipt:
    return Receipt(part.model, price(part)) if isinstance(part, Reply) else Receipt()
