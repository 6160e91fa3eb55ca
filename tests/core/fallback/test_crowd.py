"""Many calls at once: nobody is kept from a healthy member, one outage counts once, and a storm stays bounded."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import Kind, Scope
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.failures.reading import FACTS
from chutes_core.fallback import FallbackError, FallbackPolicy, Health, Member
from chutes_core.fallback.health import COOLDOWN

from .crowd import OUTAGES, Crowd, Fate, down

NAMES = [f"acme/{number}" for number in range(20)]
MEMBERS = [Member(name, info=ModelInfo(id=name), pool="one") for name in NAMES]
POLICIES = {
    "default": FallbackPolicy(),
    "no budget": FallbackPolicy(budget=0, burst=0),
    "server": FallbackPolicy(first_hop="server"),
    "restart": FallbackPolicy(after_commit="restart", order="balanced"),
}


@pytest.mark.parametrize(
    ("outage", "policy", "size"),
    [*product(OUTAGES, POLICIES, [1, 20, 40, 100]), ("capacity", "default", 1_000), ("hang", "server", 1_000)],
)
def test_every_call_of_a_burst_is_whole(outage: str, policy: str, size: int) -> None:
    """However many come at once: the first attempt at each member is free, and the budget says nothing of it."""
    for members, broken in ((2, 1), (3, 2), (5, 1)):
        crowd = Crowd(MEMBERS[:members], down(outage, *NAMES[:broken]), POLICIES[policy])
        callers = crowd.run(*[0.0] * size)
        assert [caller.answers for caller in callers] == [1] * size
        assert crowd.requests <= size * (broken + 2)


@pytest.mark.parametrize("size", [1, 40])
@pytest.mark.parametrize("outage", OUTAGES)
def test_a_cap_that_has_room_for_every_member_is_no_hindrance(outage: str, size: int) -> None:
    """With as many attempts as members, and one more where the first asks several of them."""
    for hop in ("member", "server"):
        policy = FallbackPolicy(max_attempts=3, first_hop=hop)  # type: ignore[arg-type]
        crowd = Crowd(MEMBERS[:3], down(outage, NAMES[0]), policy)
        assert all(caller.answers == 1 for caller in crowd.run(*[0.0] * size))


def test_the_default_cap_has_room_for_every_member() -> None:
    """The last of twenty is asked, too; a cap that was set is kept."""
    crowd = Crowd(MEMBERS, down("capacity", *NAMES[:19]))
    assert crowd.run(0.0)[0].answers == 1
    (caller,) = Crowd(MEMBERS, down("capacity", *NAMES[:19]), FallbackPolicy(max_attempts=5)).run(0.0)
    assert isinstance(caller.error, FallbackError)
    assert caller.asked == NAMES[:5]


def test_a_list_that_the_service_does_not_work_through_costs_nobody_the_answer() -> None:
    """A first hop that fails for all of its members keeps no call from asking them one by one, budget or not."""
    policy = FallbackPolicy(first_hop="server", budget=0, burst=0, max_attempts=2)
    crowd = Crowd(MEMBERS[:2], lambda name, now: Fate(Kind.CAPACITY) if name == NAMES[0] else Fate(), policy)
    crowd._meets = lambda step: crowd.fate(step.together[0].name if step.together else step.member.name, crowd.now)  # type: ignore[method-assign]
    assert all(caller.answers == 1 for caller in crowd.run(*[0.0] * 100))


@pytest.mark.parametrize("outage", ["capacity", "reset", "hang"])
def test_a_storm_is_held_back(outage: str) -> None:
    """While all members fail, requests are members and budget: each member once a call, and again what was earned."""
    for size, budget, burst in ((100, 0.0, 0.0), (100, 0.0, 20.0), (200, 0.5, 20.0)):
        policy = FallbackPolicy(budget=budget, burst=burst, deadline=None)
        crowd = Crowd(MEMBERS[:3], down(outage, *NAMES[:3]), policy)
        callers = crowd.run(*(number / 10 for number in range(size)))
        assert all(isinstance(caller.error, FallbackError) for caller in callers)
        assert all(set(caller.asked) == set(NAMES[:3]) for caller in callers)
        assert 3 * size <= crowd.requests <= 3 * size + burst + budget * size


def test_without_a_budget_nobody_waits_for_a_round_that_will_not_be() -> None:
    """The error comes as soon as every member was asked."""
    (caller,) = Crowd(MEMBERS[:2], down("capacity", *NAMES[:2]), FallbackPolicy(budget=0, burst=0)).run(0.0)
    assert caller.ended == pytest.approx(0.2)
    assert "the retry budget is used up" in str(caller.error)


# --- one outage counts once --------------------------------------------------------------------------


@pytest.mark.parametrize("outage", ["capacity", "reset", "hang"])
@pytest.mark.parametrize("size", [1, 4, 16, 100])
def test_one_outage_counts_once(size: int, outage: str) -> None:
    """The first member comes last for as long as if one call had met its outage, and so does the account."""
    kind = OUTAGES[outage][0]
    crowd = Crowd(MEMBERS[:2], down(outage, NAMES[0]))
    crowd.run(*[0.0] * size)
    vitals = crowd.health.vitals(MEMBERS[0].target)
    assert (vitals.failures, vitals.in_a_row, vitals.last_failure) == (
        size,
        1,
        pytest.approx(min(OUTAGES[outage][1], 20)),
    )
    assert vitals.unwell_until - vitals.last_failure == COOLDOWN.get(kind, 5.0)


@pytest.mark.parametrize("kind", [Kind.PAYMENT, Kind.AUTHENTICATION])
def test_an_accounts_trouble_counts_once(kind: Kind) -> None:
    """Like that of a model."""
    crowd = Crowd(MEMBERS[:2], lambda name, now: Fate(kind, 0.1))
    crowd.run(*[0.0] * 16)
    vitals = crowd.health.vitals(MEMBERS[0].account_key)
    assert (vitals.failures, vitals.in_a_row, vitals.unwell_until) == (16, 1, pytest.approx(60.1))


def test_a_second_outage_counts_again() -> None:
    """A call that began after the last failure meets a new one, which doubles the time, for all who meet it."""
    crowd = Crowd(MEMBERS[:2], down("capacity", NAMES[0]))
    crowd.run(*[0.0] * 16, *[10.0] * 16, *[30.0] * 16)
    vitals = crowd.health.vitals(MEMBERS[0].target)
    assert (vitals.failures, vitals.in_a_row, vitals.unwell_until) == (48, 3, pytest.approx(30.1 + 20))


BLIPS = st.lists(
    st.tuples(
        st.sampled_from([Kind.CAPACITY, Kind.RESET, Kind.STALL, Kind.TRUNCATED]),
        st.floats(0, 30),  # when it shows
        st.none() | st.floats(0, 200),  # what it asks to wait for
    ),
    min_size=1,
    max_size=12,
)


@given(BLIPS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_any_interleaving_of_one_outage(
    failures: list[tuple[Kind, float, float | None]], before: int, dice: random.Random
) -> None:
    """Whatever shows of it, in whichever order, it is one failure in a row, for as long as the longest alone says."""
    now = [0.0]
    health = Health(now=lambda: now[0])
    for _ in range(before):
        health.failed("a", Kind.CAPACITY, began=health.mark())
    standing = health.vitals("a").unwell_until
    marks = [health.mark() for _ in failures]
    order = list(zip(failures, marks, strict=True))
    dice.shuffle(order)
    order.sort(key=lambda each: each[0][1])
    for (kind, when, asked), mark in order:
        now[0] = when
        health.failed("a", kind, retry_after=asked, began=mark)
    alone = [when + max(COOLDOWN.get(kind, 5.0) * 2**before, asked or 0.0) for kind, when, asked in failures]
    vitals = health.vitals("a")
    assert (vitals.in_a_row, vitals.failures) == (before + 1, before + len(failures))
    assert vitals.unwell_until == pytest.approx(max(standing, *alone))


def test_what_began_before_a_failure_does_not_end_it() -> None:
    """An answer that was under way when the member went down says nothing of how it is now; a new one does."""
    health = Health(now=lambda: 0.0)
    early = health.mark()
    health.failed("a", Kind.CAPACITY, began=health.mark())
    health.succeeded("a", began=early)
    assert (health.unwell("a"), health.vitals("a").successes) == (True, 1)
    health.succeeded("a", began=health.mark())
    assert not health.unwell("a")
    health.failed("a", Kind.STALL, began=early)  # a late report of the same outage
    assert health.vitals("a").in_a_row == 0
    assert health.vitals("a").unwell_until == 15


def test_marks_hold_for_what_is_restored() -> None:
    """What is under way when a health is restored began before the failures in it."""
    health, other = Health(now=lambda: 0.0), Health(now=lambda: 0.0)
    other.failed("a", Kind.CAPACITY)
    began = health.mark()
    health.restore(other.snapshot())
    health.failed("a", Kind.CAPACITY, began=began)
    assert health.vitals("a").in_a_row == 1
    health.failed("a", Kind.CAPACITY, began=health.mark())
    assert health.vitals("a").in_a_row == 2


def test_an_account_in_trouble_hides_no_members_health() -> None:
    """Among its members the one that failed comes last all the same, and those of another account come first."""
    crowd = Crowd(MEMBERS[:2], lambda name, now: Fate())
    crowd.health.failed(MEMBERS[0].account_key, Kind.PAYMENT)
    crowd.health.failed(MEMBERS[0].target, Kind.STALL)
    other = replace(MEMBERS[2], account="other")
    crowd.health.failed(other.target, Kind.CAPACITY)
    assert crowd.run(0.0)[0].asked == [NAMES[1]]
    crowd.members = [*MEMBERS[:2], other]
    assert crowd.run(0.0)[1].asked == [NAMES[1]], "an answer has cleared the account"
    crowd.health.failed(MEMBERS[0].account_key, Kind.PAYMENT)
    assert crowd.run(0.0)[2].asked == [NAMES[2]]


# --- any crowd ---------------------------------------------------------------------------------------


MARKED = {kind for kind in Kind if FACTS[kind].scope is Scope.TARGET}
MARKED -= {Kind.REFUSED, Kind.THINKING_LIMIT, Kind.NOT_RESUMED}
FATES = st.builds(
    Fate,
    kind=st.sampled_from([None] * 3 + [kind for kind in Kind if FACTS[kind].scope is not Scope.REQUEST]),
    takes=st.sampled_from([0.0, 0.1, 1.0, 7.0, 1e9]),
    retry_after=st.sampled_from([None, None, None, 3.0, 300.0]),
    first_part=st.sampled_from([None, None, 0.05]),
    leaves=st.sampled_from([False] * 9 + [True]),
)


@given(
    st.lists(FATES, min_size=1, max_size=12),
    st.lists(st.sampled_from([0.0, 0.0, 0.1, 1.0, 6.0, 40.0]), min_size=1, max_size=25),
    st.builds(
        FallbackPolicy,
        first_token=st.sampled_from([2.0, 5.0]),
        deadline=st.sampled_from([None, 20.0, 60.0]),
        max_attempts=st.sampled_from([2, 4, 12]),
        after_commit=st.sampled_from(["raise", "restart"]),
        first_hop=st.sampled_from(["member", "server"]),
        budget=st.sampled_from([0.0, 0.5, 2.0]),
        burst=st.sampled_from([0.0, 3.0, 20.0]),
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_crowd(
    fates: list[Fate], begins: list[float], policy: FallbackPolicy, visible: bool, dice: random.Random
) -> None:
    """One answer or one error each, within deadline, cap and budget; nobody unasked; health is what was recorded."""
    members = [*MEMBERS[:3], replace(MEMBERS[3], account="other")]
    crowd = Crowd(members, lambda name, now: dice.choice(fates), policy, chance=dice.random, visible=visible)
    callers = crowd.run(*begins)
    again = 0
    for caller in callers:
        attempts = caller.call.attempts
        assert caller.answers + (caller.error is not None) + caller.left == 1  # I1
        assert policy.deadline is None or caller.ended - caller.begun <= policy.deadline + 1e-6  # I4
        assert len(attempts) <= policy.most_attempts(4)
        assert [each.model for each in attempts] == caller.asked  # I5
        assert [each.outcome for each in attempts].count("answered") == caller.answers
        assert all((each.kind is not None) == (each.outcome == "failed") for each in attempts)
        again += len(caller.asked) - len(set(caller.asked))
        if isinstance(caller.error, FallbackError) and "budget" in caller.error.message:
            kinds = [each.kind for each in attempts if each.kind is not None]
            dead = any(FACTS[kind].scope is Scope.ACCOUNT for kind in kinds)
            assert dead or {member.name for member in members} <= set(caller.asked), "nobody is kept from a member"
    assert again <= policy.burst + policy.budget * len(callers)  # I9
    for member in members if policy.first_hop == "member" else ():  # I8, I10
        own = [each for caller in callers for each in caller.call.attempts if each.model == member.name]
        vitals = crowd.health.vitals(member.target)
        assert vitals.successes == sum(each.outcome == "answered" for each in own)
        assert vitals.failures == sum(each.kind in MARKED for each in own)
