"""Asking a second member beside a silent one: whom, when, who wins, and what is recorded; without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from chutes_core import APIError, BudgetExceededError, ConfigurationError, FallbackError, Kind
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.failures.reading import failure
from chutes_core.fallback import Attempt, Call, FallbackPolicy, GiveUp, Health, Member, Try
from chutes_core.fallback.hedge import Ask, Await, Drop, Heard, Reader, race
from chutes_core.fallback.order import worth_asking
from chutes_core.fallback.relay import Relay
from chutes_core.response import Choice, Delta, Reply
from chutes_core.usage import Usage

HEDGED = FallbackPolicy(hedge=2, deadline=60)
HEARD = Reply("1", "acme/one", (Choice(0, "", "", (), (), None),), Usage(9, 0, 9))


def member(name: str, price: float | None = 1.0, **facts: Any) -> Member:
    info = ModelInfo(id=name, price_in=price, price_out=price, context_length=8_000)
    return Member(name, info=info, **facts)


ONE, TWO, THREE = member("acme/one"), member("acme/two"), member("acme/three")


@dataclass
class Stage:
    """A call over members, at a time of its own."""

    policy: FallbackPolicy = HEDGED
    members: tuple[Member, ...] = (ONE, TWO, THREE)
    visible: bool = True
    now: float = 0.0
    health: Health = field(init=False)

    def __post_init__(self) -> None:
        self.health = Health(now=lambda: self.now)

    def call(self) -> Call:
        return Call(
            self.members, self.policy, self.health, now=lambda: self.now, chance=lambda: 0.0, visible=self.visible
        )

    def hedged(self) -> tuple[Call, Try, Try]:
        """Return a call in which a second member was asked beside the first."""
        call = self.call()
        first = call.next()
        assert isinstance(first, Try)
        self.now += 2
        second = call.beside()
        assert second is not None
        return call, first, second


def asked(step: object) -> str:
    assert isinstance(step, Try)
    return step.member.name


def told(call: Call) -> list[tuple[str, str]]:
    return [(each.model, each.outcome) for each in call.attempts]


def test_nothing_is_asked_beside_by_default() -> None:
    """Without the setting no step says when."""
    step = Stage(FallbackPolicy()).call().next()
    assert isinstance(step, Try)
    assert step.hedge is None


def test_the_one_that_would_come_next_is_asked() -> None:
    """The step says after how long; the second attempt has limits of its own, and no other one beside it."""
    call, first, second = Stage().hedged()
    assert (asked(first), first.hedge) == ("acme/one", 2)
    assert (asked(second), second.hedge, second.restart, second.resume) == ("acme/two", None, False, False)
    assert second.limits.total == 58
    assert call.beside() is None, "there is one in a call"


@pytest.mark.parametrize(
    ("winner", "recorded"),
    [
        ("acme/two", [("acme/one", "outrun"), ("acme/two", "answered")]),
        ("acme/one", [("acme/two", "outrun"), ("acme/one", "answered")]),
    ],
)
def test_the_loser_is_neither_an_answer_nor_a_failure(winner: str, recorded: list[tuple[str, str]]) -> None:
    """It has an outcome of its own, with what it used; health knows only how long the first one had been silent."""
    stage = Stage()
    call, first, second = stage.hedged()
    won, lost = (first, second) if winner == "acme/one" else (second, first)
    stage.now += 1
    call.turn(won)
    call.first_part()
    call.turn(lost)
    call.outrun(Usage(9, 0, 9))
    call.turn(won)
    call.succeeded(Usage(9, 3, 12))
    assert told(call) == recorded
    assert call.served is not None
    assert call.served.name == winner
    assert (call.attempts[0].usage, call.attempts[0].cost) == (Usage(9, 0, 9), pytest.approx(9e-6))
    assert [each.elapsed for each in call.attempts] == ([3, 1] if winner == "acme/two" else [1, 3])
    vitals = {each.name: stage.health.vitals(each.target) for each in (ONE, TWO)}
    assert vitals[winner].successes == 1
    assert vitals[winner].ttft == (1 if winner == "acme/two" else 3)
    del vitals[winner]
    (loser,) = vitals.values()
    assert (loser.successes, loser.failures, loser.last_failure, loser.unwell_until) == (0, 0, None, 0.0)
    assert loser.ttft == (3 if winner == "acme/two" else None), "one that was asked just now was hardly silent"


def test_one_that_fails_leaves_the_other_alone() -> None:
    """Whichever it is, its failure counts, and the other one answers."""
    for fails in (0, 1):
        stage = Stage()
        call, *steps = stage.hedged()
        call.turn(steps[fails])
        call.failed(failure(Kind.COLD))
        assert call.under_way
        call.first_part()
        call.succeeded()
        assert told(call) == [(asked(steps[fails]), "failed"), (asked(steps[1 - fails]), "answered")]
        assert stage.health.vitals(steps[fails].member.target).failures == 1


def test_when_both_fail_the_call_goes_on() -> None:
    """The next member is asked as usual, and nobody beside it."""
    call, first, second = Stage().hedged()
    for step in (second, first):
        call.turn(step)
        call.failed(failure(Kind.RESET))
    assert not call.under_way
    third = call.next()
    assert asked(third) == "acme/three"
    assert isinstance(third, Try)
    assert third.hedge is None


def test_a_request_that_is_wrong_ends_the_call_when_both_have() -> None:
    """What one of them was refused for is so everywhere; the error has the failure of the other one too."""
    call, first, second = Stage().hedged()
    call.turn(second)
    call.failed(failure(Kind.BAD_REQUEST, "no such parameter"))
    call.turn(first)
    call.failed(failure(Kind.RESET))
    step = call.next()
    assert isinstance(step, GiveUp)
    assert isinstance(step.error, FallbackError)
    assert [each.kind for each in step.error.attempts] == [Kind.BAD_REQUEST, Kind.RESET]
    assert len(step.error.exceptions) == 2


def test_a_caller_who_leaves_leaves_both() -> None:
    """Both are recorded, and say nothing of the members."""
    stage = Stage()
    call, _, _ = stage.hedged()
    call.cancelled()
    call.cancelled()
    call.cancelled()
    assert told(call) == [("acme/two", "cancelled"), ("acme/one", "cancelled")]
    assert stage.health.snapshot()["members"] == {}


def test_only_one_that_is_well_and_open_is_asked() -> None:
    """Not one that failed of late, was asked, is the same machines, or has an account in trouble."""
    stage = Stage(members=(ONE, TWO, THREE))
    stage.health.failed(TWO.target, Kind.CAPACITY)
    assert asked(stage.hedged()[2]) == "acme/three"

    other = member("acme/two", account="other")
    stage = Stage(members=(ONE, other))
    stage.health.failed(other.account_key, Kind.PAYMENT)
    call = stage.call()
    call.next()
    assert call.beside() is None

    call = Stage(members=(ONE, member("acme/one", account="other"))).call()
    call.next()
    assert call.beside() is None, "another key is no other machine"

    call = Stage().call()
    call.next()
    call.failed(failure(Kind.CAPACITY))
    assert asked(call.next()) == "acme/two"
    beside = call.beside()
    assert beside is not None
    assert asked(beside) == "acme/three", "the first one has failed in this call"


@pytest.mark.parametrize(
    ("first", "other", "policy", "fits"),
    [
        (1.0, 2.0, FallbackPolicy(), True),
        (1.0, 2.1, FallbackPolicy(), False),
        (1.0, 2.1, FallbackPolicy(order="balanced"), False),
        (1.0, 2.1, FallbackPolicy(order="throughput"), True),
        (1.0, 2.1, FallbackPolicy(order=lambda members: members), True),
        (0.0, 0.1, FallbackPolicy(), False),
        (None, None, FallbackPolicy(), True),
        (1.0, None, FallbackPolicy(), False),
        (None, 1.0, FallbackPolicy(), False),
        (1.0, None, FallbackPolicy(order="latency"), True),
    ],
)
def test_what_may_be_for_nothing_is_not_dear(
    first: float | None, other: float | None, policy: FallbackPolicy, fits: bool
) -> None:
    """At most twice the first one's price, unless the order says that speed or something of one's own matters more."""
    assert worth_asking(member("a", first), member("b", other), policy) is fits


def test_a_dear_one_is_passed_over() -> None:
    """The next one in the order that is not too dear is asked; ``max_price`` holds as for any attempt."""
    dear = member("acme/dear", 9.0)
    assert asked(Stage(members=(ONE, dear, TWO)).hedged()[2]) == "acme/two"
    stage = Stage(FallbackPolicy(hedge=2, order="latency", max_price=5), members=(ONE, dear, TWO))
    assert asked(stage.hedged()[2]) == "acme/two"


@pytest.mark.parametrize(
    "policy",
    [
        FallbackPolicy(hedge=2, max_attempts=2),
        FallbackPolicy(hedge=2, deadline=5, first_token=5),
    ],
)
def test_the_limits_of_the_call_count_both(policy: FallbackPolicy) -> None:
    """An attempt that the call could not make otherwise is not made beside another one either."""
    stage = Stage(policy)
    call = stage.call()
    call.next()
    call.failed(failure(Kind.RESET))
    call.next()
    stage.now += 5
    assert call.beside() is None


def test_the_budget_bounds_hedges() -> None:
    """Each is an attempt of the retry budget; they leave half of it, and come back slowly."""
    stage = Stage(FallbackPolicy(hedge=2, budget=5, burst=4))
    made = []
    for _ in range(100):
        call = stage.call()
        call.next()
        made.append(call.beside() is not None)
        while call.under_way:
            call.cancelled()
    assert made[:6] == [True, True, False, False, True, False]
    assert sum(made) == 2 + (100 - 1) // 4, "a quarter is a twentieth of what a call earns"
    assert stage.health.affords()

    stage = Stage(FallbackPolicy(hedge=2, budget=0, burst=4))
    assert [bool(stage.hedged()) for _ in range(2)]
    call = stage.call()
    call.next()
    assert call.beside() is None
    assert [stage.health.spend() for _ in range(3)] == [True, True, False], "half of it is for asking again"


def test_p95_waits_until_it_is_known() -> None:
    """The time in which 95 % of this member's answers began; of too few, or of larger requests, nothing is known."""
    stage = Stage(FallbackPolicy(hedge="p95"))
    for number in range(19):
        step = stage.call().next()
        assert isinstance(step, Try)
        assert step.hedge is None
        stage.health.succeeded(ONE.target, ttft=0.1 * (1 + number), size=10)
    stage.health.succeeded(ONE.target, ttft=9.0, size=10)
    step = stage.call().next()
    assert isinstance(step, Try)
    assert step.hedge == pytest.approx(1.9)


