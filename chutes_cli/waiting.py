"""A clock that says so when a call waits before its next try, for a person who would see nothing happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chutes_core.calls.clock import SystemClock
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    import argparse

    from chutes_cli.out import Out

__all__ = ["RETRIES", "TellingClock"]

RETRIES = 2


class TellingClock(SystemClock):
    """The client's clock: it sleeps between tries alone, so each sleep is one of them.

    Nothing is said in a pipe, with ``--quiet`` or with ``--json``.
    """

    def __init__(self, options: argparse.Namespace, out: Out) -> None:
        self._out = out
        self._tells = out.is_terminal("err") and not options.quiet and not out.as_json
        self._tries = 0

    def begin(self) -> None:
        """Count the tries of another call."""
        self._tries = 0

    def sleep(self, seconds: float) -> None:
        """Say that the call is tried again, and wait."""
        self._tries += 1
        if self._tells:
            told = f"no answer yet, trying again in {seconds:.2g} s ({self._tries} of {RETRIES})"
            self._out.note(Cell("note: ", "yellow"), told)
        super().sleep(seconds)
