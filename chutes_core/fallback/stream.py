"""The answer of a fallback as a stream of deltas, whichever member gives it.

Each attempt is a stream of a client; what it yields goes through the relay, which holds it back until it may be given
out. Between the parts of an answer that was given up and those of the next, :class:`Restart` says that what came
before is void.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from chutes_core.errors import APIError
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.carried import Carried, CarriedReply
from chutes_core.fallback.drivers import Relay, afallback, fallback
from chutes_core.fallback.trace import Attempt, Receipt
from chutes_core.response import Delta, Reply
from chutes_core.usage import Usage

if TYPE_CHECKING:
    from chutes_core.calls.clock import Clock

__all__ = ["AsyncFallbackStream", "DeltaRelay", "FallbackReply", "FallbackStream", "Observer", "Restart", "shows_any"]

Part = Delta | Reply
Price = Callable[[Reply], float | None]


class Answer(Iterator[Delta], Protocol):
    """A member's answer: its deltas, then the reply."""

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the connection."""


class AsyncAnswer(AsyncIterable[Delta], Protocol):
    """Async version of :class:`Answer`."""

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""

    async def __aenter__(self) -> Self:
        """Begin."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the connection."""


Ask = Callable[[Try], Answer]
AsyncAsk = Callable[[Try], AsyncAnswer]


