"""A lock that the garbage collector may meet: nothing waits for itself, and nothing is lost."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chutes_core import Budget, ChutesClient, Ledger, Usage
from chutes_core.e2ee.instances import Ask, InstancePool
from chutes_core.locks import Gate
from chutes_core.testing import Answer, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.lanes import Lanes
from chutes_core.wire.pools import http_package

from .clients import HELLO


def ended(work: Callable[[], object]) -> bool:
    """Whether some work comes to its end, in a thread that may be left behind where it does not."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def test_a_change_is_made_at_once_where_the_lock_is_free() -> None:
    """As if there were no lock."""
    gate, seen = Gate(), list[int]()
    gate.change(lambda: seen.append(1))
    assert seen == [1]


def test_a_change_by_the_holder_waits_until_it_lets_go() -> None:
    """What was read under the lock stays true under it."""
    gate, seen = Gate(), list[int]()
    with gate:
        gate.change(lambda: seen.append(1))
        gate.change(lambda: seen.append(2))
        assert seen == []
    assert seen == [1, 2]


def test_a_change_that_brings_another_one() -> None:
    """Both are made, one after the other."""
    gate, seen = Gate(), list[int]()

    def first() -> None:
        gate.change(lambda: seen.append(2))
        seen.append(1)

    gate.change(first)
    assert seen == [1, 2]


def test_who_reads_after_a_change_sees_it() -> None:
    """Also where another thread had the lock when it was made."""
    gate, seen = Gate(), list[int]()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with gate:
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    gate.change(lambda: seen.append(1))  # does not wait
    let_go.set()
    with gate:
        assert seen == [1]
    holder.join()


def test_nothing_is_lost_between_many_threads() -> None:
    """Every change is made once, whoever makes it."""
    gate, total = Gate(), [0]

    def add() -> None:
        total[0] += 1

    def work() -> None:
        for number in range(500):
            if number % 3:
                gate.change(add)
            else:
                with gate:
                    total[0] += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == [4000]


def lanes() -> tuple[Any, Callable[[], object]]:
    made: Lanes[object] = Lanes(object)
    lane = made.enter()
    return made._gate, lambda: made.leave(lane)


def ledger() -> tuple[Any, Callable[[], object]]:
    made = Ledger()
    return made._gate, lambda: made.add("acme/one", Usage(1, 1, 2), 0.0)


def budget() -> tuple[Any, Callable[[], object]]:
    made = Budget(tokens=1000)
    hold = made.reserve("acme/one", made.estimate(1, max_tokens=1))
    return made._reserving, hold.release


def instances() -> tuple[Any, Callable[[], object]]:
    made = InstancePool(VirtualClock())
    ask = made.take("chute")
    assert isinstance(ask, Ask)
    return made._gate, lambda: made.given_up(ask)


@pytest.mark.parametrize("made", [lanes, ledger, budget, instances])
def test_what_a_dropped_stream_gives_back_waits_for_no_lock(made: Callable[[], Any]) -> None:
    """It may be collected in a thread that holds that very lock."""
    gate, give_back = made()

    def work() -> None:
        with gate:
            give_back()

    assert ended(work)


@pytest.fixture
def much_collecting() -> Iterator[None]:
    """Collect garbage at every turn."""
    before = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("much_collecting")
def test_streams_that_are_dropped_in_cycles() -> None:
    """The caller's own error keeps a stream alive until the collector finds it, wherever that is."""
    spent = Budget(tokens=10**9)
    clock = VirtualClock()
    script = FaultScript(default=Answer("Hello world, and so on."))
    transport = FaultyTransport(script, clock=clock)
    http = http_package().Client(transport=transport)
    client = ChutesClient("cpk_test", http_client=http, clock=clock, ledger=spent)

    def one() -> None:
        error = None
        try:
            for _ in client.stream(HELLO, model="acme/one", max_tokens=5):
                raise ValueError("the caller's own")
        except ValueError as problem:
            error = problem  # frame, error, traceback, frame: a cycle
        assert error is not None

    def work() -> None:
        for _ in range(150):
            one()

    assert ended(lambda: [thread.join() for thread in started([work] * 3)])
    gc.collect()
    assert spent.reserved.tokens == 0
    assert spent.totals().calls == 450
    assert transport.open_replies == 0


def started(works: list[Callable[[], object]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads
