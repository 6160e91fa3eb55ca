"""Download progress on stderr: a bar on a terminal, two lines in a log."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

WIDTH = 24


class Progress(Protocol):
    """Callback for every step: ``done`` of ``total`` units. ``done == total`` ends a step."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report progress."""


def silent(label: str, done: int, total: int) -> None:
    """Show nothing."""


class StderrProgress:
    """Draws one line per step on a stream, stderr by default.

    >>> import io
    >>> stream = io.StringIO()
    >>> show = StderrProgress(stream)
    >>> for done in (0, 45_000_000, 90_000_000):
    ...     show("weights", done, 90_000_000)
    >>> print(stream.getvalue(), end="")
    weights (90 MB) ...
    weights: done
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self._open: str | None = None

    def __call__(self, label: str, done: int, total: int) -> None:
        """Draw the current state of a step."""
        stream = self.stream or sys.stderr  # looked up late: test runners and notebooks replace it
        ended = done >= total
        if stream.isatty():
            stream.write(f"\r\x1b[K{_bar(label, done, total)}" + ("\n" if ended else ""))
        elif ended:
            stream.write(f"{label}: done\n")
        elif self._open != label:
            stream.write(f"{label}{_size(total)} ...\n")
        self._open = None if ended else label
        stream.flush()


def _bar(label: str, done: int, total: int) -> str:
    if total < 1_000_000:  # not bytes: a step without intermediate states
        return f"{label} {'done' if done >= total else '...'}"
    filled = WIDTH * min(done, total) // total
    return f"{label} [{'#' * filled}{'.' * (WIDTH - filled)}] {done // 1_000_000}/{total // 1_000_000} MB"


def _size(total: int) -> str:
    return f" ({total // 1_000_000} MB)" if total >= 1_000_000 else ""
