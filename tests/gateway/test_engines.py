"""What vLLM and SGLang stream for each family of models, through every reader of ours, in three framings."""

from __future__ import annotations

import pytest

from .framings import FRAMINGS, plain
from .recordings import ENGINES, Case
from .test_recorded import expected, readers


@pytest.mark.parametrize("case", ENGINES, ids=lambda case: case.name)
def test_a_stream_of_an_engine(case: Case) -> None:
    """Each reader makes of it what is written beside it, however it is cut."""
    for framing, serving in FRAMINGS.items():
        with serving(lambda method, path, body: plain(case)) as wire:
            for name, reader in readers(case).items():
                if name not in case.facts.get("readers", (name,)):
                    continue  # it has no place for an invalid call
                assert (framing, name, reader(case, wire)) == (framing, name, expected(case, reader))
