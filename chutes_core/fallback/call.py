"""One call over several members, as a state machine without I/O and without a clock of its own.

A driver asks :meth:`Call.next` what to do (try a member, wait, or give up), does it, and reports back with
:meth:`Call.first_part`, :meth:`Call.succeeded`, :meth:`Call.failed` or :meth:`Call.cancelled`. All decisions
are here, so blocking and async drivers of both frameworks cannot differ.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chutes_core.errors import APIError, ChutesError, Kind, RequestRefusedError, Retry, Scope
from chutes_core.fallback.health import Health
from chutes_core.fallback.members import Member, Needs, reason_to_skip
from chutes_core.fallback.order import ordered
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.trace import Attempt, FallbackError
from chutes_core.settings import TimeLimits
from chutes_core.usage import Usage, cost

__all__ = ["Call", "GiveUp", "Try", "Wait"]

# Failures of a model that will not have passed before the call is over.
_LASTING = frozenset(
    {Kind.DISABLED, Kind.MODEL_NOT_FOUND, Kind.NOT_CONFIDENTIAL, Kind.OWNER_PAYMENT, Kind.NOT_INCLUDED, Kind.UNEXPECTED}
)


@dataclass(frozen=True, slots=True)
class Try:
    """Ask a member, within limits. ``restart`` says that a part of another answer was given out before."""

    member: Member
    limits: TimeLimits
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait, then ask again what to do."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise."""

    error: ChutesError


