"""Machines and their one-time numbers: none is used twice, and the service is not asked too often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.calls.effects import WireFailure
from chutes_core.e2ee.instances import (
    COLD_LASTS,
    MARGIN,
    Ask,
    Instance,
    InstancePool,
    RequestRate,
    Seat,
    Wait,
    read_instances,
)
from chutes_core.testing import VirtualClock


def given_out(machines: int, each: int = 10, mark: str = "n") -> list[Instance]:
    return [
        Instance(f"i{place}", f"key{place}", tuple(f"{mark}{place}.{count}" for count in range(each)))
        for place in range(machines)
    ]


def filled(clock: VirtualClock, machines: int = 5, seconds: float = 60.0) -> InstancePool:
    pool = InstancePool(clock)
    ask = pool.take("c")
    assert isinstance(ask, Ask)
    pool.answered(ask, given_out(machines), seconds)
    return pool


def seats(pool: InstancePool, count: int) -> list[Seat]:
    found = [pool.take("c") for _ in range(count)]
    assert all(isinstance(seat, Seat) for seat in found)
    return [seat for seat in found if isinstance(seat, Seat)]


def test_numbers_are_spread_and_each_is_given_out_once() -> None:
    """Fifty numbers of five machines: all different, and never two more of one machine than of another."""
    pool = filled(VirtualClock())
    taken = seats(pool, 50)
    assert len({seat.nonce for seat in taken}) == 50
    for end in range(1, 51):
        counts = Counter(seat.instance for seat in taken[:end])
        assert max(counts.values()) - min(counts.values() if len(counts) == 5 else [0]) <= 1
    assert isinstance(pool.take("c"), Ask)


def test_numbers_expire_some_seconds_early_and_by_the_time_of_asking() -> None:
    """The request has yet to travel, and the answer with the numbers had to."""
    clock = VirtualClock()
    pool = InstancePool(clock)
    ask = pool.take("c")
    clock.advance(10)
    assert isinstance(ask, Ask)
    pool.answered(ask, given_out(1), 60.0)
    clock.advance(50 - MARGIN - 0.5)
    assert isinstance(pool.take("c"), Seat)
    clock.advance(0.5)
    assert isinstance(pool.take("c"), Ask)


def test_one_asks_and_the_others_wait() -> None:
    """Only the first is told to ask."""
    pool = InstancePool(VirtualClock())
    turns = [pool.take("c") for _ in range(20)]
    assert [type(turn) for turn in turns] == [Ask, *[Wait] * 19]
    assert isinstance(turns[0], Ask)
    pool.answered(turns[0], given_out(2), 60.0)
    assert len(seats(pool, 20)) == 20


def test_who_waited_for_a_question_that_failed_fails_like_it() -> None:
    """And does not ask again for himself, which would use up the minute; who comes later asks."""
    pool = InstancePool(VirtualClock())
    ask, wait = pool.take("c"), pool.take("c")
    assert isinstance(ask, Ask)
    assert isinstance(wait, Wait)
    pool.given_up(ask, lambda: WireFailure("connect", "no network"))
    with pytest.raises(WireFailure, match="no network"):
        pool.take("c", waited=wait.number)
    assert isinstance(pool.take("c"), Ask)


def test_when_the_one_who_asked_leaves_another_asks() -> None:
    """A call that was cancelled takes nobody down."""
    pool = InstancePool(VirtualClock())
    ask, wait = pool.take("c"), pool.take("c")
    assert isinstance(ask, Ask)
    assert isinstance(wait, Wait)
    pool.given_up(ask)
    assert isinstance(pool.take("c", waited=wait.number), Ask)


def test_a_question_that_nobody_ended_does_not_hold_up_for_ever() -> None:
    """After two minutes another call may ask."""
    clock = VirtualClock()
    pool = InstancePool(clock)
    assert isinstance(pool.take("c"), Ask)
    clock.advance(119)
    assert isinstance(pool.take("c"), Wait)
    clock.advance(1)
    assert isinstance(pool.take("c"), Ask)


def no_machine() -> LookupError:
    return LookupError("no machine")


def test_a_cold_model_is_not_asked_about_again_at_once() -> None:
    """For a while each call fails as the one that asked did, and the others of a minute are left; other models ask."""
    clock = VirtualClock()
    pool = InstancePool(clock)
    ask = pool.take("c")
    assert isinstance(ask, Ask)
    pool.given_up(ask, no_machine, cold=True)
    for _ in range(20):
        with pytest.raises(LookupError, match="no machine"):
            pool.take("c")
    assert isinstance(pool.take("d"), Ask)
    clock.advance(COLD_LASTS)
    assert isinstance(pool.take("c"), Ask)


def test_a_model_that_was_woken_is_asked_about() -> None:
    """Whoever wakes it need not wait; one that was never asked about may be woken too."""
    pool = InstancePool(VirtualClock())
    ask = pool.take("c")
    assert isinstance(ask, Ask)
    pool.given_up(ask, no_machine, cold=True)
    pool.warmed("c")
    pool.warmed("d")
    assert isinstance(pool.take("c"), Ask)


def test_a_failure_that_is_not_cold_is_forgotten() -> None:
    """Who comes after it asks."""
    pool = InstancePool(VirtualClock())
    ask = pool.take("c")
    assert isinstance(ask, Ask)
    pool.given_up(ask, no_machine)
    assert isinstance(pool.take("c"), Ask)


def test_giving_up_after_the_answer_changes_nothing() -> None:
    """So that it can stand where it is always reached."""
    pool = filled(VirtualClock())
    pool.given_up(Ask("c", 1), lambda: WireFailure("connect", "late"))
    assert isinstance(pool.take("c", waited=1), Seat)


def test_at_most_ten_questions_in_any_minute() -> None:
    """The eleventh has to wait for the first to be a minute old, and is told how long."""
    clock = VirtualClock()
    pool = InstancePool(clock)
    for _ in range(10):
        ask = pool.take("c")
        assert isinstance(ask, Ask)
        pool.given_up(ask)
        clock.advance(2)
    turn = pool.take("c")
    assert isinstance(turn, Wait)
    assert (turn.limited, turn.seconds) == (True, 40.0)
    clock.advance(turn.seconds)
    assert isinstance(pool.take("c"), Ask)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=80))
def test_the_rate_holds_in_every_window(pauses: list[float]) -> None:
    """However the questions are spread, no sixty seconds have more than ten."""
    clock = VirtualClock()
    rate = RequestRate(clock)
    begun: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        if not rate.begin():
            begun.append(clock.now())
    for start in begun:
        assert sum(start <= each < start + 60 for each in begun) <= 10


def test_a_machine_to_be_avoided_is_used_when_there_is_no_other() -> None:
    """A preference, not a ban: a model may run on one machine only."""
    pool = filled(VirtualClock(), machines=2)
    assert {pool.take("c", avoid={"i0"}) for _ in range(10)} == {
        Seat("i1", "key1", f"n1.{count}") for count in range(10)
    }
    turn = pool.take("c", avoid={"i0", "i1"})
    assert isinstance(turn, Seat)


def test_a_machine_that_has_gone_is_forgotten() -> None:
    """With its numbers, and nobody else's."""
    pool = filled(VirtualClock(), machines=2)
    pool.gone("c", Seat("i0", "key0", "n", listing=1))
    pool.gone("c", Seat("i9", "key9", "n", listing=1))
    assert {seat.instance for seat in seats(pool, 10)} == {"i1"}


