"""Late answers are aborted, others are left alone, and no limit is forgotten."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from chutes_core import watchdog as module
from chutes_core.watchdog import Watch, Watchdog, watchdog

NEVER = float("inf")


class Time:
    """A clock that stands until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def dog(time: Time) -> Watchdog:
    return Watchdog(now=time, threaded=False)


def test_only_what_is_late_is_aborted(dog: Watchdog, time: Time) -> None:
    """Each answer has its own limit, is aborted once, and learns of it."""
    aborted: list[str] = []
    early, late = dog.watch(lambda: aborted.append("early")), dog.watch(lambda: aborted.append("late"))
    early.arm(5)
    late.arm(9)
    time.seconds = 4.9
    assert dog.check() == 5
    time.seconds = 5
    assert dog.check() == 9
    assert (aborted, early.fired, late.fired) == (["early"], True, False)
    time.seconds = 10
    assert dog.check() == NEVER
    assert aborted == ["early", "late"]


def test_a_limit_moves_with_the_answer(dog: Watchdog, time: Time) -> None:
    """Each part that comes gives the answer time anew."""
    watch = dog.watch(lambda: pytest.fail("it was not late"))
    for _ in range(5):
        watch.arm(10)
        time.seconds += 9
        dog.check()


@pytest.mark.parametrize("rest", [Watch.disarm, Watch.end])
def test_what_is_no_longer_limited_is_not_aborted(dog: Watchdog, time: Time, rest: Callable[[Watch], None]) -> None:
    """A limit that was lifted, or whose answer has ended, never passes."""
    watch = dog.watch(lambda: pytest.fail("it was not late"))
    watch.arm(5)
    rest(watch)
    time.seconds = 6
    assert dog.check() == NEVER


def test_an_answer_that_cannot_be_aborted_does_not_shield_others(dog: Watchdog, time: Time) -> None:
    """Whatever goes wrong with one connection, the others are still watched."""
    aborted: list[int] = []

    def fail() -> None:
        raise TypeError("not a socket")

    for number in range(3):
        dog.watch(fail).arm(1)
        dog.watch(lambda number=number: aborted.append(number)).arm(1)  # type: ignore[misc]
    time.seconds = 2
    dog.check()
    assert sorted(aborted) == [0, 1, 2]


def test_an_ended_watch_does_not_abort_whoever_has_its_connection_next(dog: Watchdog, time: Time) -> None:
    """Ending a watch waits for an abort that has begun, so that none comes afterwards."""
    order: list[str] = []

    def end_elsewhere() -> None:
        watch.end()
        order.append("ended")

    other = threading.Thread(target=end_elsewhere)

    def abort() -> None:
        other.start()
        other.join(0.05)  # it must still be waiting, however long it is given
        order.append("aborted")

    watch = dog.watch(abort)
    watch.arm(1)
    time.seconds = 2
    dog.check()
    other.join()
    assert order == ["aborted", "ended"]


class Moment(float):
    """A time at whose comparison with another something happens, once."""

    meanwhile: Callable[[], None] | None = None

    def _compared(self) -> None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()

    def __lt__(self, other: float) -> bool:
        self._compared()
        return super().__lt__(other)

    def __gt__(self, other: float) -> bool:
        self._compared()
        return super().__gt__(other)


def test_a_limit_set_while_the_dog_looks_is_not_missed(dog: Watchdog) -> None:
    """Another thread may set a limit at the very moment of a check; the dog still wakes for it."""
    ended, second, far = (dog.watch(lambda: None) for _ in range(3))
    ended.arm(5)
    ended.end()
    setting = threading.Thread(target=lambda: second.arm(7))

    def set_limit() -> None:
        setting.start()
        while second.deadline == NEVER:  # until the limit is written down
            pass
        setting.join(0.05)  # it may have to wait for the check

    far.deadline = moment = Moment(100)
    moment.meanwhile = set_limit
    assert dog.check() == 100, "the check had seen the limits already"
    setting.join()
    assert dog._next == 7


def test_the_thread_wakes_for_the_earliest_limit() -> None:
    """A real dog aborts a late answer without being asked, also when a nearer limit is set later."""
    dog = Watchdog()
    aborted = threading.Event()
    far = dog.watch(lambda: pytest.fail("it was not late"))
    far.arm(3600)
    near = dog.watch(aborted.set)
    near.arm(0)
    assert aborted.wait(60)
    assert near.fired
    again = threading.Event()
    dog.watch(again.set).arm(0.001)
    assert again.wait(60)
    assert not far.fired
    far.end()


def test_one_dog_for_the_process() -> None:
    """All calls share one watchdog, and so one thread."""
    assert watchdog() is watchdog()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_dog_of_its_own() -> None:
    """A child gets a new watchdog, as the thread of the old one stays with the parent."""
    before = watchdog()
    child = os.fork()
    if child == 0:
        os._exit(0 if module.watchdog() is not before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert watchdog() is before
