"""The call: its invariants under any script of failures, and each decision by example."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import APIError, ConfigurationError, Kind, RequestRefusedError, Retry, Scope
from chutes_core.catalog.model_info import ModelInfo, Traits
from chutes_core.failures.reading import FACTS, failure
from chutes_core.fallback import Call, FallbackError, FallbackPolicy, GiveUp, Health, Member, Needs, Try, Wait
from chutes_core.testing import VirtualClock

ONE, TWO, THREE = (Member(name) for name in ("acme/one", "acme/two", "acme/three"))


def chute(name: str, **facts: Any) -> Member:
    return Member(name, info=ModelInfo(id=name, **facts))


@dataclass
class Event:
    """What an attempt comes to: how long until its first part, and how it ends."""

    kind: Kind | None = None
    first_part: float | None = None
    takes: float = 1.0
    retry_after: float | None = None
    cancel: bool = False


@dataclass
class Played:
    """A call that was driven to its end."""

    call: Call
    answers: int = 0
    error: Exception | None = None
    cancelled: bool = False
    tried: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    restarts: int = 0


def play(
    members: Sequence[Member],
    events: Callable[[Member], Event],
    *,
    policy: FallbackPolicy | None = None,
    health: Health | None = None,
    clock: VirtualClock | None = None,
    needs: Needs | None = None,
    visible: bool = False,
    chance: Callable[[], float] = lambda: 0.5,
) -> Played:
    """Drive a call as a driver does, on a virtual clock."""
    clock = clock or VirtualClock()
    health = health or Health(now=clock.now)
    call = Call(members, policy or FallbackPolicy(), health, needs, now=clock.now, chance=chance, visible=visible)
    played = Played(call)
    while True:
        step = call.next()
        if isinstance(step, GiveUp):
            played.error = step.error
            return played
        if isinstance(step, Wait):
            played.waits.append(step.seconds)
            clock.advance(step.seconds)
            continue
        played.tried.append(step.member.name)
        played.restarts += step.restart
        event = _within(events(step.member), step)
        if event.first_part is not None:
            clock.advance(event.first_part)
            call.first_part()
        clock.advance(max(event.takes - (event.first_part or 0.0), 0.0))
        if event.cancel:
            call.cancelled()
            played.cancelled = True
            return played
        if event.kind is None:
            call.succeeded()
            played.answers += 1
            return played
        call.failed(failure(event.kind, model=step.member.name, retry_after=event.retry_after))


def _within(event: Event, step: Try) -> Event:
    """Hold an event to the limits of its attempt."""
    limits = step.limits
    if (
        limits.first_token is not None
        and (event.takes if event.first_part is None else event.first_part) > limits.first_token
    ):
        return Event(Kind.FIRST_TOKEN_TIMEOUT, takes=limits.first_token)
    if limits.total is not None and event.takes > limits.total:
        return Event(Kind.TOTAL_TIMEOUT, first_part=event.first_part, takes=limits.total)
    return event


def script(*events: Event) -> Callable[[Member], Event]:
    """One event after the other, then whole answers."""
    left = iter(events)
    return lambda member: next(left, Event())


def by_member(**events: Event) -> Callable[[Member], Event]:
    return lambda member: events.get(member.name.partition("/")[2], Event())


# --- invariants --------------------------------------------------------------------------------------

KINDS = st.sampled_from(list(Kind))
EVENTS = st.builds(
    Event,
    kind=st.none() | KINDS,
    first_part=st.none() | st.floats(0, 5),
    takes=st.floats(0, 40),
    retry_after=st.none() | st.floats(0, 400),
    cancel=st.sampled_from([False] * 9 + [True]),
)
MEMBERS = st.lists(
    st.builds(
        chute,
        st.sampled_from(["acme/a", "acme/b", "acme/c", "acme/d"]),
        context_length=st.none() | st.sampled_from([1000, 2000, 4000]),
        confidential=st.none() | st.booleans(),
        price_in=st.none() | st.just(1.0),
        price_out=st.none() | st.floats(0.1, 9),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda member: member.name,
)
POLICIES = st.builds(
    FallbackPolicy,
    first_token=st.none() | st.floats(0.5, 10),
    deadline=st.none() | st.floats(10, 100),
    max_attempts=st.integers(1, 9),
    order=st.sampled_from(["given", "price", "latency", "throughput", "balanced"]),
    after_commit=st.sampled_from(["raise", "restart"]),
)


@given(MEMBERS, st.lists(EVENTS, max_size=30), POLICIES, st.booleans(), st.randoms(use_true_random=False))
def test_invariants(
    members: list[Member], events: list[Event], policy: FallbackPolicy, visible: bool, dice: random.Random
) -> None:
    """One answer or one error, within deadline and attempts; every attempt is listed once; no forbidden step."""
    clock = VirtualClock()
    played = play(members, script(*events), policy=policy, clock=clock, visible=visible, chance=dice.random)
    assert played.answers + (played.error is not None) + played.cancelled == 1
    assert played.call.made <= policy.max_attempts
    if policy.deadline is not None:
        assert clock.now() <= policy.deadline + 1e-6
    attempts = [attempt for attempt in played.call.attempts if attempt.outcome != "skipped"]
    assert [attempt.model for attempt in attempts] == played.tried
    if isinstance(played.error, FallbackError):
        failed = [attempt for attempt in attempts if attempt.outcome == "failed"]
        assert [error.kind for error in played.error.exceptions if isinstance(error, APIError)] == [
            attempt.kind for attempt in failed
        ]
    for before, after in pairwise(attempts):
        assert before.kind is not None
        assert FACTS[before.kind].retry is not Retry.NEVER, "a fault that cannot be retried costs one attempt"
        if FACTS[before.kind].scope is Scope.ACCOUNT:
            pytest.fail(f"{after.model} has the account that failed")
    confidential = [member.info.confidential for name in played.tried for member in members if member.name == name]  # type: ignore[union-attr]
    if confidential and confidential[0]:
        assert all(confidential), "confidential compute is never left"
    if played.restarts:
        assert visible
        assert policy.after_commit == "restart"


@given(MEMBERS, st.lists(EVENTS, max_size=30), POLICIES)
def test_health_is_a_function_of_the_outcomes(
    members: list[Member], events: list[Event], policy: FallbackPolicy
) -> None:
    """The same script gives the same trace and the same health, and a cancelled attempt leaves none."""
    told = []
    for _ in range(2):
        clock = VirtualClock()
        health = Health(now=clock.now)
        played = play(members, script(*events), policy=policy, clock=clock, health=health)
        told.append((played.tried, played.waits, health.snapshot()))
    assert told[0] == told[1]
    clock, health = VirtualClock(), Health()
    play(members, lambda member: Event(cancel=True, takes=1), clock=clock, health=health)
    assert health.snapshot()["members"] == {}


def test_retries_stay_within_the_budget_in_the_long_run() -> None:
    """With everything down, calls ask every member once, plus what the budget allows."""
    clock = VirtualClock()
    health = Health(now=clock.now)
    policy = FallbackPolicy(budget=0.5, burst=5, deadline=100)
    made = sum(
        play(
            [ONE, TWO, THREE], lambda member: Event(Kind.CAPACITY), policy=policy, health=health, clock=clock
        ).call.made
        for _ in range(200)
    )
    assert made <= 200 * (3 + 0.5) + 5


# --- decisions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in Kind if FACTS[kind].scope is Scope.TARGET])
def test_a_models_failure_goes_to_the_next_at_once(kind: Kind) -> None:
    """Whatever is wrong with one model, the next is asked without a wait."""
    played = play([ONE, TWO], script(Event(kind)))
    assert (played.answers, played.tried, played.waits) == (1, ["acme/one", "acme/two"], [])
    assert played.call.served is TWO


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.THINKING_LIMIT])
def test_a_model_that_would_not_answer_this_is_well(kind: Kind) -> None:
    """It is not asked again in this call, and comes first in the next one."""
    clock = VirtualClock()
    health = Health(now=clock.now)
    played = play([ONE, TWO], script(Event(kind), Event(Kind.RESET)), clock=clock, health=health)
    assert (played.answers, played.tried) == (1, ["acme/one", "acme/two", "acme/two"])
    assert play([ONE, TWO], script(), clock=clock, health=health).tried == ["acme/one"]


@pytest.mark.parametrize("kind", [Kind.BAD_REQUEST, Kind.TOO_LARGE, Kind.ROUTE_NOT_FOUND])
def test_a_bad_request_fails_in_one_attempt(kind: Kind) -> None:
    """What no model takes is not offered to another."""
    played = play([ONE, TWO], script(Event(kind)))
    assert played.tried == ["acme/one"]
    assert isinstance(played.error, FallbackError)
    assert played.error.kind is kind


def test_an_accounts_failure_skips_all_its_members() -> None:
    """A payment failure is not tried with another model of the same account, but with another account."""
    other = Member("elsewhere/model", account="other")
    played = play([ONE, TWO, other], script(Event(Kind.PAYMENT)))
    assert played.tried == ["acme/one", "elsewhere/model"]
    assert play([ONE, TWO], script(Event(Kind.PAYMENT))).tried == ["acme/one"]


@pytest.mark.parametrize("kind", [Kind.PAYMENT, Kind.MODEL_NOT_FOUND, Kind.RATE_LIMIT])
def test_the_same_model_with_another_key_is_another_member(kind: Kind) -> None:
    """A key may be empty, or may not see the model: the next one is tried at once."""
    keys = [Member("acme/one", account="first"), Member("acme/one", account="second")]
    played = play(keys, script(Event(kind)))
    assert (played.tried, played.waits, played.answers) == (["acme/one", "acme/one"], [], 1)
    assert played.call.served == keys[1]


def test_an_overflow_goes_to_a_larger_window_only() -> None:
    """Equal, smaller and unknown windows are passed over."""
    members = [
        chute("a/1", context_length=2000),
        chute("a/2", context_length=1000),
        ONE,
        chute("a/4", context_length=4000),
    ]
    assert play(members, script(Event(Kind.CONTEXT_LENGTH))).tried == ["a/1", "a/4"]


def test_members_that_cannot_take_the_request_are_left_out() -> None:
    """Tools, images, windows, prices and lists are looked at before anything is sent, and the reason is kept."""
    features = frozenset({"tools"})
    members = [
        chute("a/plain", features=frozenset()),
        chute("a/small", features=features, context_length=100),
        chute("a/blind", features=features, input_modalities=frozenset({"text"})),
        chute("a/dear", features=features, price_out=9.0),
        chute("a/rough", features=features, quantization="int4"),
        chute("a/ignored", features=features),
        chute("a/good", features=features, price_out=1.0, quantization="fp8"),
    ]
    policy = FallbackPolicy(max_price=5, ignore=("a/ignored",), quantizations=("fp8",))
    needs = Needs(features, frozenset({"image"}), 500)
    played = play(members, script(), policy=policy, needs=needs)
    assert played.tried == ["a/good"]
    assert [attempt.detail for attempt in played.call.attempts if attempt.outcome == "skipped"] == [
        "no tools",
        "window of 100 tokens is too small for 500",
        "no image input",
        "$9 is more than $5",
        "weights in int4",
        "among the members to ignore",
    ]


def test_nobody_left_is_a_refusal_with_every_reason() -> None:
    """When no member can take a request, nothing is sent and the reasons are named."""
    played = play([chute("a/plain", features=frozenset())], script(), needs=Needs(frozenset({"tools"})))
    assert isinstance(played.error, RequestRefusedError)
    assert "a/plain: no tools" in str(played.error)
    assert isinstance(play([ONE], script(), policy=FallbackPolicy(only=("x",))).error, RequestRefusedError)


def test_a_refused_capability_is_learned() -> None:
    """A member that refused images is left out of the next call with one."""
    health = Health(now=lambda: 0.0)
    needs = Needs(modalities=frozenset({"image"}))
    call = Call([ONE, TWO], FallbackPolicy(), health, needs, now=lambda: 0.0)
    call.next()
    call.failed(failure(Kind.UNSUPPORTED, "acme/one is not a multimodal model"))
    assert isinstance(step := call.next(), Try)
    assert step.member is TWO
    again = play([ONE, TWO], script(), health=health, needs=needs)
    assert again.tried == ["acme/two"]
    assert play([ONE, TWO], script(), health=health).tried == ["acme/one"]


@pytest.mark.parametrize(
    ("confidential", "tried"),
    [
        (None, ["a/tee", "b/tee", "other/model"]),
        (True, ["a/tee", "b/tee"]),
        (False, ["a/tee", "b/open", "b/tee", "other/model"]),
    ],
)
def test_confidential_compute_is_not_left_in_silence(confidential: bool | None, tried: list[str]) -> None:
    """A Chutes model without it is never next after one with it; a stranger's model only where it may be."""
    members = [
        chute("a/tee", confidential=True),
        chute("b/open", confidential=False),
        chute("b/tee", confidential=True),
        Member("other/model", account="other"),
    ]
    policy = FallbackPolicy(confidential=confidential, max_attempts=4)
    played = play(members, lambda member: Event(Kind.COLD), policy=policy)
    assert played.tried[: len(tried)] == tried
    assert set(played.tried) == set(tried)


