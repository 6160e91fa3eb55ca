"""Tables: as text that fits a width, by leaving out what matters least, as HTML, and for rich. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TypeVar

__all__ = [
    "Bar",
    "Cell",
    "Column",
    "Table",
    "as_html",
    "as_rich",
    "as_text",
    "fitted",
    "in_one_line",
    "laid_out",
    "width_of",
]

T = TypeVar("T")
_GAP = 2
_NARROWEST = 12
_BAR = 24
_BREAKS = re.compile(r"[\t-\r\x1c-\x1e\x85\u2028\u2029]+")
# Of a shape, never of a text, which has the colour of the page: they stand out from white and from black.
_COLOURS = {"green": "#2f8f4e", "yellow": "#b07d12", "red": "#d04a45", "dim": "#808080"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and how it is shown where there are colours: "bold", "dim", "green", "yellow", "red" or nothing."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Bar(Cell):
    """A bar in a cell: from where to where, of a width of 1.

    >>> Bar.of("red", 0.25, 0.5).text
    '      ━━━━━━            '
    """

    begin: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, style: str, begin: float, end: float) -> Bar:
        """Make a bar; the shortest is a mark."""
        first = min(round(begin * _BAR), _BAR - 1)
        last = max(round(end * _BAR), first + 1)
        return cls(" " * first + "━" * (last - first) + " " * (_BAR - last), style, begin, end)


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, whether it is flush right, and when it is left out.

    Where there is no room, the column with the highest ``drop`` goes first; 0 stays.
    """

    title: str
    right: bool = False
    drop: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and rows of as many cells.

    >>> table = Table.of([Column("model"), Column("$", right=True, drop=1)], [["acme/one", "0.1"], ["acme/two", "2"]])
    >>> for line in laid_out(table): print("".join(cell.text for cell in line))
    model       $
    acme/one  0.1
    acme/two    2
    >>> width_of(table), width_of(fitted(table, 10))
    (13, 8)
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, columns: Sequence[Column], rows: Iterable[Sequence[Cell | str]]) -> Table:
        """Make a table of texts and cells."""
        made = (tuple(_in_a_row(each if isinstance(each, Cell) else Cell(each)) for each in row) for row in rows)
        return cls(tuple(columns), tuple(made))


def in_one_line(text: str) -> str:
    r"""Keep a text that somebody else wrote from beginning a line, which would look like one of ours.

    >>> in_one_line("ada\nbalance  $5.00")
    'ada balance  $5.00'
    """
    return _BREAKS.sub(" ", text)


def _in_a_row(cell: Cell) -> Cell:
    return replace(cell, text=in_one_line(cell.text)) if _BREAKS.search(cell.text) else cell


def _widths(table: Table) -> list[int]:
    return [
        max([len(column.title), *(len(row[place].text) for row in table.rows)])
        for place, column in enumerate(table.columns)
    ]


def width_of(table: Table) -> int:
    """Return how many characters wide a table is."""
    widths = _widths(table)
    return sum(widths) + _GAP * (len(widths) - 1)


def fitted(table: Table, width: int | None) -> Table:
    """Leave columns out until the table fits; then cut the first column. None is room for everything."""
    if width is None:
        return table
    while width_of(table) > width and max(column.drop for column in table.columns) > 0:
        worst = max(range(len(table.columns)), key=lambda place: table.columns[place].drop)
        table = Table(_without(table.columns, worst), tuple(_without(row, worst) for row in table.rows))
    over = width_of(table) - width
    if over <= 0:
        return table
    room = max(_widths(table)[0] - over, _NARROWEST)
    return replace(table, rows=tuple((_cut(row[0], room), *row[1:]) for row in table.rows))


def _without(row: tuple[T, ...], place: int) -> tuple[T, ...]:
    return row[:place] + row[place + 1 :]


def _cut(cell: Cell, room: int) -> Cell:
    return cell if len(cell.text) <= room else replace(cell, text=f"{cell.text[: room - 1]}…")


def laid_out(table: Table) -> list[list[Cell]]:
    """Return the lines, title first, as cells that are padded to the width of their columns."""
    widths = _widths(table)
    title = tuple(Cell(column.title, "bold") for column in table.columns)
    return [
        [_padded(cell, place, table.columns, widths) for place, cell in enumerate(row)] for row in (title, *table.rows)
    ]


def as_text(table: Table, width: int | None = None) -> str:
    """Return a table as lines.

    >>> print(as_text(Table.of([Column("model"), Column("$", right=True)], [["acme/one", "0.1"]])))
    model       $
    acme/one  0.1
    """
    return "\n".join("".join(cell.text for cell in line).rstrip() for line in laid_out(fitted(table, width)))


def as_html(table: Table, title: str = "") -> str:
    """Return a table as HTML that needs no script and no stylesheet, on light ground and on dark; texts are escaped.

    >>> as_html(Table.of([Column("model")], [["<b>"]])).count("&lt;b&gt;")
    1
    """
    aligned = ["text-align:right" if column.right else "text-align:left" for column in table.columns]
    head = "".join(
        f'<th scope="col" style="{how}">{escape(column.title)}</th>'
        for how, column in zip(aligned, table.columns, strict=True)
    )
    rows = "".join(
        "<tr>" + "".join(_html_cell(cell, how) for how, cell in zip(aligned, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    caption = f'<caption style="text-align:left;color:inherit">{escape(title)}</caption>' if title else ""
    return f'<table style="color:inherit">{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _html_cell(cell: Cell, how: str) -> str:
    colour = _COLOURS.get(cell.style, "currentColor")
    if isinstance(cell, Bar):
        place = f"margin-left:{cell.begin:.1%};width:max(3px,{cell.end - cell.begin:.1%})"
        bar = f'<div style="height:.7em;border-radius:2px;background:{colour};{place}"></div>'
        return f'<td style="min-width:12em;vertical-align:middle" aria-hidden="true">{bar}</td>'
    mark = ""
    if cell.style in ("green", "yellow", "red"):
        mark = f'<span aria-hidden="true" style="color:{colour}">●</span> '
    return f'<td style="{how}">{mark}{escape(cell.text)}</td>'


def as_rich(table: Table, title: str = "") -> object:
    """Return a table of rich's, which is there: it asks for it."""
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        made.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(cell.text, style=cell.style) for cell in row))
    return made


def _padded(cell: Cell, place: int, columns: Sequence[Column], widths: Sequence[int]) -> Cell:
    last = place == len(columns) - 1
    text = cell.text.rjust(widths[place]) if columns[place].right else cell.text.ljust(0 if last else widths[place])
    return replace(cell, text=text if last else text + " " * _GAP)
