"""Requests are spread over many small pools, and each gives its place back."""

from __future__ import annotations

import threading

from chutes_core.wire.lanes import KEEP_ALIVE, Lanes


def test_the_first_lane_with_room_is_taken() -> None:
    """As many lanes are made as are needed at once, and later requests go to the first ones again."""
    lanes = Lanes(object, size=2)
    taken = [lanes.enter() for _ in range(5)]
    assert [taken[0] is taken[1], taken[1] is taken[2], taken[3] is taken[2], taken[4] is taken[3]] == [
        True, False, True, False,
    ]  # fmt: skip
    lanes.leave(taken[1])
    assert lanes.enter() is taken[0]
    assert len(lanes.all()) == 3


def test_a_lane_that_nobody_needs_is_retired() -> None:
    """The last lane goes once its connections have expired, the first one never."""
    now = [0.0]
    lanes = Lanes(object, size=1, now=lambda: now[0])
    first, second = lanes.enter(), lanes.enter()
    lanes.leave(second)
    now[0] = KEEP_ALIVE - 1
    assert lanes.retired() is None
    now[0] = KEEP_ALIVE
    assert lanes.retired() is second.pool
    lanes.leave(first)
    now[0] = 9 * KEEP_ALIVE
    assert lanes.retired() is None


def test_threads_never_crowd_a_lane() -> None:
    """However many threads come and go, no lane takes more than it should, and all places are given back."""
    lanes = Lanes(object, size=3)
    crowded: list[int] = []

    def work() -> None:
        for _ in range(200):
            lane = lanes.enter()
            if lane.busy > 3:
                crowded.append(lane.busy)
            lanes.leave(lane)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowded == []
    assert all(lanes.enter().busy <= 3 for _ in range(24))


def test_a_place_is_released_once() -> None:
    """A reply may be closed twice."""
    lanes = Lanes(object)
    lane = lanes.enter()
    leave = lanes.leaver(lane)
    leave()
    leave()
    assert lane.busy == 0