def test_the_unwell_come_last_and_return() -> None:
    """After a failure a member is asked last for a while, and first again when that is over."""
    clock = VirtualClock()
    health = Health(now=clock.now)
    assert play([ONE, TWO], script(Event(Kind.CAPACITY)), clock=clock, health=health).tried == ["acme/one", "acme/two"]
    assert play([ONE, TWO], script(), clock=clock, health=health).tried == ["acme/two"]
    clock.advance(60)
    assert play([ONE, TWO], script(), clock=clock, health=health).tried == ["acme/one"]


def test_when_all_are_unwell_somebody_is_asked_all_the_same() -> None:
    """Health demotes and never excludes."""
    clock = VirtualClock()
    health = Health(now=clock.now)
    for member in (ONE, TWO):
        health.failed(member.target, Kind.DISABLED)
    assert play([ONE, TWO], script(), clock=clock, health=health).tried == ["acme/one"]


def test_a_second_round_comes_after_a_wait() -> None:
    """When everybody was busy they are asked again, behind a wait that is drawn and grows."""
    policy = FallbackPolicy(backoff=1, backoff_max=4, max_attempts=9)
    played = play([ONE, TWO], lambda member: Event(Kind.CAPACITY, takes=0), policy=policy, chance=lambda: 1.0)
    assert played.tried == ["acme/one", "acme/two"] * 4 + ["acme/one"]
    assert played.waits == [1, 2, 4, 4]


