"""Streams, colours, tables and lines."""

from __future__ import annotations

import io
import sys

import pytest

from chutes_cli.out import Out, in_lines, wants_colour
from chutes_cli.table import Cell, Column, Table, fitted, laid_out, width_of

from .conftest import Stream

TABLE = Table.of(
    [Column("name"), Column("a", right=True, drop=1), Column("b", drop=2)],
    [["acme/a-rather-long-name", "1", Cell("x", "green")], ["short", "1000", "y"]],
)


@pytest.mark.parametrize(
    ("terminal", "env", "wanted"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_when_there_are_colours(terminal: bool, env: dict[str, str], wanted: bool) -> None:
    """Only on a terminal that has them, and where nobody objects."""
    assert wants_colour(terminal, env) is wanted


def test_a_table_loses_the_least_important_column_first() -> None:
    """Columns go by their number, then the first is cut; whatever has no number stays."""
    assert [column.title for column in fitted(TABLE, None).columns] == ["name", "a", "b"]
    assert [column.title for column in fitted(TABLE, 30).columns] == ["name", "a"]
    assert [column.title for column in fitted(TABLE, 24).columns] == ["name"]
    cut = fitted(TABLE, 15)
    assert width_of(cut) == 15
    assert cut.rows[0][0].text == "acme/a-rather-…"
    assert cut.rows[1][0].text == "short"


def test_lines_are_aligned_and_have_no_blanks_at_the_end() -> None:
    """Figures are flush right, texts flush left, and styles stay with their cells."""
    lines = laid_out(TABLE)
    assert ["".join(cell.text for cell in line) for line in lines] == [
        "name                        a  b",
        "acme/a-rather-long-name     1  x",
        "short                    1000  y",
    ]
    assert lines[1][2].style == "green"


def test_an_empty_table_is_its_title() -> None:
    """Without rows the title alone is there."""
    assert len(laid_out(Table.of([Column("a")], []))) == 1


def test_parts_go_on_in_the_next_line() -> None:
    """A part that is longer than a line stands alone."""
    assert in_lines(["a", "b"], None) == ["a · b"]
    assert in_lines(["aaaa", "b", "c"], 3) == ["aaaa", "b", "c"]
    assert in_lines([], 3) == []


def test_what_was_said_first_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note comes after the result that was written before it, also where both streams are one."""
    events: list[str] = []

    class Noting(io.StringIO):
        def flush(self) -> None:
            events.append("flush")

        def write(self, text: str) -> int:
            events.append(text)
            return len(text)

    both = Noting()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    out = Out()
    out.line("result")
    out.note("note")
    assert events == ["result\n", "flush", "note\n", "flush"]


@pytest.mark.parametrize(("terminal", "text"), [(True, "one[2Jtwo\tthree\n"), (False, "one\x1b[2J\rtwo\tthree\n")])
def test_a_terminal_is_not_steered_by_what_it_shows(monkeypatch: pytest.MonkeyPatch, terminal: bool, text: str) -> None:
    """Control characters in an answer do not reach a terminal; a pipe gets the answer as it is."""
    stream = Stream(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", stream)
    Out().line("one\x1b[2J\rtwo\tthree")
    assert stream.getvalue() == text


def test_a_bar_counts_also_where_nobody_looks() -> None:
    """Without a terminal the bar is a counter."""
    with Out().bar(3, "texts") as bar:
        bar.advance(2)
    assert bar.done == 2