def test_stale_numbers_are_forgotten_together() -> None:
    """One that was refused says that the others are too old as well."""
    pool = filled(VirtualClock())
    pool.stale("c", seats(pool, 1)[0])
    assert isinstance(pool.take("c"), Ask)


def refilled(pool: InstancePool, mark: str) -> None:
    while not isinstance(ask := pool.take("c"), Ask):
        assert isinstance(ask, Seat)
    pool.answered(ask, given_out(2, mark=mark), 60.0)


def test_what_was_fetched_since_is_kept() -> None:
    """Many calls hear at once that a number was too old, or a machine gone; the first has fetched others by then."""
    clock = VirtualClock()
    pool = filled(clock, machines=2)
    first, second, third = seats(pool, 3)
    pool.stale("c", first)
    refilled(pool, "new")
    for late in (second, third):
        pool.stale("c", late)
        pool.gone("c", late)
    assert all(seat.nonce.startswith("new") for seat in seats(pool, 20))


def test_no_number_is_given_out_twice_whatever_the_service_says() -> None:
    """It was used, is in stock, or stands twice in one answer."""
    clock = VirtualClock()
    pool = filled(clock, machines=1)
    used = seats(pool, 10)
    ask = pool.take("c")
    assert isinstance(ask, Ask)
    again = tuple(seat.nonce for seat in used)
    pool.answered(ask, [Instance("i0", "key0", (*again, "new", "new"))], 60.0)
    assert [seat.nonce for seat in seats(pool, 1)] == ["new"]
    assert isinstance(pool.take("c"), Ask)