def test_retry_after_is_waited_for_when_all_others_failed() -> None:
    """The shortest Retry-After among the members decides, up to its limit; beyond it the member is given up."""
    policy = FallbackPolicy(retry_after_max=10)
    played = play([ONE], script(Event(Kind.RATE_LIMIT, retry_after=7)), policy=policy)
    assert (played.waits, played.answers) == ([7], 1)
    assert play([ONE], script(Event(Kind.RATE_LIMIT, retry_after=300)), policy=policy).waits == []


def test_lasting_failures_are_not_asked_again() -> None:
    """A model that is gone does not come back within a call."""
    assert play([ONE], lambda member: Event(Kind.MODEL_NOT_FOUND)).tried == ["acme/one"]


def test_each_attempt_gets_what_is_left() -> None:
    """The limits of an attempt shrink with the deadline."""
    seen: list[float | None] = []
    clock = VirtualClock()
    call = Call([ONE, TWO], FallbackPolicy(first_token=8, deadline=10), Health(), now=clock.now)
    for _ in range(2):
        step = call.next()
        assert isinstance(step, Try)
        seen.append(step.limits.first_token)
        clock.advance(7)
        call.failed(failure(Kind.COLD))
    assert seen == [8, 3]
    assert isinstance(call.next(), GiveUp)