class Call:
    """The state of one call.

    Args:
        members: Who can answer, in the given order.
        policy: The rules.
        health: What is known of the members; it is told of every outcome.
        needs: What the request asks of a model.
        now: The clock.
        chance: A random number between 0 and 1.
        visible: Whether parts are given out as they come; otherwise the answer is given out whole, and an
            attempt that breaks in the middle was never seen.

    >>> from chutes_core.failures import failure
    >>> call = Call([Member("acme/one"), Member("acme/two")], FallbackPolicy(), Health(), now=lambda: 0.0)
    >>> call.next().member.name
    'acme/one'
    >>> call.failed(failure(Kind.COLD)); call.next().member.name
    'acme/two'
    >>> call.succeeded(); [str(attempt) for attempt in call.attempts]
    ['acme/one: cold after 0.0 s', 'acme/two: answered after 0.0 s']
    """

    def __init__(
        self,
        members: Sequence[Member],
        policy: FallbackPolicy,
        health: Health,
        needs: Needs | None = None,
        *,
        now: Callable[[], float],
        chance: Callable[[], float] = random.random,
        visible: bool = False,
    ) -> None:
        self.policy = policy
        self.health = health
        self.attempts: list[Attempt] = []
        self.served: Member | None = None
        self._needs = needs or Needs()
        self._now = now
        self._chance = chance
        self._visible = visible
        self._started = now()
        self._failures: list[APIError] = []
        self._final: ChutesError | None = None
        self._current: Member | None = None
        self._since = self._started
        self._first: float | None = None
        self._committed = False
        self._round = 0
        self._dead_accounts: set[str] = set()
        self._window: int | None = None
        self._barred: set[str] = set()
        self._asked: set[str] = set()
        self._may_ask_at: dict[str, float] = {}
        health.earn(policy.budget, policy.burst)
        self._order = self._eligible(ordered(members, policy, health, now=self._started, chance=chance))

    @property
    def made(self) -> int:
        """How many attempts have been made."""
        return sum(attempt.outcome != "skipped" for attempt in self.attempts)

    # --- what to do --------------------------------------------------------------------------------

    def next(self) -> Try | Wait | GiveUp:
        """Decide what to do now."""
        if self._final is not None:
            return GiveUp(self._final)
        if not self._order:
            return GiveUp(self._nobody())
        left = self._left()
        if left is not None and left <= 0:
            return self._give_up("the deadline has passed")
        if self.made >= self.policy.max_attempts:
            return self._give_up("no more are allowed")
        open_ = [member for member in self._order if self._is_open(member)]
        fresh = [member for member in open_ if member.target not in self._asked]
        if not fresh:
            return self._next_round(open_, left)
        if self.made and not self.health.spend():
            return self._give_up("the retry budget is used up")
        # A stable sort: within the well and the unwell the policy's order stays.
        return self._try(min(fresh, key=self._unwell), left)

    def _try(self, member: Member, left: float | None) -> Try:
        policy = self.policy
        self._current, self._since, self._first = member, self._now(), None
        self._asked.add(member.target)
        total = _least(policy.attempt, left)
        return Try(
            member,
            TimeLimits(first_token=_least(policy.first_token, total), gap=_least(policy.gap, total), total=total),
            restart=self._committed,
        )

    def _next_round(self, open_: Sequence[Member], left: float | None) -> Wait | GiveUp:
        """Everybody has been asked: wait a little and begin again with those it may have passed for."""
        if not open_:
            return self._give_up()
        pause = self._chance() * min(self.policy.backoff * 2**self._round, self.policy.backoff_max)
        now = self._now()
        pause = max(pause, min(self._may_ask_at.get(member.target, 0.0) for member in open_) - now)
        if left is not None and pause >= left:
            return self._give_up("the deadline is too near for another try")
        self._round += 1
        ready = [member for member in open_ if self._may_ask_at.get(member.target, 0.0) <= now + pause]
        self._asked -= {member.target for member in ready}
        return Wait(pause)

    def _is_open(self, member: Member) -> bool:
        if member.target in self._barred or member.account in self._dead_accounts:
            return False
        if self._window is None:
            return True
        # After an overflow only a window that is known to be larger can help.
        return member.info is not None and (member.info.context_length or 0) > self._window

    def _unwell(self, member: Member) -> bool:
        return self.health.unwell(member.target) or self.health.unwell(_account_key(member))

    def _left(self) -> float | None:
        deadline = self.policy.deadline
        return None if deadline is None else deadline - (self._now() - self._started)

    def _give_up(self, because: str = "") -> GiveUp:
        self._final = FallbackError.of(self._failures, self.attempts, because=because)
        return GiveUp(self._final)

    def _nobody(self) -> ChutesError:
        reasons = "; ".join(f"{attempt.model}: {attempt.detail}" for attempt in self.attempts)
        return RequestRefusedError(
            f"No member can take this request, so nothing was sent. {reasons or 'There is none'}."
        )

    # --- what happened -----------------------------------------------------------------------------

    def first_part(self, *, given_out: bool = True) -> None:
        """A visible part of an answer has come; ``given_out`` says that the caller gets to see it now."""
        if self._first is None:
            self._first = self._now() - self._since
        self._committed = self._committed or (self._visible and given_out)

    def succeeded(self, usage: Usage | None = None) -> None:
        """The member's answer is whole."""
        member = self._ended()
        self.health.succeeded(member.target, ttft=self._first)
        self.health.succeeded(_account_key(member))
        self.served = member
        self._record(member, "answered", usage=usage)

    def cancelled(self) -> None:
        """The caller does not want the answer any more; that says nothing about the member."""
        if self._current is not None:
            self._record(self._ended(), "cancelled")

    def failed(self, error: APIError) -> None:
        """The member failed."""
        member = self._ended()
        self._failures.append(error)
        partial = error.partial_reply
        usage = partial.usage if partial is not None else None
        self._record(member, "failed", error=error, usage=usage)
        if error.scope is Scope.ACCOUNT:
            self._dead_accounts.add(member.account)
            self.health.failed(_account_key(member), error.kind, retry_after=error.retry_after)
        elif error.scope is Scope.TARGET:
            self.health.failed(member.target, error.kind, retry_after=error.retry_after)
            self._may_ask_at[member.target] = self._now() + min(error.retry_after or 0.0, self.policy.retry_after_max)
            if error.kind in _LASTING or (error.retry_after or 0.0) > self.policy.retry_after_max:
                self._barred.add(member.target)
        else:
            self._refused(member, error)
        if self._committed and self.policy.after_commit == "raise":
            self._final = error

    def _refused(self, member: Member, error: APIError) -> None:
        """The request is at fault: nobody else takes it either, unless they can do more."""
        self._barred.add(member.target)
        if error.kind is Kind.CONTEXT_LENGTH:
            window = member.info.context_length if member.info is not None else None
            self._window = max(self._window or 0, window or getattr(error, "limit", None) or 0)
        elif error.kind is Kind.UNSUPPORTED:
            for feature in _named(str(error)) & (self._needs.features | self._needs.modalities):
                self.health.lacking(member.target, feature)
        elif error.retry is Retry.NEVER:
            self._final = FallbackError.of(self._failures, self.attempts)

    def _ended(self) -> Member:
        member, self._current = self._current, None
        if member is None:
            raise RuntimeError("no attempt is under way")
        return member

    def _record(
        self, member: Member, outcome: str, *, error: APIError | None = None, usage: Usage | None = None
    ) -> None:
        self.attempts.append(
            Attempt(
                member.name,
                outcome,  # type: ignore[arg-type]
                error.kind if error is not None else None,
                error.status_code if error is not None else None,
                self._now() - self._since,
                str(error) if error is not None else "",
                usage,
                cost(usage, member.info) if usage is not None and member.info is not None else None,
            )
        )

    def _eligible(self, members: Sequence[Member]) -> list[Member]:
        """Leave out who cannot take this request, and say why."""
        kept: list[Member] = []
        for member in members:
            lacks = self.health.vitals(member.target).lacks
            reason = reason_to_skip(member, self._needs, self.policy, lacks=lacks)
            if reason is None and kept and _betrays(kept[0], member, self.policy):
                reason = "no confidential compute, which the members before it have"
            if reason is None:
                kept.append(member)
            else:
                self.attempts.append(Attempt(member.name, "skipped", detail=reason))
        return kept


def _betrays(first: Member, member: Member, policy: FallbackPolicy) -> bool:
    """Whether falling from one member to the other would leave confidential compute without anybody saying so.

    A model of another provider was named by hand, and the catalogue knows nothing of it: that is its user's word.
    """
    if policy.confidential is False or member.info is None:
        return False
    return first.info is not None and first.info.confidential is True and member.info.confidential is not True


def _account_key(member: Member) -> str:
    return f"account:{member.account}"


def _named(message: str) -> set[str]:
    """The capabilities that a refusal speaks of."""
    words = {
        "image": ("image", "multimodal", "vision"),
        "video": ("video",),
        "tools": ("tool", "function call"),
        "structured_outputs": ("json_schema", "structured", "schema"),
        "json_mode": ("json_object", "json mode"),
    }
    lowered = message.lower()
    return {feature for feature, hints in words.items() if any(hint in lowered for hint in hints)}


def _least(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
