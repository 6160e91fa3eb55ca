"""A wait in another thread is ended while it lasts, and neither before nor after."""

from __future__ import annotations

import threading

import pytest

from chutes_core.calls.stopping import Stop, Stopped, outrun, stopping


def test_what_waits_is_ended_and_says_so() -> None:
    """The thread that waits is woken by what it said would wake it, and learns that nobody needs it any more."""
    stop, ready, woken = Stop(), threading.Event(), threading.Event()
    ended: list[str] = []

    def wait() -> None:
        stop.begin(woken.set)
        ready.set()
        woken.wait(60)
        try:
            stop.over()
        except Stopped:
            ended.append("stopped")

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(60)
    stop.stop()
    thread.join(60)
    assert ended == ["stopped"]


def test_a_wait_that_is_over_is_left_alone() -> None:
    """What was waited for may be somebody else's by now; the next wait does not begin."""
    stop, touched = Stop(), []
    stop.begin(lambda: touched.append("the first"))
    stop.over()
    stop.stop()
    assert touched == []
    with pytest.raises(Stopped):
        stop.begin(lambda: touched.append("the second"))
    assert touched == []


def test_a_wait_for_others_too_is_not_ended() -> None:
    """Who reads what is not its own alone goes on, since an end of that wait would be the end of theirs."""
    stop, touched = Stop(), []
    stop.shares = True
    stop.begin(lambda: touched.append("theirs"))
    stop.stop()
    stop.over()
    assert touched == []


def test_the_reason_is_known_where_it_runs() -> None:
    """Whether another one was first is asked in the context of what was stopped."""
    stop = Stop()
    token = stopping.set(stop)
    try:
        assert not outrun()
        stop.stop(outrun=True)
        assert outrun()
        stop.stop()
        assert not outrun()
    finally:
        stopping.reset(token)