def test_after_a_visible_part_the_policy_decides() -> None:
    """A broken answer of which a part was given out is raised as itself, or restarted behind a marker."""
    broken = Event(Kind.TRUNCATED, first_part=0.5)
    played = play([ONE, TWO], script(broken), visible=True)
    assert isinstance(played.error, APIError)
    assert played.error.kind is Kind.TRUNCATED
    restarted = play([ONE, TWO], script(broken), visible=True, policy=FallbackPolicy(after_commit="restart"))
    assert (restarted.answers, restarted.restarts) == (1, 1)
    hidden = play([ONE, TWO], script(broken))
    assert (hidden.answers, hidden.restarts) == (1, 0)


def test_orders() -> None:
    """By price, by what was seen or published of latency, by throughput, by a function; the unknown last."""
    a = chute("m/a", price_in=1.0, price_out=5.0, ttft=0.9, tps=10.0)
    b = chute("m/b", price_in=1.0, price_out=1.0, ttft=0.1, tps=5.0)
    c = Member("m/c")
    health = Health(now=lambda: 0.0)
    first = {
        order: play([c, a, b], script(), policy=FallbackPolicy(order=order), health=health).tried[0]
        for order in ("given", "price", "throughput")
    }
    assert first == {"given": "m/c", "price": "m/b", "throughput": "m/a"}
    fresh = Health(now=lambda: 0.0)
    assert play([c, a, b], script(), policy=FallbackPolicy(order="latency"), health=fresh).tried == ["m/b"]
    health.succeeded(a.target, ttft=0.01)
    assert play([c, a, b], script(), policy=FallbackPolicy(order="latency"), health=health).tried == ["m/a"]
    backwards = FallbackPolicy(order=lambda members: list(reversed(members)))
    assert play([a, b], script(), policy=backwards).tried == ["m/b"]


