"""The clock that only moves when told or waited on."""

from __future__ import annotations

from chutes_core.testing import VirtualClock


def test_the_clock_moves_only_when_told_or_waited_on() -> None:
    """Sleeping and advancing move it; the sleeps are remembered."""
    clock = VirtualClock()
    clock.sleep(2)
    clock.advance(3)
    assert (clock.now(), clock.sleeps) == (5, [2])
