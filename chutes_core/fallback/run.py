"""One call of a fallback over its members: what the engine is told, who is asked what, and within which limits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.catalog.joint import price
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.health import Health
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.members import Needs
from chutes_core.fallback.objects import asked_form
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.relay import Answer, AsyncAnswer, Observer, Relay
from chutes_core.fallback.resume import continued, fits
from chutes_core.fallback.roster import Seated
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.fallback.telling import About
from chutes_core.reply.structured import Form
from chutes_core.settings import TimeLimits

__all__ = ["Run"]

_SYSTEM = SystemClock()


P = TypeVar("P", bound=Seated)


class Run(Relay, Generic[P]):
    """One call of a fallback: use one of its four ways, once.

    Args:
        seats: The members that may be asked.
        needs: What the request needs of them.
        params: The parameters of the call.
        policy: The policy.
        health: What is known of the members' health.
        clock: The clock; None for the system's.
        limit: The call's own time limits.
        whole: Give nothing out, but the reply at the end.
        stats: The service's statistics, if the order uses them.
        chance: Returns a random number between 0 and 1.
        objects: The form of objects that the reader sees; by default the one that the parameters ask for.
        observer: Is told of the attempts.
        thinks: Whether reasoning may be given out before it is certain that it stays.
        about: What hooks are told of the call, beside its attempts.
    """

    def __init__(
        self,
        seats: Sequence[P],
        needs: Needs,
        params: Mapping[str, object],
        policy: FallbackPolicy,
        health: Health,
        clock: Clock | None,
        *,
        limit: TimeLimits | None,
        whole: bool,
        stats: LiveStats | None,
        chance: Callable[[], float] = random.random,
        objects: Form | None = None,
        observer: Observer | None = None,
        thinks: bool = True,
        about: About,
    ) -> None:
        self._seats = seats
        self._limit = limit
        self._clock = clock or _SYSTEM
        call = Call(
            [seat.member for seat in seats], policy, health, needs,
            now=self._clock.now, chance=chance, visible=not whole, stats=stats,
        )  # fmt: skip
        catalogs = (known for seat in seats if (known := seat.catalog) is not None)  # looked up once, for the answer
        form = asked_form(params)
        super().__init__(
            call, whole=whole, price=partial(price, catalogs), observer=observer, objects=objects or form, form=form,
            thinks=thinks, fits=self._fits, about={"streamed": not whole, **about},
        )  # fmt: skip

    def _params_of(self, seat: P) -> Mapping[str, object] | None:
        """Return the parameters of a request to a member; None if it is another provider's."""
        raise NotImplementedError

    def _answer_of(self, seat: P, step: Try, *, waits: bool) -> Answer | AsyncAnswer:
        """Ask a member, and return its answer: an async one if the caller waits on the event loop."""
        raise NotImplementedError

    def stream(self) -> FallbackStream:
        """Stream the deltas of whichever member answers."""
        return FallbackStream(self, self._ask, self._clock)

    def astream(self) -> AsyncFallbackStream:
        """Async version of :meth:`stream`."""
        return AsyncFallbackStream(self, self._aask, self._clock)

    def read(self) -> FallbackReply:
        """Return the whole answer."""
        return self.stream().read()

    async def aread(self) -> FallbackReply:
        """Async version of :meth:`read`."""
        return await self.astream().read()

    def _ask(self, step: Try) -> Answer:
        return self._answer_of(self._seat_of(step), step, waits=False)  # type: ignore[return-value]

    def _aask(self, step: Try) -> AsyncAnswer:
        return self._answer_of(self._seat_of(step), step, waits=True)  # type: ignore[return-value]

    def _seat_of(self, step: Try) -> P:
        """Return the member to ask; members that share a request differ in name."""
        member = step.together[0] if step.together else step.member
        return next(seat for seat in self._seats if seat.member is member)

    def _fits(self) -> bool:
        asked = (params for seat in self._seats if (params := self._params_of(seat)) is not None)
        return all(fits({"messages": (), **params}) for params in asked)

    def _planned(self, request: Mapping[str, object], seat: P, step: Try) -> dict[str, object]:
        """Return the arguments of a client's call: the request, going on with what there is, in the attempt's time."""
        asked = request if self.resume is None else continued(request, self.resume)
        return {**asked, "model": step.member.name, "timeout": seat.limits(step.limits, self._limit)}