def test_balanced_prefers_the_cheap_and_the_lately_well() -> None:
    """Draws follow the inverse square of the price; who failed of late comes behind."""
    cheap, dear = (chute(name, price_in=price, price_out=price) for name, price in (("m/c", 1.0), ("m/d", 2.0)))
    dice = random.Random(7)
    policy = FallbackPolicy(order="balanced")
    first = [play([dear, cheap], script(), policy=policy, chance=dice.random).tried[0] for _ in range(1000)]
    assert first.count("m/c") == pytest.approx(800, abs=50)
    clock = VirtualClock()
    health = Health(now=clock.now)
    health.failed(cheap.target, Kind.RESET)
    clock.advance(20)
    assert play([dear, cheap], script(), policy=policy, clock=clock, health=health).tried == ["m/d"]


def test_an_error_tells_a_person_what_happened() -> None:
    """The message lists the attempts and says what to do; pickles and except* keep it."""
    import pickle

    played = play(
        [ONE, TWO],
        by_member(one=Event(Kind.CAPACITY), two=Event(Kind.MODEL_NOT_FOUND)),
        policy=FallbackPolicy(max_attempts=2),
    )
    error = played.error
    assert isinstance(error, FallbackError)
    assert "acme/one: capacity after 1.0 s; acme/two: model_not_found after 1.0 s" in str(error)
    assert "no more are allowed" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.attempts) == (str(error), error.attempts)
    part = error.subgroup(lambda each: isinstance(each, APIError) and each.kind is Kind.CAPACITY)
    assert isinstance(part, FallbackError)
    assert part.attempts == error.attempts
    assert (error.scope, error.retry, error.partial) == (Scope.TARGET, Retry.ELSEWHERE, "")