def test_nobody_is_asked_beside_what_goes_on_or_was_seen() -> None:
    """An answer that goes on, one that begins anew after text, and a request to several at once are left alone."""
    for after in ("restart", "resume_or_restart"):
        call = Stage(FallbackPolicy(hedge=2, after_commit=after)).call()  # type: ignore[arg-type]
        call.next()
        call.first_part()
        call.failed(failure(Kind.RESET))
        step = call.next()
        assert isinstance(step, Try)
        assert step.hedge is None
    pool = tuple(member(name, pool="p") for name in ("acme/one", "acme/two"))
    step = Stage(FallbackPolicy(hedge=2, first_hop="server"), members=pool).call().next()
    assert isinstance(step, Try)
    assert (len(step.together), step.hedge) == (2, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hedge": 0}, 'hedge must be a positive number or "p95", not 0.'),
        ({"hedge": "p50"}, "hedge must be a positive number or \"p95\", not 'p50'."),
        ({"hedge": True}, 'hedge must be a positive number or "p95", not True.'),
        ({"hedge": 20}, "hedge=20 is not shorter than first_token=20, so nobody would ever be asked beside."),
        ({"hedge": 1, "max_attempts": 1}, "hedge asks a second member, which max_attempts=1 does not allow."),
        ({"hedge": "p95", "burst": 1}, "hedge may use half of burst, which must be at least 2, not 1."),
    ],
)
def test_a_hedge_that_could_never_be_is_refused(options: dict[str, Any], said: str) -> None:
    """A setting that contradicts another one is refused, as ever."""
    with pytest.raises(ConfigurationError) as raised:
        FallbackPolicy(**options)
    assert str(raised.value) == said
    assert FallbackPolicy.from_dict({"hedge": "p95"}).to_dict() == {"hedge": "p95"}


