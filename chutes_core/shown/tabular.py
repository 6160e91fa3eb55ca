"""What shows itself as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_core.shown.table import Table

__all__ = ["Tabular"]


class Tabular:
    """Mixin of what shows itself as a table: in a notebook, where rich prints it, and as text.

    >>> from chutes_core.shown.table import Column, Table
    >>> class Rules(Tabular):
    ...     def _table(self):
    ...         return Table.of([Column("rule")], [["Mind the <gap>."]])
    >>> print(Rules().as_text())
    rule
    Mind the <gap>.
    >>> "&lt;gap&gt;" in Rules()._repr_html_()
    True
    """

    __slots__ = ()

    def _table(self) -> Table:
        """Return what is shown."""
        raise NotImplementedError

    def _title(self) -> str:
        """Return what stands above it."""
        return ""

    def as_text(self, width: int | None = None) -> str:
        """Return the table as lines, at most so wide."""
        from chutes_core.shown.table import as_text

        return as_text(self._table(), width)

    def _repr_html_(self) -> str:
        from chutes_core.shown.table import as_html

        return as_html(self._table(), self._title())

    def __rich__(self) -> object:
        from chutes_core.shown.table import as_rich

        return as_rich(self._table(), self._title())
