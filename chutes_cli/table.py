"""Tables as text: a pure layout that fits a width, by leaving out what matters least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

__all__ = ["Cell", "Column", "Table", "fitted", "laid_out", "width_of"]

T = TypeVar("T")
_GAP = 2
_NARROWEST = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and how it is shown where there are colours: "bold", "dim", "green", "yellow", "red" or nothing."""

    text: str
    style: str = ""


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
        made = (tuple(each if isinstance(each, Cell) else Cell(each) for each in row) for row in rows)
        return cls(tuple(columns), tuple(made))


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


def _padded(cell: Cell, place: int, columns: Sequence[Column], widths: Sequence[int]) -> Cell:
    last = place == len(columns) - 1
    text = cell.text.rjust(widths[place]) if columns[place].right else cell.text.ljust(0 if last else widths[place])
    return replace(cell, text=text if last else text + " " * _GAP)
