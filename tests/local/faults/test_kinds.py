"""The catalogue of faults, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from chutes_local.faults.kinds import DEFAULT_SECONDS, KINDS, Fault, Phase, Target

PAGE = (Path(__file__).parents[3] / "docs" / "local.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_describes_every_kind(kind: str) -> None:
    """The documentation has the very line that the catalogue has."""
    assert f"| `{kind}` | {KINDS[kind].summary} |" in PAGE


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.phase is Phase.STATUS])
def test_a_whole_answer_can_be_written(kind: str) -> None:
    """Each kind that is an answer has one, for any target, with the status its summary begins with."""
    write = KINDS[kind].answer
    assert write
    assert str(write(Fault(kind), Target()).status) == KINDS[kind].summary[:3]


def test_only_kinds_that_wait_have_a_duration() -> None:
    """Whatever has a default in seconds is a kind, and says so."""
    for kind in DEFAULT_SECONDS:
        assert f"default {DEFAULT_SECONDS[kind]:g}" in KINDS[kind].summary
