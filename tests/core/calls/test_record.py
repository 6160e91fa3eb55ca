"""What a call notes of its attempts, by itself: tests/core/test_hooks.py has it in calls."""

from __future__ import annotations

import pytest

from chutes_core import Kind, Usage
from chutes_core.calls.record import Record
from chutes_core.failures.reading import failure
from chutes_core.response import Choice, Reply
from tests.core.listening import listening, told

HELLO = Reply("1", "acme/one", (Choice(0, "Hello!", "", (), (), "stop"),), Usage(3, 2, 5))


def record() -> Record:
    return Record("chat", "acme/one", "https://example.com", None, streamed=False)


def play(noted: Record) -> None:
    noted.begins({"messages": ["secret"]})
    error = failure(Kind.COLD, model="acme/one")
    noted.failed(error, 1.0, None)
    noted.retried(error, 2.0)
    noted.answered(3.0, "acme/one", Usage(3, 2, 5), 0.5, "id-1")
    noted.reply = HELLO
    noted.ends(None)


def test_everything_is_told_in_order() -> None:
    noted = record()
    with listening() as heard:
        play(noted)
    assert told(heard) == ["start", "attempt failed", "retry", "attempt answered", "end"]
    assert [str(attempt) for attempt in noted.attempts] == [
        "acme/one: cold after 1.0 s",
        "acme/one: answered after 3.0 s",
    ]
    assert noted.attempts[-1].cost == 0.5
    assert heard[-2][1].request_id == "id-1"


def test_a_quiet_one_notes_failures_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    noted = record()
    noted.quiet = True
    with listening() as heard:
        play(noted)
        noted.gives_up(failure(Kind.COLD))
    assert heard == []
    assert not caplog.records
    assert [attempt.outcome for attempt in noted.attempts] == ["failed"]


def test_of_a_sealed_call_no_text_is_told() -> None:
    noted = record()
    noted.sealed = True
    with listening() as heard:
        play(noted)
    assert all(event.request is None and event.reply is None for _, event in heard)
    assert heard[-1][1].attempt is not None
    assert heard[-1][1].attempt.usage == Usage(3, 2, 5)


def test_only_an_end_that_somebody_hears_has_its_first_part_timed() -> None:
    assert not record().timed
    with listening("end"):
        assert record().timed


@pytest.mark.parametrize("quiet", [False, True])
def test_a_wait_is_logged_and_told(quiet: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The log hears of the wait of a member too, and hooks of calls alone: a member's call is no call to them."""
    noted = record()
    noted.quiet = quiet
    with listening() as heard:
        noted.waits(12.5)
    assert [(name, event.wait) for name, event in heard] == ([] if quiet else [("wait", 12.5)])
    (line,) = caplog.records
    assert (line.name, line.levelname) == ("chutes_core.e2ee", "WARNING")
    assert line.getMessage() == "acme/one waits 12.5 s: machines may be asked for ten times a minute"
