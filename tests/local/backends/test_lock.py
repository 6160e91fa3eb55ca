"""The lock lets one in at a time, and can be given up."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from chutes_local.backends.lock import exclusive


def test_a_held_lock_keeps_others_out_until_cancelled(tmp_path: Path) -> None:
    """Who waits is told once, and leaves without the lock when cancelled."""
    told: list[str] = []
    cancel = Event()

    def waiting() -> None:
        told.append("waiting")
        cancel.set()

    with exclusive(tmp_path / "lock", Event()) as first, exclusive(tmp_path / "lock", cancel, waiting) as second:
        assert (first, second) == (True, False)
    assert told == ["waiting"]


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    """The lock can be taken again after its block."""
    for _ in range(2):
        with exclusive(tmp_path / "lock", Event()) as held:
            assert held