def test_a_report_without_an_attempt_is_a_mistake_of_the_driver() -> None:
    """Only an attempt under way can end; a cancel before any is nothing."""
    call = Call([ONE], FallbackPolicy(), Health(), now=lambda: 0.0)
    call.cancelled()
    with pytest.raises(RuntimeError):
        call.succeeded()


# ------------------------------------------------------------------------------------------------- going on


@dataclass
class Going:
    """A call whose first member died after some of its text was given out."""

    after: Any = "resume"
    now: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        members = [chute(name, traits=Traits(prefill="as_is")) for name in ("acme/one", "acme/two")]
        policy = FallbackPolicy(after_commit=self.after, **self.options)
        self.call = Call(
            members, policy, Health(now=lambda: self.now), now=lambda: self.now, chance=lambda: 0.5, visible=True
        )
        self.call.next()
        self.dies(says=20)

    def dies(self, kind: Kind = Kind.RESET, *, says: int = 0, resumable: bool = True) -> None:
        if says:
            self.call.first_part()
            self.call.given += says
        self.call.failed(failure(kind), resumable=resumable)

    def asked(self) -> str:
        """Wait as long as is said; return who is asked, with a star if it goes on."""
        while isinstance(step := self.call.next(), Wait):
            self.now += step.seconds
        return f"{step.member.name}{'*' * step.resume}" if isinstance(step, Try) else "nobody"


def test_who_has_no_room_goes_on_later() -> None:
    """A refusal at the door is no use of the answer: after a wait, those whose failure may pass are asked again."""
    going = Going()
    for _ in range(3):
        for name in ("acme/one*", "acme/two*"):
            assert going.asked() == name
            going.dies(Kind.CAPACITY)
    assert going.now > 0
    assert going.asked() == "acme/one*"


def test_only_who_gave_some_of_it_out_is_counted() -> None:
    """After so many that died in what they gave out, the failure is raised."""
    going = Going(options={"resume_attempts": 2})
    for kind, says in ((Kind.COLD, 0), (Kind.RESET, 9), (Kind.CAPACITY, 0), (Kind.RESET, 9)):
        assert going.asked().endswith("*")
        going.dies(kind, says=says)
    assert going.asked() == "nobody"
    assert [each.resumed_at for each in going.call.attempts] == [None, 20, 20, 29, 29]


def test_where_a_restart_is_allowed_nobody_waits() -> None:
    """Each is asked to go on once, and then another answer begins."""
    going = Going("resume_or_restart")
    for name in ("acme/one*", "acme/two*"):
        assert going.asked() == name
        going.dies(Kind.CAPACITY)
    assert going.asked() in ("acme/one", "acme/two")


def test_a_request_that_cannot_be_gone_on_with_is_not_tried_again() -> None:
    """Neither one whose answer cannot be continued, nor one that could not be asked on this side."""
    going = Going()
    for name in ("acme/one*", "acme/two*"):
        assert going.asked() == name
        going.call.unable(ConfigurationError("its max_tokens are used up"))
    assert going.asked() == "nobody"
    assert going.now == 0
    going = Going()
    assert going.asked() == "acme/one*"
    going.dies(says=5, resumable=False)
    assert going.asked() == "nobody"


def test_going_on_ends_with_the_budget_and_the_deadline() -> None:
    """What asking again is bounded by bounds this too."""
    going = Going(options={"budget": 0, "burst": 1})
    assert going.asked() == "acme/one*"
    going.dies(Kind.CAPACITY)
    assert going.asked() == "nobody"
    going = Going(options={"deadline": 10, "retry_after_max": 30, "backoff_max": 30, "backoff": 25})
    for _ in range(2):
        assert going.asked().endswith("*")
        going.dies(Kind.CAPACITY)
    assert going.asked() == "nobody"
    assert going.now == 0