class Observer(Protocol):
    """Is told of the attempts of one call, as they happen."""

    def begins(self, step: Try) -> None:
        """An attempt begins."""

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """An attempt has ended, or a member was skipped."""

    async def heard(self) -> None:
        """Do what has to be awaited; in async calls, soon after each of the others."""


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
        member: The name of the member that answered.
        origin: If that is another provider's model, its framework's own answer.
    """

    attempts: tuple[Attempt, ...] = ()
    first_hop: str = "member"
    member: str = ""
    origin: object = None

    @classmethod
    def of(cls, reply: Reply, call: Call) -> FallbackReply:
        """Add to a reply what is known of the call."""
        return cls(
            reply.id, reply.model, reply.choices, reply.usage, reply.meta, reply.created, reply.extra,
            tuple(call.attempts), call.first_hop, call.served.name if call.served is not None else "",
            reply.origin if isinstance(reply, CarriedReply) else None,
        )  # fmt: skip


class DeltaRelay(Relay[Part]):
    """Relays deltas, keeps the reply, and tells of attempts as they begin and end.

    Args:
        call: The call.
        whole: Give nothing out before the answer is complete.
        price: Returns the cost of a reply.
        observer: Is told of the attempts.
        shows: Returns whether a delta shows any of the answer, for readers who do not see the text itself.
    """

    def __init__(
        self,
        call: Call,
        *,
        whole: bool,
        price: Price,
        observer: Observer | None = None,
        shows: Callable[[Part], bool] | None = None,
    ) -> None:
        self._restarts = call.policy.after_commit == "restart"
        super().__init__(
            call,
            shows=shows or shows_any,
            usage=_usage,
            marker=_restart,
            holds=_waits if self._restarts else _ends,
            whole=whole,
            receipt=lambda part: _receipt(part, price),
        )
        self.whole = whole
        self.current: Answer | AsyncAnswer | None = None
        self.reply: Reply | None = None
        self._observer = observer
        self._told = 0

    def begin(self, step: Try) -> list[Part]:
        """Start an attempt."""
        self.tell()  # of skipped members
        self.current = None
        if self._observer is not None:
            self._observer.begins(step)
        return super().begin(step)

    def take(self, part: Part) -> Sequence[Part]:
        """Take a part and return what may be given out now; most are further pieces of a text."""
        if self._shown and type(part) is Delta and not (part.tool_calls and self._restarts):
            return (part,)
        return super().take(part)

    def accept(self, reply: Reply) -> Reply:
        """Return the whole reply of a member; frameworks may override this to refuse it, which is a failure then."""
        return reply

    def end(self) -> list[Part]:
        """Keep the reply, which is no delta, and return what is still held back."""
        held = super().end()
        self.reply = held.pop()  # type: ignore[assignment]
        self.tell()
        return held

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or re-raise what is none."""
        try:
            super().broke(error, step)
        finally:
            self.tell(error)

    def failed(self, error: APIError) -> None:
        """Record a member's failure, with what has arrived."""
        arrived = self.current.reply if self.current is not None else None
        if arrived is not None and arrived.choices and error.partial_reply is None:
            error.partial_reply = arrived
        self.call.failed(error, arrived.usage if arrived is not None else None)

    def left(self, error: BaseException) -> None:
        """Record that the caller stopped early."""
        self.call.cancelled(self.current.reply.usage if self.current is not None else None)
        self.tell(error)

    def gave_up(self) -> None:
        """Tell of members that were skipped last."""
        self.tell()

    async def heard(self) -> None:
        """Wait for the observer."""
        if self._observer is not None:
            await self._observer.heard()

    def tell(self, error: BaseException | None = None) -> None:
        """Tell of the attempts that have ended since the last time."""
        if self._observer is not None:
            ended, self._told = self.call.attempts[self._told :], len(self.call.attempts)
            for attempt in ended:
                self._observer.ended(attempt, error)

    def arrived(self) -> FallbackReply:
        """Return the answer, or what has arrived of it."""
        reply = self.reply
        if reply is None:
            reply = self.current.reply if self.current is not None else Reply(None, None, ())
        return FallbackReply.of(reply, self.call)

    def asking(self, ask: Ask) -> Callable[[Try], Generator[Part, None, None]]:
        """Return the attempts as generators of parts; the last part is the reply."""

        def parts(step: Try) -> Generator[Part, None, None]:
            stream = self.current = ask(step)
            with stream:
                if self.whole:  # nobody sees the deltas: only where they begin, and what they come to, matters
                    for delta in stream:
                        if shows_any(delta):
                            self.call.first_part(given_out=False)
                            break
                    for _ in stream:
                        pass
                else:
                    yield from stream
            yield self.accept(stream.reply)

        return parts

    def asking_async(self, ask: AsyncAsk) -> Callable[[Try], AsyncGenerator[Part, None]]:
        """Async version of :meth:`asking`."""

        async def parts(step: Try) -> AsyncGenerator[Part, None]:
            stream = self.current = ask(step)
            async with stream:
                if self.whole:
                    async for delta in stream:
                        if shows_any(delta):
                            self.call.first_part(given_out=False)
                            break
                    async for _ in stream:
                        pass
                else:
                    async for delta in stream:
                        yield delta
            yield self.accept(stream.reply)

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
        return next(self._parts)  # type: ignore[return-value]  # the reply stays with the relay

    def read(self) -> FallbackReply:
        """Read to the end, and return the whole reply."""
        for _ in self._parts:
            pass
        return self.reply

    def close(self) -> None:
        """Stop the stream and release the connection."""
        self._parts.close()

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
        return await anext(self._parts)  # type: ignore[arg-type]  # the reply stays with the relay

    async def read(self) -> FallbackReply:
        """Read to the end, and return the whole reply."""
        async for _ in self._parts:
            pass
        return self.reply

    async def aclose(self) -> None:
        """Stop the stream and release the connection."""
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# ----------------------------------------------------------------------------------- what the engine asks of a part
# These run for every delta, so the most frequent case comes first.


def shows_any(part: Part) -> bool:
    """Return whether a part shows any of the answer."""
    if not isinstance(part, Delta):
        return False
    return bool(part.content or part.reasoning or part.tool_calls) or (isinstance(part, Carried) and part.shown)


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
    if not isinstance(part, Reply):
        return Receipt()
    return Receipt(part.model, price(part) if not isinstance(part, CarriedReply) else None)
