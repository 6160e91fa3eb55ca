"""Tables as text, as HTML and for rich."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from chutes_core.shown.table import (
    Bar,
    Cell,
    Column,
    Table,
    as_html,
    as_rich,
    as_text,
    fitted,
    laid_out,
    width_of,
)

TABLE = Table.of(
    [Column("name"), Column("a", right=True, drop=1), Column("b", drop=2)],
    [["acme/a-rather-long-name", "1", Cell("x", "green")], ["short", "1000", "y"]],
)


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


class Read(HTMLParser):
    """What a browser would make of HTML: its elements, their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text(), st.sampled_from(["", "green", "red", "bold", "nonsense"]))
def test_whatever_a_cell_says_is_text(said: str, style: str) -> None:
    """A name from a service becomes neither an element nor an attribute."""
    table = Table.of([Column(said)], [[Cell(said, style)]])
    plain = Read(as_html(Table.of([Column("a")], [[Cell("b", style)]]), "c"))
    read = Read(as_html(table, said or "c"))
    assert (read.tags, read.attributes) == (plain.tags, plain.attributes)
    assert "".join(read.texts).count(said) >= 2 or not said


@pytest.mark.parametrize("end", ["\n", "\r\n", "\t", "\x0b", "\x85", "\u2028"])
def test_a_cell_begins_no_line(end: str) -> None:
    """What stands in it may be of somebody who would have it look like a line of ours."""
    table = Table.of([Column("model")], [[f"acme/one{end}error: forged"], [Cell(f"a{end}b", "red")]])
    assert as_text(table).splitlines() == ["model", "acme/one error: forged", "a b"]


def test_html_has_no_script_and_the_colour_of_its_page() -> None:
    """A notebook may be light or dark: no text has a colour of its own, only a mark beside it."""
    html = as_html(TABLE, "Two names")
    read = Read(html)
    assert not {"script", "style", "link", "img"} & set(read.tags)
    assert "Two names" in read.texts
    assert html.count("●") == 1
    assert [style for name, style in read.attributes if style and "color:#" in style] == ["color:#2f8f4e"]


def test_rich_shows_the_same() -> None:
    """What rich prints has the texts of the table, and none of them is taken for markup."""
    table = Table.of([Column("model"), Column("$", right=True)], [[Cell("[bold]acme/one", "green"), "0.10"]])
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    console.print(as_rich(table, "Models"))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "Models" in said
    assert "[bold]acme/one" in said


def test_a_bar_is_seen_however_short_it_is() -> None:
    """Nothing takes no time."""
    assert Bar.of("red", 0.0, 0.0).text.count("━") == 1
    assert Bar.of("red", 1.0, 1.0).text.count("━") == 1
    assert Bar.of("red", 0.0, 1.0).text.count("━") == len(Bar.of("red", 0.0, 0.0).text)
    assert "margin-left:25.0%" in as_html(Table.of([Column("when")], [[Bar.of("red", 0.25, 0.5)]]))


def test_text_of_a_table_fits() -> None:
    """The same layout as in the command."""
    assert as_text(TABLE, 24).splitlines()[0] == "name"
    assert max(map(len, as_text(TABLE, 24).splitlines())) <= 24
