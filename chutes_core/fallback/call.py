"""One call over several members, as a state machine without I/O.

A driver asks :meth:`Call.next` what to do (try a member, wait, or give up), does it, and reports back with
:meth:`Call.first_part`, :meth:`Call.succeeded`, :meth:`Call.failed`, :meth:`Call.unable` or :meth:`Call.cancelled`. If
an attempt is silent for as long as its step says, the driver asks :meth:`Call.beside` whom to ask beside it. All
decisions are made here, so the blocking and async drivers of both frameworks cannot differ.

Every member that may be asked is asked once before any is asked again. Health only decides who comes first, and the
retry budget pays only for asking again.

Theory of operation. A call is a sequence of attempts, and at any time exactly one of these holds: an attempt is under
way (``_current``), at times with one beside it (``_other``, see :mod:`chutes_core.fallback.hedge`), or the next step is
to be decided. What decides is kept in a few facts, each with one writer:

- ``_order``, who may be asked at all, fixed when the call begins;
- ``_asked``, who was asked in this round, ``_tried``, who was asked in any, and ``_barred``, who is not asked again;
- ``_failures`` and ``_unable``, why, for the error that ends a call without an answer;
- ``_committed``, whether a reader was given what cannot be taken back. Only the relay knows, and says so by
  ``first_part``; from then on the policy's ``after_commit`` decides what a failure leads to (``_after_text``);
- ``_going_on``, who may go on with what was given out: a list while that is being tried, and None otherwise;
- ``_final``, the error that was decided upon: after it there is no other step.

A failure concerns the account, the member or the request, and that alone says who is left. Time is read through
``now``, and the budget and health are shared with other calls, so nothing here may assume that they stand still between
two steps; that is why an attempt takes a mark of the health when it begins.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chutes_core.attempt import Attempt, Outcome
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import APIError, ChutesError, ConfigurationError, Kind, RequestRefusedError, Retry, Scope
from chutes_core.fallback.health import Health
from chutes_core.fallback.hop import Hop, blamed, together
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.members import Member, Needs, eligible, features_named
from chutes_core.fallback.order import ordered, worth_asking
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.resume import BROKEN
from chutes_core.fallback.trace import FallbackError, Receipt
from chutes_core.settings import TimeLimits
from chutes_core.usage import Usage, cost

__all__ = ["Call", "GiveUp", "Try", "Wait"]

# Failures of a model that will not pass within the call.
_LASTING = frozenset(
    {Kind.DISABLED, Kind.MODEL_NOT_FOUND, Kind.NOT_CONFIDENTIAL, Kind.UNEXPECTED, Kind.ACCOUNT_LIMIT}
    | {Kind.OWNER_PAYMENT, Kind.NOT_INCLUDED, Kind.TEE_PAYMENT, Kind.REFUSED, Kind.THINKING_LIMIT}
)
# Failures of an answer to this request: the model works, and comes last for nobody else.
_OF_THIS_REQUEST = frozenset({Kind.REFUSED, Kind.THINKING_LIMIT, Kind.NOT_RESUMED})
_PREFILL = "prefill"


@dataclass(frozen=True, slots=True)
class Try:
    """Ask a member, within timeouts.

    Attributes:
        member: The member to ask.
        limits: The timeouts.
        restart: Whether part of another answer was already delivered.
        together: The members listed in the name of ``member``; any of them makes the request.
        resume: Whether to go on with the answer that broke off.
        hedge: After how many seconds of silence another member may be asked beside it.
    """

    member: Member
    limits: TimeLimits
    restart: bool = False
    together: tuple[Member, ...] = ()
    resume: bool = False
    hedge: float | None = None


@dataclass(slots=True)
class _Attempt:
    """An attempt that is under way.

    Attributes:
        member: Who is asked.
        hop: With whom, if with others.
        since: When it began.
        began: The mark of the health then.
        before: How many characters had been given out then.
        resumed_at: The same if it goes on with them.
        first: Seconds to its first visible part.
    """

    member: Member
    hop: Hop | None
    since: float
    began: int
    before: int
    resumed_at: int | None
    first: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait, then call :meth:`Call.next` again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise ``error``."""

    error: ChutesError


