"""Health: a model of it in plain words, kept in step under any outcomes; shared, written, restored."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chutes_core import Kind
from chutes_core.fallback import Health

KEYS = st.sampled_from(["a", "b"])


class HealthModel(RuleBasedStateMachine):
    """Health beside a naive account of the same outcomes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.health = Health(now=lambda: self.now)
        self.told: dict[str, list[Kind | None]] = {}
        self.begun: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
        self.row = {"a": 0, "b": 0}
        self.lacks: dict[str, set[str]] = {"a": set(), "b": set()}
        self.earned = 0.0
        self.spent = 0

    @rule(key=KEYS)
    def succeed(self, key: str) -> None:
        self.health.succeeded(key, ttft=1.0)
        self.told.setdefault(key, []).append(None)
        assert not self.health.unwell(key)
        self.row[key] = 0

    @rule(key=KEYS)
    def begin(self, key: str) -> None:
        self.begun[key].append((self.health.mark(), len(self.told.get(key, []))))

    def since(self, place: int, key: str) -> bool:
        """Whether the member has failed since an attempt began."""
        return any(kind is not None for kind in self.told.get(key, [])[place:])

    @rule(key=KEYS, which=st.integers(0, 9), kind=st.none() | st.sampled_from(list(Kind)))
    def end(self, key: str, which: int, kind: Kind | None) -> None:
        if not self.begun[key]:
            return
        mark, place = self.begun[key].pop(which % len(self.begun[key]))
        before, overlaps = self.health.vitals(key), self.since(place, key)
        if kind is None:
            self.health.succeeded(key, began=mark)
            assert self.health.unwell(key) == (overlaps and before.unwell_until > self.now)
            self.row[key] = self.row[key] if overlaps else 0
        else:
            self.health.failed(key, kind, began=mark)
            assert self.health.unwell(key)
            self.row[key] += not overlaps
        self.told.setdefault(key, []).append(kind)

    @rule(key=KEYS, kind=st.sampled_from(list(Kind)))
    def fail(self, key: str, kind: Kind) -> None:
        self.health.failed(key, kind)
        self.told.setdefault(key, []).append(kind)
        self.row[key] += 1
        assert self.health.unwell(key)

    @rule(key=KEYS, asked=st.floats(0, 1000))
    def fail_and_ask_for_time(self, key: str, asked: float) -> None:
        self.health.failed(key, Kind.RATE_LIMIT, retry_after=asked)
        self.told.setdefault(key, []).append(Kind.RATE_LIMIT)
        self.row[key] += 1
        left = self.health.vitals(key).unwell_until - self.now
        assert min(max(asked, 5), 300) - 1e-6 <= left <= 300 + 1e-6

    @rule(key=KEYS, feature=st.sampled_from(["image", "tools"]))
    def refuse(self, key: str, feature: str) -> None:
        self.health.lacking(key, feature)
        self.told.setdefault(key, [])
        self.lacks[key].add(feature)

    @rule(share=st.sampled_from([0.0, 0.5, 2.0]), wanted=st.integers(0, 4))
    def call(self, share: float, wanted: int) -> None:
        self.health.earn(share, 3)
        self.earned += share
        self.spent += sum(self.health.spend() for _ in range(wanted))
        assert self.spent <= 3 + self.earned

    @rule(key=KEYS)
    def look(self, key: str) -> None:
        seen = self.health.vitals(key)
        seen.failures += 100
        seen.unwell_until = float("inf")
        assert self.health.vitals(key) != seen

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if seconds >= 300:
            assert not any(self.health.unwell(key) for key in ("a", "b"))

    @rule()
    def travel(self) -> None:
        there = Health(now=lambda: 1000.0)
        there.restore(self.health.snapshot())
        for key in ("a", "b"):
            assert there.unwell(key) == self.health.unwell(key)
        back = Health(now=lambda: self.now)
        back.restore(there.snapshot())
        self.health = back
        self.begun = {"a": [], "b": []}  # attempts do not travel

    @invariant()
    def counts_are_the_outcomes(self) -> None:
        for key in ("a", "b"):
            told, vitals = self.told.get(key, []), self.health.vitals(key)
            assert vitals.successes == told.count(None)
            assert vitals.failures == len(told) - told.count(None)
            assert vitals.last_kind == next((kind for kind in reversed(told) if kind is not None), None)
            assert vitals.lacks == self.health.lacks(key) == self.lacks[key]
            assert vitals.in_a_row == min(self.row[key], 10)


HealthModel.TestCase.__doc__ = (
    "It agrees with a naive account under any outcomes: counts, times, refusals, budget, travel."
)
HealthModel.TestCase.settings = settings(max_examples=30, stateful_step_count=30)
TestHealthModel = HealthModel.TestCase


def test_failures_in_a_row_count_for_longer() -> None:
    """Each failure in a row doubles the time, up to a bound; a success ends it."""
    health = Health(now=lambda: 0.0)
    until = []
    for _ in range(9):
        health.failed("a", Kind.CAPACITY)
        until.append(health.vitals("a").unwell_until)
    assert until == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    health.succeeded("a")
    health.failed("a", Kind.CAPACITY)
    assert health.vitals("a").unwell_until == 5


