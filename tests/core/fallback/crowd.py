"""A crowd: many calls at once over members that fail, hang and recover, in virtual time, without I/O or threads."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from chutes_core import APIError, Kind, RequestRefusedError
from chutes_core.errors import ChutesError
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackPolicy, GiveUp, Health, Member, Try, Wait

OUTAGES = {
    "capacity": (Kind.CAPACITY, 0.1),
    "cold": (Kind.COLD, 0.05),
    "reset": (Kind.RESET, 0.4),
    "hang": (Kind.FIRST_TOKEN_TIMEOUT, 1e9),
}
"""By name: the failure, and after how long it shows."""


@dataclass(frozen=True)
class Fate:
    """What an attempt comes to: a whole answer, or a failure, and when."""

    kind: Kind | None = None
    takes: float = 0.5
    retry_after: float | None = None
    first_part: float | None = None
    leaves: bool = False
    refused: ChutesError | None = None

    def within(self, step: Try) -> Fate:
        """Hold it to the limits of its attempt."""
        begins = self.takes if self.first_part is None else self.first_part
        if step.limits.first_token is not None and begins > step.limits.first_token:
            return Fate(Kind.FIRST_TOKEN_TIMEOUT, step.limits.first_token)
        if step.limits.total is not None and self.takes > step.limits.total:
            return Fate(Kind.TOTAL_TIMEOUT, step.limits.total, first_part=self.first_part)
        return self


@dataclass
class Caller:
    """A call and what became of it."""

    call: Call
    begun: float
    asked: list[str] = field(default_factory=list)
    answers: int = 0
    error: ChutesError | None = None
    left: bool = False
    ended: float = 0.0


@dataclass
class Crowd:
    """Members that all calls share, and the one clock.

    Args:
        members: The members.
        fate: What an attempt at a member comes to that begins at a time.
        policy: The policy of every call.
    """

    members: Sequence[Member]
    fate: Callable[[str, float], Fate]
    policy: FallbackPolicy = field(default_factory=FallbackPolicy)
    chance: Callable[[], float] = lambda: 0.5
    visible: bool = False
    health: Health = field(init=False)
    now: float = 0.0
    callers: list[Caller] = field(default_factory=list)
    requests: int = 0

    def __post_init__(self) -> None:
        self.health = Health(now=lambda: self.now)

    def run(self, *begins: float) -> list[Caller]:
        """Make a call at each of these times, and let all of them come to their end."""
        numbers = itertools.count()
        due = [(begin, next(numbers), self._call()) for begin in begins]
        heapq.heapify(due)
        while due:
            self.now, _, caller = heapq.heappop(due)
            seconds = next(caller, None)
            if seconds is not None:
                heapq.heappush(due, (self.now + seconds, next(numbers), caller))
        return self.callers

    def _call(self) -> Generator[float, None, None]:
        call = Call(
            self.members, self.policy, self.health, now=lambda: self.now, chance=self.chance, visible=self.visible
        )
        caller = Caller(call, self.now)
        self.callers.append(caller)
        yield from self._steps(caller)
        caller.ended = self.now

    def _steps(self, caller: Caller) -> Generator[float, None, None]:
        call = caller.call
        while True:
            step = call.next()
            if isinstance(step, GiveUp):
                caller.error = step.error
                return
            if isinstance(step, Wait):
                yield step.seconds
                continue
            caller.asked.append(step.member.name)
            fate = self._meets(step)
            if fate.refused is not None:
                if isinstance(fate.refused, RequestRefusedError):
                    call.cancelled()
                    caller.error = fate.refused
                    return
                call.unable(fate.refused)
                continue
            self.requests += 1
            if fate.first_part is not None:
                yield fate.first_part
                call.first_part()
            yield max(fate.takes - (fate.first_part or 0.0), 0.0)
            if fate.leaves:
                call.cancelled()
                caller.left = True
                return
            if fate.kind is None:
                call.succeeded()
                caller.answers += 1
                return
            call.failed(self._error(step, fate))

    def _meets(self, step: Try) -> Fate:
        """Return what the attempt meets; the service goes on in a list where one has no room."""
        fate = Fate()
        for member in step.together or (step.member,):
            fate = self.fate(member.name, self.now)
            if fate.kind not in (Kind.CAPACITY, Kind.COLD):
                break
        return fate.within(step)

    @staticmethod
    def _error(step: Try, fate: Fate) -> APIError:
        assert fate.kind is not None
        return failure(fate.kind, model=step.member.name, retry_after=fate.retry_after)


def down(outage: str, *names: str) -> Callable[[str, float], Fate]:
    """Some members have an outage, and the others answer."""
    kind, takes = OUTAGES[outage]
    return lambda name, now: Fate(kind, takes) if name in names else Fate()