def test_an_answer_that_comes_late_counts_from_its_own_question() -> None:
    """Its numbers are as old as it is, and the question that was asked since stays open."""
    clock = VirtualClock()
    pool = InstancePool(clock)
    slow = pool.take("c")
    clock.advance(120)
    later = pool.take("c")
    assert isinstance(slow, Ask)
    assert isinstance(later, Ask)
    pool.answered(slow, given_out(1, mark="old"), 150.0)
    assert seats(pool, 1)[0].nonce.startswith("old")
    clock.advance(30)
    assert isinstance(pool.take("c"), Wait)
    pool.answered(later, given_out(1, mark="new"), 60.0)
    assert seats(pool, 1)[0].nonce.startswith("new")


def test_a_machine_with_a_new_key_loses_the_numbers_of_the_old() -> None:
    """It was started anew."""
    clock = VirtualClock()
    pool = filled(clock, machines=1)
    ask = Ask("c", 1)
    pool.answered(ask, [Instance("i0", "new key", ("fresh",))], 60.0)
    assert seats(pool, 1) == [Seat("i0", "new key", "fresh")]
    assert isinstance(pool.take("c"), Ask)


def test_new_numbers_of_a_known_machine_are_added() -> None:
    """The older ones go first."""
    pool = filled(VirtualClock(), machines=1)
    pool.answered(Ask("c", 1), [Instance("i0", "key0", ("later",))], 60.0)
    assert [seat.nonce for seat in seats(pool, 11)] == [*(f"n0.{count}" for count in range(10)), "later"]


def test_models_do_not_share_machines() -> None:
    """A number is good for one model."""
    assert isinstance(filled(VirtualClock()).take("other"), Ask)


def test_numbers_do_not_show() -> None:
    """Not in a repr, where a log would find them."""
    assert "n0.0" not in repr(given_out(1)) + repr(seats(filled(VirtualClock(), 1), 1))


@pytest.mark.parametrize("value", [None, [], {}, {"instances": None}, {"instances": {}}, "text"])
def test_what_is_no_list_of_machines_is_refused(value: object) -> None:
    """Instead of being taken for an empty one."""
    with pytest.raises(ValueError, match="list of machines"):
        read_instances(value)


def test_no_number_holds_for_ever() -> None:
    """Whatever the service says; else those that were given out would pile up."""
    clock = VirtualClock()
    pool = filled(clock, machines=1, seconds=1e12)
    clock.advance(594)
    assert isinstance(pool.take("c"), Seat)
    clock.advance(1)
    assert isinstance(pool.take("c"), Ask)


def test_rows_that_are_not_of_the_form_are_left_out() -> None:
    """One odd row does not take the others with it."""
    row = {"instance_id": "i", "e2e_pubkey": "k", "nonces": ["n", 1, ""]}
    odd = [None, {}, {**row, "instance_id": 1}, {**row, "e2e_pubkey": None}, {**row, "nonces": "n"}]
    assert read_instances({"instances": [*odd, row], "nonce_expires_in": 30}) == ([Instance("i", "k", ("n",))], 30.0)


@pytest.mark.parametrize("word", ["", "a b", "a\nWARNING all is well", "a\x1b[2J", "caf\u00e9", "a" * 257])
def test_what_could_not_stand_in_a_header_or_a_log_is_left_out(word: str) -> None:
    """A name and a number of the service's go into both."""
    row = {"instance_id": "i", "e2e_pubkey": "k", "nonces": ["n", word]}
    found, _ = read_instances({"instances": [{**row, "instance_id": word}, row]})
    assert found == [Instance("i", "k", ("n",))]
