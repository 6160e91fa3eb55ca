"""The answer of a fallback as a stream of deltas, whichever member gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from chutes_core.attempt import Attempts
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.carried import CarriedReply
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.relay import Answer, AsyncAnswer, Relay
from chutes_core.response import Delta, Reply

if TYPE_CHECKING:
    from chutes_core.calls.clock import Clock

__all__ = ["AsyncFallbackStream", "FallbackReply", "FallbackStream"]

A = TypeVar("A")
_NONE = Attempts()


@dataclass(frozen=True, slots=True)
class FallbackReply(Reply):
    """The answer of a fallback, and how it came about.

    Attributes:
        attempts: Every attempt, in order; the last one answered.
        first_hop: Whom the first request went to: one ``"member"``, or several through the ``"server"``.
        member: The name of the member that answered.
        origin: If that is another provider's model, its framework's own answer.
    """

    attempts: Attempts = _NONE
    first_hop: str = "member"
    member: str = ""
    origin: object = None

    @property
    def cost(self) -> float | None:
        """What the answer cost in US dollars; None if that is not known of all who took part in it.

        >>> from chutes_core.attempt import Attempt
        >>> attempts = Attempts([Attempt("a", "failed", cost=9.0), Attempt("b", "answered", cost=1.0)])
        >>> FallbackReply(None, None, (), attempts=attempts).cost
        1.0
        """
        costs: list[float | None] = []
        for attempt in reversed(self.attempts):
            if attempt.outcome == "skipped":
                continue
            costs.append(attempt.cost)
            if attempt.resumed_at is None:
                break
        return None if not costs or None in costs else sum(cost for cost in costs if cost is not None)

    @classmethod
    def of(cls, reply: Reply, call: Call) -> FallbackReply:
        """Add to a reply what is known of the call."""
        return cls(
            reply.id, reply.model, reply.choices, reply.usage, reply.meta, reply.created, reply.extra,
            Attempts(call.attempts), call.first_hop, call.served.name if call.served is not None else "",
            reply.origin if isinstance(reply, CarriedReply) else None,
        )  # fmt: skip


class FallbackStream(Iterator[Delta]):
    """A streamed answer of a fallback: iterate over its deltas, then read :attr:`reply`.

    Nothing is sent until you request the first delta. Leaving the ``with`` block, or closing or dropping the stream,
    releases its connection.
    """

    def __init__(self, relay: Relay, ask: Callable[[Try], Answer], clock: Clock) -> None:
        self._relay = relay
        self._deltas = fallback(relay, _quietly(ask, relay), clock=clock)

    @property
    def reply(self) -> FallbackReply:
        """The whole reply once the stream has ended; until then, what has arrived from the member asked last."""
        return FallbackReply.of(self._relay.latest, self._relay.call)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        return next(self._deltas)

    def read(self) -> FallbackReply:
        """Read to the end, and return the whole reply."""
        for _ in self._deltas:
            pass
        return self.reply

    def close(self) -> None:
        """Stop the stream and release the connection."""
        self._deltas.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFallbackStream(AsyncIterator[Delta]):
    """A streamed answer of a fallback: ``async for`` over its deltas, then read :attr:`reply`."""

    def __init__(self, relay: Relay, ask: Callable[[Try], AsyncAnswer], clock: Clock) -> None:
        self._relay = relay
        self._deltas = afallback(relay, _quietly(ask, relay), clock=clock)

    @property
    def reply(self) -> FallbackReply:
        """The whole reply once the stream has ended; until then, what has arrived from the member asked last."""
        return FallbackReply.of(self._relay.latest, self._relay.call)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def read(self) -> FallbackReply:
        """Read to the end, and return the whole reply."""
        async for _ in self._deltas:
            pass
        return self.reply

    async def aclose(self) -> None:
        """Stop the stream and release the connection."""
        await self._deltas.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _quietly(ask: Callable[[Try], A], relay: Relay) -> Callable[[Try], A]:
    """Have the answers of clients tell no hook: the fallback does, whose attempts they are."""

    def asked(step: Try) -> A:
        answer = ask(step)
        if (quiet := getattr(answer, "quiet", None)) is not None:  # other providers' have none
            quiet(unseen=relay.holds)
        return answer

    return asked