class Call:
    """The state of one call.

    Args:
        members: The members, in the given order.
        policy: The fallback policy.
        health: The health of the members; every outcome is reported to it.
        needs: What the request requires of a model.
        now: The clock.
        chance: Returns a random number between 0 and 1.
        visible: Whether parts are delivered as they arrive; otherwise the answer is delivered whole, and a failed
            attempt is never seen.
        stats: The service's live statistics, for ordering by speed.

    Attributes:
        attempts: The attempts so far, in order.
        served: The member that answered.
        first_hop: ``"server"`` if the first request goes to several members at once, otherwise ``"member"``, with the
            reason if the policy asked for ``"server"``.
        given: How many characters of text were given out, where that is counted.
        first_after: Seconds until the first visible part of an answer, whoever gave it.

    >>> from chutes_core.failures.reading import failure
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
        stats: LiveStats | None = None,
    ) -> None:
        self.policy = policy
        self.health = health
        self.attempts: list[Attempt] = []
        self.served: Member | None = None
        self._needs = needs or Needs()
        self._now = now
        self._chance = chance
        self._visible = visible and policy.after_commit != "hold"
        self._started: float | None = None
        self._failures: list[APIError] = []
        self._unable: list[ChutesError] = []
        self._final: ChutesError | None = None
        self._current: _Attempt | None = None
        self._other: _Attempt | None = None
        self._hedged = False
        self.given = 0
        self.first_after: float | None = None
        self._committed = False
        self._broken: APIError | None = None  # the first failure after text was given out
        self._going_on: list[Member] | None = None  # who may go on with the answer
        self._resumed = 0  # by how many who gave some of it out
        self._cannot_go_on: set[str] = set()
        self._made = 0
        self._round = 0
        self._dead_accounts: set[str] = set()
        self._window: int | None = None
        self._barred: set[str] = set()
        self._asked: set[str] = set()  # in this round
        self._tried: set[str] = set()  # in any, by itself
        self._suspect: str | None = None
        self._may_ask_at: dict[str, float] = {}
        health.earn(policy.budget, policy.burst)
        if policy.hedge is not None:
            health.earn_hedges(policy.budget, policy.burst)
        if stats is not None and policy.ranks_live:
            stats.wanted()
        order = ordered(members, policy, health, now=now(), chance=chance, stats=stats)
        self._order, left_out = eligible(order, self._needs, policy, health.lacks)
        self._most = policy.most_attempts(len(self._order))
        self.attempts += [Attempt(member.name, "skipped", detail=reason) for member, reason in left_out]
        self.first_hop = "member"
        self._hop: Hop | None = None
        if policy.first_hop == "server":
            self._join()

    def _join(self) -> None:
        found = together(self._order, self._needs, self.policy, self._unwell)
        if isinstance(found, Hop):
            self._hop, self.first_hop = found, "server"
        else:
            self.first_hop = f"member: {found}"

    @property
    def order(self) -> Sequence[Member]:
        """The members that may be asked, in the policy's order."""
        return self._order

    @property
    def made(self) -> int:
        """The number of attempts made."""
        return self._made

    @property
    def under_way(self) -> bool:
        """Whether an attempt has no outcome yet."""
        return self._current is not None

    @property
    def two(self) -> bool:
        """Whether two attempts have no outcome yet."""
        return self._other is not None

    # --- decisions ---------------------------------------------------------------------------------

    def next(self) -> Try | Wait | GiveUp:
        """Return what to do now."""
        if self._final is not None:
            return GiveUp(self._final)
        if not self._order:
            return GiveUp(self._nobody())
        left = self._left()
        if left is not None and left <= 0:
            return self._give_up("the deadline has passed")
        if self.made >= self._most:
            return self._give_up("no more are allowed")
        if self._going_on is not None and (step := self._next_to_go_on(left)) is not None:
            return step
        if self._final is not None:
            return GiveUp(self._final)
        if self._hop is not None:
            hop, self._hop = self._hop, None
            return self._try(hop.member, left, hop)
        open_ = [member for member in self._order if self._is_open(member)]
        fresh = [member for member in open_ if member.place not in self._asked]
        if not fresh:
            return self._next_round(open_, left)
        # min() is stable: among members of the same rank the policy's order decides.
        member = min(fresh, key=self._rank)
        if member.place in self._tried and not self.health.spend():
            return self._give_up("the retry budget is used up")
        return self._try(member, left)

    def _rank(self, member: Member) -> tuple[bool, ...]:
        """Order members by what speaks against them: an account in trouble hides nobody's own health."""
        health = self.health
        known = member.place in self._tried, member.place == self._suspect
        return *known, health.unwell(member.account_key), health.unwell(member.target)

    def _next_to_go_on(self, left: float | None) -> Try | Wait | None:
        """Return who goes on with the answer; with nobody left, it has failed, or begins anew."""
        while self._going_on:
            member = self._going_on.pop(0)
            if self._may_go_on(member) and self.health.spend():
                return self._try(member, left, resume=True)
        if self.policy.after_commit == "resume_or_restart":
            self._going_on = self._broken = None  # another answer begins, and may be gone on with too
            self._cannot_go_on.clear()
            return None
        # Those who had no room, or did not begin, may go on later.
        able = [member for member in self._order if self._may_go_on(member)]
        if able and self.health.affords() and (pause := self._pause(able, left)) is not None:
            self._going_on = self._ready(able, pause)
            return Wait(pause)
        self._going_on = None
        self._fail_for_good()
        return None

    def _may_go_on(self, member: Member) -> bool:
        if self._resumed >= self.policy.resume_attempts or member.place in self._cannot_go_on:
            return False
        return self._is_open(member) and self.resumes(member)

    def resumes(self, member: Member) -> bool:
        """Return whether a member is known to go on with what was given out."""
        info = member.info
        known = info is not None and info.traits.prefill in ("as_is", "thinking_off") and "," not in member.name
        return known and _PREFILL not in self.health.lacks(member.target)

    @property
    def resumable(self) -> bool:
        """Whether there is anybody to go on with an answer."""
        own = all(member.info is not None for member in self._order)  # what others say is not ours to go on with
        return own and any(map(self.resumes, self._order))

    def hold(self) -> None:
        """Give nothing out before the answer is whole, so that no failure is seen."""
        self._visible = False

    def _try(self, member: Member, left: float | None, hop: Hop | None = None, *, resume: bool = False) -> Try:
        policy = self.policy
        self.given = self.given if resume else 0  # another answer begins
        began, at = self.health.mark(), self.given if resume else None
        self._current = _Attempt(member, hop, self._now(), began, self.given, at)
        total = _least(policy.attempt, left)
        patience = None
        if policy.learned and member.place not in self._tried and hop is None:
            patience = self.health.patience(member.target, self._needs.tokens)
        if not resume:  # who only goes on may still begin anew
            self._asked.add(member.place)
            self._tried.add(member.place)
        first_token = _least(policy.first_token, patience, total)
        limits = TimeLimits(first_token=first_token, gap=_least(policy.gap, total), total=total)
        members = hop.members if hop is not None else ()
        hedge = None
        if policy.hedge is not None and not (resume or members or self._hedged or self._committed):
            hedge = self._silence(member)
        return Try(member, limits, self._committed and not resume, members, resume, hedge)

    def _silence(self, member: Member) -> float | None:
        """Return for how long a member may be silent until another one is asked beside it."""
        hedge = self.policy.hedge
        return self.health.usual(member.target, self._needs.tokens) if hedge == "p95" else hedge

    def beside(self) -> Try | None:
        """Return whom to ask beside the member that has been silent so long; None leaves it alone, for good.

        That is the one that would come next, if it is well and :func:`worth_asking`. There is one such attempt in a
        call, and the caller has seen nothing of it or any other.
        """
        first, left, self._hedged = self._current, self._left(), True
        if first is None or self._other is not None or (left is not None and left <= 0) or self.made + 2 > self._most:
            return None
        for member in self._order:
            fresh = self._is_open(member) and member.place not in self._tried and not self._unwell(member)
            if fresh and worth_asking(first.member, member, self.policy):
                if not self.health.spend_hedge(self.policy.burst):
                    return None
                step = self._try(member, left)
                self._other = first
                return step
        return None

    def turn(self, step: Try) -> None:
        """Let what is reported from now on be of this one of the attempts that are under way."""
        if self._other is not None and self._other.member is step.member:
            self._current, self._other = self._other, self._current

    def _next_round(self, open_: Sequence[Member], left: float | None) -> Wait | GiveUp:
        """All members were asked: wait, then start over with those whose failure may have passed."""
        if not open_:
            return self._give_up()
        pause = self._pause(open_, left)
        if pause is None:
            return self._give_up("the deadline is too close for another attempt")
        ready = {member.place for member in self._ready(open_, pause)}
        if ready <= self._tried and not self.health.affords():
            return self._give_up("the retry budget is used up")
        self._asked -= ready
        return Wait(pause)

    def _pause(self, members: Sequence[Member], left: float | None) -> float | None:
        """Return how long to wait until members may be asked again; None if there is no time for it."""
        pause: float = self._chance() * min(self.policy.backoff * 2**self._round, self.policy.backoff_max)
        pause = max(pause, min(self._may_ask_at.get(member.place, 0.0) for member in members) - self._now())
        if left is not None and pause >= left:
            return None
        self._round += 1
        return pause

    def _ready(self, members: Sequence[Member], pause: float) -> list[Member]:
        then = self._now() + pause
        return [member for member in members if self._may_ask_at.get(member.place, 0.0) <= then]

    def _is_open(self, member: Member) -> bool:
        if member.place in self._barred or member.account in self._dead_accounts:
            return False
        if self._window is None:
            return True
        # After a context overflow only a window known to be larger can help.
        return member.info is not None and (member.info.context_length or 0) > self._window

    def _unwell(self, member: Member) -> bool:
        return self.health.unwell(member.target) or self.health.unwell(member.account_key)

    def _left(self) -> float | None:
        """Return the time left, which begins with the first step: a stream may be made long before it is read."""
        if self._started is None:
            self._started = self._now()
        deadline = self.policy.deadline
        return None if deadline is None else deadline - (self._now() - self._started)

    def _give_up(self, because: str = "") -> GiveUp:
        if self._broken is not None and self.policy.after_commit in ("resume", "resume_or_hold"):
            self._fail_for_good()
            return GiveUp(self._broken)
        if self._failures:
            self._final = FallbackError.of(self._failures, self.attempts, because=because)
        else:
            self._final = self._unable[0]  # nobody could be asked
        return GiveUp(self._final)

    def _nobody(self) -> ChutesError:
        reasons = "; ".join(f"{attempt.model}: {attempt.detail}" for attempt in self.attempts)
        return RequestRefusedError(
            f"No member can take this request, so nothing was sent. {reasons or 'There are no members'}."
        )

    # --- outcomes ----------------------------------------------------------------------------------

    def first_part(self, *, given_out: bool = True) -> None:
        """Record the first visible part of an answer; ``given_out`` means that the caller sees it now."""
        if (attempt := self._current) is not None and attempt.first is None:
            attempt.first = self._now() - attempt.since
            if self.first_after is None and self._started is not None:
                self.first_after = self._now() - self._started
        self._committed = self._committed or (self._visible and given_out)

    def succeeded(self, usage: Usage | None = None, receipt: Receipt | None = None) -> None:
        """Record a complete answer; ``receipt`` is what the answer reports about itself."""
        attempt = self._ended()
        named = attempt.hop.named(receipt.model) if attempt.hop is not None and receipt is not None else None
        member = self.served = named or attempt.member
        self.health.succeeded(member.target, ttft=attempt.first, size=self._needs.tokens, began=attempt.began)
        self.health.succeeded(member.account_key, began=attempt.began)
        self._record(attempt, "answered", usage=usage, receipt=receipt, info=member.info)

    def cancelled(self, usage: Usage | None = None) -> None:
        """Record that the caller cancelled; this says nothing about the member."""
        if self._current is not None:
            self._record(self._ended(), "cancelled", usage=usage)

    def outrun(self, usage: Usage | None = None) -> None:
        """Record that the member asked beside it began first; this says only how long the first one had been silent."""
        attempt, winner = self._ended(), self._current
        if winner is not None and attempt.since <= winner.since:
            self.health.outrun(attempt.member.target, self._now() - attempt.since, self._needs.tokens)
        self._record(attempt, "outrun", usage=usage)

    def unable(self, error: ChutesError) -> None:
        """Record that the member could not be asked, for a reason on this side: no key, a closed client, ….

        Nothing was sent, so it says nothing of the member's health, and only this call does without it. If there was no
        room in a budget beside another attempt, its turn comes when that one has failed.
        """
        beside, attempt = self.two, self._ended()
        place = attempt.member.place
        if beside and not isinstance(error, ConfigurationError):
            self._asked.discard(place)
            self._tried.discard(place)
        else:
            (self._barred if attempt.resumed_at is None else self._cannot_go_on).add(place)
        self._unable.append(error)
        self.attempts.append(Attempt(attempt.member.name, "skipped", detail=str(error)))

    def failed(self, error: APIError, usage: Usage | None = None, *, resumable: bool = False) -> None:
        """Record a failure.

        Args:
            error: What it is.
            usage: What the member used, if the error does not say.
            resumable: Whether what was given out of the answer can be gone on with.
        """
        attempt = self._ended()
        member, hop = attempt.member, attempt.hop
        self._failures.append(error)
        partial = error.partial_reply
        usage = (partial.usage if partial is not None else None) or usage
        self._record(attempt, "failed", error=error, usage=usage)
        if self._final is not None:  # the one beside it has decided the end of the call
            self._final = FallbackError.of(self._failures, self.attempts)
        if attempt.resumed_at is not None and self.given > attempt.resumed_at:
            self._resumed += 1
        if attempt.resumed_at is not None and error.scope is Scope.REQUEST:
            if error.kind is not Kind.CONTEXT_LENGTH:
                self.health.lacking(member.target, _PREFILL)  # what it refuses is to go on
        elif error.scope is Scope.ACCOUNT:
            self._dead_accounts.add(member.account)
            self._report(member.account_key, error, attempt)
        elif error.scope is Scope.TARGET:
            for each in (member,) if hop is None else self._blamed(hop, error):
                self._failed(each, error, attempt)
        else:
            self._refused(member, error, attempt)
        if error.kind is Kind.NOT_RESUMED:
            self.health.lacking(member.target, _PREFILL)
        if self._committed and self.policy.after_commit != "restart":
            self._after_text(error, member, resumable=resumable)

    def _after_text(self, error: APIError, member: Member, *, resumable: bool) -> None:
        """Decide what follows a failure after text was given out."""
        first = self._broken is None
        self._broken = self._broken or error
        if self.policy.after_commit == "raise":
            self._fail_for_good()
        elif not resumable or (first and error.kind not in BROKEN):
            self._going_on = []
            self._cannot_go_on |= {each.place for each in self._order}
        elif first:
            others = [each for each in self._order if each is not member]
            self._going_on = [*([member] if member.place not in self._barred else []), *others]

    def _fail_for_good(self) -> None:
        assert self._broken is not None, "text was given out"
        self._broken.attempts = self.attempts
        self._final = self._broken

    def _report(self, key: str, error: APIError, attempt: _Attempt) -> None:
        self.health.failed(key, error.kind, retry_after=error.retry_after, began=attempt.began)

    def _blamed(self, hop: Hop, error: APIError) -> tuple[Member, ...]:
        """Return the members to blame; if the answer names none, the first of the list is the last to be asked."""
        found = blamed(hop, error)
        if len(found) != 1 or found[0] is hop.member:
            self._suspect = hop.members[0].place
        return found

    def _failed(self, member: Member, error: APIError, attempt: _Attempt) -> None:
        policy, after = self.policy, error.retry_after or 0.0
        # An answer that was whole but for its end has rightly nothing to go on with.
        of_this = error.kind in _OF_THIS_REQUEST or (attempt.resumed_at is not None and error.kind is Kind.EMPTY)
        if not of_this:
            self._report(member.target, error, attempt)
        self._asked.add(member.place)
        self._may_ask_at[member.place] = self._now() + min(after, policy.retry_after_max)
        if error.kind in _LASTING or after > policy.retry_after_max:
            self._barred.add(member.place)

    def _refused(self, member: Member, error: APIError, attempt: _Attempt) -> None:
        """Handle a request at fault: no other member accepts it either, unless it can do more."""
        self._barred.add(member.place)
        if error.kind is Kind.CONTEXT_LENGTH:
            window = member.info.context_length if member.info is not None else None
            self._window = max(self._window or 0, window or getattr(error, "limit", None) or 0)
        elif error.kind is Kind.UNSUPPORTED:
            for feature in features_named(str(error)) & (self._needs.features | self._needs.modalities):
                self.health.lacking(member.target, feature)
            if attempt.hop is not None:  # it is unknown which member refused
                self._report(member.target, error, attempt)
        elif error.retry is Retry.NEVER and error.kind is Kind.ROUTE_NOT_FOUND:
            self._dead_accounts.add(member.account)  # the address is wrong for all who have it, and only for them
        elif error.retry is Retry.NEVER:
            self._final = FallbackError.of(self._failures, self.attempts)

    def _ended(self) -> _Attempt:
        attempt, self._current, self._other = self._current, self._other, None
        if attempt is None:
            raise RuntimeError("no attempt is in progress")
        return attempt

    def _record(
        self,
        attempt: _Attempt,
        outcome: Outcome,
        *,
        error: APIError | None = None,
        usage: Usage | None = None,
        receipt: Receipt | None = None,
        info: ModelInfo | None = None,
    ) -> None:
        self._made += 1
        info = info or attempt.member.info
        price = receipt.cost if receipt is not None else None
        if price is None and usage is not None and info is not None:
            price = cost(usage, info)
        self.attempts.append(
            Attempt(
                attempt.member.name,
                outcome,
                error.kind if error is not None else None,
                error.status_code if error is not None else None,
                self._now() - attempt.since,
                str(error) if error is not None else "",
                usage,
                price,
                receipt.model if receipt is not None else None,
                self.given - attempt.before,
                attempt.resumed_at,
                attempt.since - (attempt.since if self._started is None else self._started),
            )
        )


def _least(*limits: float | None) -> float | None:
    return min([limit for limit in limits if limit is not None], default=None)