# ------------------------------------------------------------------------------------------------------------ races


class Answered:
    """An answer, of which the race asks only what has arrived."""

    def __init__(self) -> None:
        self.reply = HEARD


class Notes:
    """Writes down what observers are told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def begins(self, step: Try) -> None:
        self.lines.append(f"{step.member.name} begins")

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        assert step is not None
        assert step.member.name == attempt.model
        self.lines.append(f"{attempt.model} {attempt.outcome}" + (f", {type(error).__name__}" if error else ""))

    async def heard(self) -> None:
        """Nothing is awaited here."""


class Race:
    """A race whose reports come as the test says."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.notes = Notes()
        self.relay = Relay(stage.call(), observer=self.notes)
        step = self.relay.call.next()
        assert isinstance(step, Try)
        self.relay.begin(step)
        self.readers: list[Reader] = []
        self.dropped: list[str] = []
        self.run = race(self.relay, step)
        self.command = next(self.run)
        self.winner: Reader | None = None

    def answer(self, value: object = None) -> None:
        """Do what the race wants until it waits; what it waits for comes to ``value``."""
        while True:
            command = self.command
            result: object = None
            if isinstance(command, Await):
                if value is self:
                    return
                result, value = value, self
            elif isinstance(command, Ask):
                result = Reader(command.step, Answered())  # type: ignore[arg-type]
                self.readers.append(result)
            elif isinstance(command, Drop):
                self.dropped.append(f"{command.reader.step.member.name}{' outrun' if command.outrun else ''}")
            else:
                assert isinstance(command, Heard)
            try:
                self.command = self.run.send(result)
            except StopIteration as end:
                self.winner = end.value
                return

    def report(self, place: int, outcome: object) -> None:
        reader = self.readers[place]
        if isinstance(outcome, Exception):
            reader.error = outcome
        else:
            reader.read.append(Delta(str(outcome)))
        self.answer(reader)

    def begun(self, *, silent: bool = True) -> Race:
        self.answer(self)
        if silent:
            self.stage.now += 2
            self.answer(None)
        return self


