"""An answer, measured and summed up."""

from __future__ import annotations

import pytest

from chutes_cli.answers import Answered, Meter, summed_up, usage_json, usage_words
from chutes_core import Restart
from chutes_core.response import Choice, Delta, Reply, ReplyMeta
from chutes_core.usage import Totals, Usage

USAGE = Usage(1200, 100, 1300, reasoning_tokens=20, cached_tokens=1000)
META = ReplyMeta(quota_total=7, quota_used=0)
REPLY = Reply(None, "acme/one", (Choice(0, "Hello", "", (), (), "stop"),), USAGE, META)


def answered(meter: Meter, totals: Totals, reply: Reply = REPLY) -> Answered:
    return Answered(reply, meter, totals)


def test_the_first_part_that_shows_something_counts() -> None:
    """Empty deltas are no sign of life, reasoning is; the end is the last part of all."""
    meter = Meter(started=100.0)
    for part, now in [
        (Delta(), 101.0),
        (Delta(reasoning="Hm"), 102.0),
        (Restart(model="b"), 103.0),
        (Delta(content="x"), 104.0),
    ]:
        meter.take(part, now)
    assert (meter.ttft, meter.total) == (2.0, 4.0)
    assert (Meter(0.0).ttft, Meter(0.0).total) == (None, None)


def test_an_answer_in_a_line() -> None:
    """Who, how many tokens, how much, how fast, what is left."""
    found = summed_up(answered(Meter(0.0, 1.0, 3.0), Totals(1, USAGE, 0.0025)))
    assert found == [
        "acme/one",
        "1,200 in (1,000 cached) + 100 out (20 reasoning) tokens",
        "$0.0025",
        "first token 1.00 s, all 3.00 s",
        "50 tok/s",
        "included: request 1 of 7 today",
    ]


@pytest.mark.parametrize("totals", [Totals(), Totals(2, USAGE, 0.1, unpriced_calls=1)])
def test_a_cost_that_is_not_known_is_not_guessed(totals: Totals) -> None:
    """Where a price is missing the sum is not known."""
    assert answered(Meter(0.0), totals).cost is None


def test_a_speed_needs_time() -> None:
    """What comes at once has no speed, nor has an answer without usage."""
    assert answered(Meter(0.0, 1.0, 1.1), Totals()).speed is None
    assert answered(Meter(0.0), Totals()).speed is None
    assert answered(Meter(0.0, 1.0, 9.0), Totals(), Reply(None, None, ())).speed is None


def test_usage_that_was_not_reported() -> None:
    """Nothing is made of nothing."""
    assert usage_words(None) == "? tokens"
    assert usage_json(None) is None
    assert summed_up(answered(Meter(0.0), Totals(), Reply(None, None, ())))[:2] == ["?", "? tokens"]
