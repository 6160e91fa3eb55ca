"""Progress on a terminal and in a log."""

from __future__ import annotations

import io

from chutes_local.backends.progress import StderrProgress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_on_one_line() -> None:
    """The bar is redrawn in place and ends with a line feed."""
    stream = Terminal()
    show = StderrProgress(stream)
    for done in (0, 50_000_000, 100_000_000):
        show("weights", done, 100_000_000)
    lines = stream.getvalue().split("\r\x1b[K")
    assert lines[1] == f"weights [{'.' * 24}] 0/100 MB"
    assert lines[2] == f"weights [{'#' * 12}{'.' * 12}] 50/100 MB"
    assert lines[3] == f"weights [{'#' * 24}] 100/100 MB\n"


def test_a_step_without_size_has_no_bar() -> None:
    """What is not measured in bytes only begins and ends."""
    stream = Terminal()
    show = StderrProgress(stream)
    show("converting", 0, 1)
    show("converting", 1, 1)
    assert stream.getvalue() == "\r\x1b[Kconverting ...\r\x1b[Kconverting done\n"


def test_a_log_gets_two_lines_per_step() -> None:
    """A log is not filled with every percent."""
    stream = io.StringIO()
    show = StderrProgress(stream)
    for done in range(101):
        show("weights", done * 1_000_000, 100_000_000)
    assert stream.getvalue() == "weights (100 MB) ...\nweights: done\n"