def test_a_retry_after_is_kept_in_mind() -> None:
    """A member that asks for more time than usual gets it, up to the bound."""
    health = Health(now=lambda: 0.0)
    health.failed("a", Kind.CAPACITY, retry_after=60)
    assert health.vitals("a").unwell_until == 60
    health.failed("b", Kind.CAPACITY, retry_after=9999)
    assert health.vitals("b").unwell_until == 300


def test_latency_is_a_moving_mean() -> None:
    """Each success moves the mean by a fifth."""
    health = Health()
    health.succeeded("a", ttft=1.0)
    health.succeeded("a", ttft=2.0)
    assert health.vitals("a").ttft == pytest.approx(1.2)


def test_the_budget_is_earned_and_spent() -> None:
    """It begins full, is capped, and an empty one refuses."""
    health = Health()
    health.earn(0.5, 2)
    assert [health.spend() for _ in range(3)] == [True, True, False]
    health.earn(0.5, 2)
    health.earn(0.5, 2)
    assert health.spend()
    assert Health().spend(), "without a policy there is no limit"


def test_threads_may_share_it() -> None:
    """Outcomes from many threads are all counted."""
    health = Health()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: health.succeeded("a") if n % 2 else health.failed("a", Kind.RESET), range(2000)))
    assert (health.vitals("a").successes, health.vitals("a").failures) == (1000, 1000)


def test_it_travels_in_pickles_and_is_shared_by_copies() -> None:
    """A pickle carries it to another process; a deep copy of a model keeps the same health."""
    health = Health()
    health.failed("a", Kind.COLD)
    health.lacking("a", "image")
    other = pickle.loads(pickle.dumps(health))
    assert other.unwell("a")
    assert other.vitals("a").lacks == {"image"}
    assert copy.deepcopy(health) is health


def test_a_table_for_a_person() -> None:
    """str shows who is well and who is not; repr is short."""
    health = Health(now=lambda: 0.0)
    health.succeeded("|acme/one", ttft=0.5)
    health.failed("|acme/two", Kind.COLD)
    lines = str(health).splitlines()
    assert lines[1].split() == ["acme/one", "1", "0", "0.50", "s", "well"]
    assert lines[2].endswith("last for 30 s (cold)")
    assert repr(health) == "Health(2 members)"


def test_the_table_lines_up_whatever_the_names() -> None:
    """The first column is as wide as the longest name, and a host shows only where hosts differ."""
    health = Health(now=lambda: 0.0)
    health.succeeded("http://127.0.0.1:40137/v1|google/gemma-4-31B-turbo-TEE", ttft=0.5)
    health.succeeded("http://127.0.0.1:40137/v1|a")
    health.failed("account:default", Kind.PAYMENT)
    head, *rows = str(health).splitlines()
    assert [row.split()[0] for row in rows] == ["account:default", "a", "google/gemma-4-31B-turbo-TEE"]
    assert {row.index("well") for row in rows[1:]} == {head.index("now")} == {rows[0].index("last for")}
    health.succeeded("https://elsewhere.test/v1|a")
    assert "http://127.0.0.1:40137/v1|a " in str(health)
    assert len({line.index(word) for line, word in zip(str(health).splitlines()[2:], ["well"] * 3, strict=True)}) == 1


def test_nonsense_is_not_restored() -> None:
    """Data of another form restores to nothing and raises nothing."""
    health = Health(now=lambda: 0.0)
    health.restore({"members": {"a": 7, "b": {"last_kind": "unheard of", "lacks": "x"}}, "budget": "lots"})
    assert health.vitals("b").last_kind is None
    health.restore({"members": None})
    assert repr(health) == "Health(0 members)"


def test_hedges_have_half_of_the_burst_and_a_twentieth_of_the_budget() -> None:
    """They are attempts of the retry budget, leave half of it, and come back slowly, whatever else is spent."""
    health = Health()
    assert not health.spend_hedge(8), "before the first call"
    health.earn(5, 8)
    health.earn_hedges(5, 8)
    assert [health.spend_hedge(8) for _ in range(5)] == [True, True, True, True, False]
    assert [health.spend() for _ in range(5)] == [True, True, True, True, False]
    for _ in range(3):
        health.earn(5, 8)
        health.earn_hedges(5, 8)
    assert not health.spend_hedge(8), "three quarters of one"
    health.earn_hedges(5, 8)
    assert [health.spend_hedge(8) for _ in range(2)] == [True, False]


def test_hedges_leave_the_half_that_is_for_asking_again() -> None:
    """Where asking again has used up half of it, nobody is asked beside."""
    health = Health()
    health.earn(1, 8)
    health.earn_hedges(1, 8)
    for _ in range(4):
        assert health.spend()
    assert not health.spend_hedge(8)


def test_who_is_outrun_is_as_slow_as_that() -> None:
    """Not an answer and not a failure: only how long it had been silent, unless it usually takes longer."""
    health = Health()
    health.outrun("a", 3.0, 10)
    health.outrun("a", 1.0, 10)
    vitals = health.vitals("a")
    assert (vitals.ttft, vitals.recent) == (3.0, ((3.0, 10),))
    assert (vitals.successes, vitals.failures, health.unwell("a")) == (0, 0, False)
    health.outrun("a", 8.0, 10)
    assert health.vitals("a").ttft == pytest.approx(4.0)
