"""Streams, colours and lines."""

from __future__ import annotations

import io
import json
import sys

import pytest

from chutes_cli.out import Out, as_json, in_lines, visible, wants_colour
from chutes_core.shown.table import Cell, Column, Table

from .conftest import Stream


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


def test_parts_go_on_in_the_next_line() -> None:
    """A part that is longer than a line stands alone."""
    assert in_lines(["a", "b"], None) == ["a · b"]
    assert in_lines(["aaaa", "b", "c"], 3) == ["aaaa", "b", "c"]
    assert in_lines([], 3) == []


HOSTILE = "a\x1b[2J\u202eb\u2066c\x9b\x7fd\u2028e\ufefff\rg"


def test_a_terminal_gets_nothing_to_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Controls of the terminal and of the direction of text are left out, in results, pieces, tables and notes."""
    out, err = Stream(terminal=True), Stream(terminal=True)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "dumb")
    writer = Out(width=80)
    writer.line(HOSTILE)
    writer.piece(HOSTILE)
    writer.end_line()
    writer.table(Table.of([Column("name")], [[HOSTILE]]))
    writer.note(Cell(HOSTILE, "red"))
    writer.facts([HOSTILE])
    assert set("".join((out.getvalue() + err.getvalue()).split())) == set("a[2Jbcdefgname")
    joined = "\u0645\u200c\u06cc \U0001f469\u200d\U0001f680\n"
    assert visible(joined) == joined


def test_json_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal would obey is escaped in it, and means the same."""
    for terminal in (True, False):
        out = Stream(terminal=terminal)
        monkeypatch.setattr(sys, "stdout", out)
        Out().data({HOSTILE: [HOSTILE, "ü"]})
        assert json.loads(out.getvalue()) == {HOSTILE: [HOSTILE, "ü"]}
        assert not set(HOSTILE) & set("\x1b\u202e\u2066\x9b\x7f\u2028\ufeff\r") & set(out.getvalue())


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


@pytest.mark.parametrize("char", ["\u115f", "\u3164", "\uffa0", "\U000e0041", "\U000e0100", "\U0001d173"])
def test_what_nobody_sees_is_left_out(char: str) -> None:
    """Fillers, tags and the like could hide words in what is copied; in JSON they are escaped."""
    assert visible(f"a{char}b") == "ab"
    assert char not in as_json({"a": char})
    assert json.loads(as_json({"a": char})) == {"a": char}


def test_what_is_summed_up_begins_no_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A model's name is what the service says."""
    Out().facts(["acme/one\nerror: forged", "12 in"])
    assert capsys.readouterr().err == "acme/one error: forged · 12 in\n"


def test_a_bar_counts_also_where_nobody_looks() -> None:
    """Without a terminal the bar is a counter."""
    with Out().bar(3, "texts") as bar:
        bar.advance(2)
    assert bar.done == 2