def test_a_race_of_one_is_an_ordinary_attempt() -> None:
    """Who answers in time, or fails in time, has nobody beside it."""
    run = Race(Stage()).begun(silent=False)
    assert isinstance(run.command, Await)
    assert run.command.seconds == 2
    run.report(0, "Hi")
    assert run.winner is run.readers[0]
    run = Race(Stage()).begun(silent=False)
    with pytest.raises(APIError):
        run.report(0, failure(Kind.CAPACITY))
    assert run.relay.call.under_way, "the driver reports it"
    assert run.notes.lines == ["acme/one begins"]


@pytest.mark.parametrize("winner", [0, 1])
def test_the_first_to_show_something_answers(winner: int) -> None:
    """The other one is dropped and recorded, and the relay is left with the winner's attempt."""
    run = Race(Stage()).begun()
    assert isinstance(run.command, Await)
    assert run.command.seconds is None
    run.report(winner, "Hi")
    names = ["acme/one", "acme/two"]
    assert run.winner is run.readers[winner]
    assert run.dropped == [f"{names[1 - winner]} outrun"]
    assert run.notes.lines == ["acme/one begins", "acme/two begins", f"{names[1 - winner]} outrun"]
    assert run.relay.call.attempts[0].usage == Usage(9, 0, 9)
    assert run.relay.step is run.readers[winner].step
    run.relay.end(HEARD)
    assert run.notes.lines[-1] == f"{names[winner]} answered"


def test_a_failure_beside_another_one_is_reported_at_once() -> None:
    """The other one goes on alone; if it fails too, that is the driver's to report."""
    run = Race(Stage()).begun()
    run.report(1, failure(Kind.COLD))
    assert run.dropped == ["acme/two"]
    assert run.notes.lines[2:] == ["acme/two failed, ColdModelError"]
    with pytest.raises(APIError):
        run.report(0, failure(Kind.RESET))
    assert run.dropped == ["acme/two", "acme/one"]
    assert run.relay.step is run.readers[0].step
    assert run.relay.call.under_way


def test_a_mistake_in_code_ends_both() -> None:
    """An exception that is no model's failure is raised as it is, and nothing is left to report."""
    run = Race(Stage()).begun()
    with pytest.raises(KeyError):
        run.report(0, KeyError("typo"))
    assert run.dropped == ["acme/one", "acme/two"]
    assert told(run.relay.call) == [("acme/one", "cancelled"), ("acme/two", "cancelled")]
    assert not run.relay.call.under_way


def test_who_leaves_the_race_leaves_nobody_behind() -> None:
    """An interrupt while both are silent drops and records both."""
    run = Race(Stage()).begun()
    run.command = run.run.throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.answer(self_stop := object())
    del self_stop
    assert sorted(run.dropped) == ["acme/one", "acme/two"]
    assert sorted(told(run.relay.call)) == [("acme/one", "cancelled"), ("acme/two", "cancelled")]


def test_one_that_cannot_be_asked_is_skipped() -> None:
    """A second member without a key costs nothing, and the first one goes on."""
    run = Race(Stage()).begun(silent=False)
    command = run.run.send(None)
    assert isinstance(command, Heard)
    assert isinstance(run.run.send(None), Ask)
    assert isinstance(run.run.throw(ConfigurationError("no key")), Heard)
    waits = run.run.send(None)
    assert isinstance(waits, Await)
    assert told(run.relay.call) == [("acme/two", "skipped")]
    assert run.relay.step is run.readers[0].step
    assert run.relay.call.under_way


def test_with_nobody_to_ask_the_first_goes_on() -> None:
    """Where there is no second member, the time passes and nothing happens."""
    run = Race(Stage(members=(ONE,))).begun()
    assert isinstance(run.command, Await)
    assert run.command.seconds is None
    run.report(0, "Hi")
    assert run.winner is run.readers[0]
    assert run.notes.lines == ["acme/one begins"]


def test_who_had_no_room_beside_another_has_its_turn() -> None:
    """A budget that has no room for two refuses the second: it is asked when the first one has failed."""
    call, first, second = Stage().hedged()
    assert call.two
    call.unable(BudgetExceededError("no room", model="acme/two", budget=None))
    assert not call.two
    call.turn(first)
    call.failed(failure(Kind.CAPACITY))
    assert asked(call.next()) == asked(second)
    assert told(call) == [("acme/two", "skipped"), ("acme/one", "failed")]
