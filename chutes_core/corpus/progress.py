"""How far a corpus is: what of it is in the folder of finished rows, what is not, and what is there beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

from chutes_core.corpus.tables import CONTENT, Column, Dataset, Table, distinct, indexed, key_type, plain
from chutes_core.errors import ConfigurationError

if TYPE_CHECKING:
    from chutes_core.corpus.parts import Parts

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A corpus compared with the finished rows, by key and by text.

    Attributes:
        new: Rows whose key is not in the folder.
        changed: Rows whose key is there with another text.
        there: Rows that are done.
        gone: Rows in the folder whose key is not in the corpus.
        repeated: Rows of the corpus that repeat another one, key and text.
    """

    new: int
    changed: int
    there: int
    gone: int
    repeated: int
    _parts: Parts = field(repr=False)
    _corpus: Dataset | Table = field(repr=False)
    _index: Table = field(repr=False)
    _missing: Column = field(repr=False)

    @classmethod
    def of(cls, parts: Parts, corpus: Dataset | Table, text: str) -> Progress:
        """Compare; see :meth:`Parts.progress`."""
        index = _index(corpus, parts.key, text)
        once = distinct(index, parts.key)
        return cls._compared(parts, corpus, once, index.num_rows - once.num_rows)

    @classmethod
    def _compared(cls, parts: Parts, corpus: Dataset | Table, index: Table, repeated: int) -> Progress:
        compute = import_module("pyarrow.compute")
        done, keys = parts.read([CONTENT]), index.column(parts.key)
        if done is None or not index.num_rows:
            gone = done.num_rows if done is not None else 0
            return cls(index.num_rows, 0, 0, gone, repeated, parts, corpus, index, keys)
        if key_type(done, parts.key) != key_type(index, parts.key):
            raise ConfigurationError(
                f"The values of {parts.key!r} are {key_type(done, parts.key)} in {parts.folder} and "
                f"{key_type(index, parts.key)} in the corpus. Give them one type, or use another folder."
            )
        places = compute.index_in(keys, value_set=done.column(parts.key).combine_chunks())
        same = compute.equal(done.column(CONTENT).take(places), index.column(CONTENT))
        same = compute.fill_null(same, fill_value=False)
        found, there = len(places) - places.null_count, compute.sum(same).as_py()
        missing = keys.filter(compute.invert(same))
        return cls(
            index.num_rows - found, found - there, there, done.num_rows - found, repeated, parts, corpus, index, missing
        )

    @property
    def missing(self) -> int:
        """The number of rows that are not done: those that are new or changed."""
        return self.new + self.changed

    def missing_keys(self, most: int = 10) -> list[object]:
        """Return the keys of some rows that are not done."""
        return self._missing.slice(0, most).to_pylist()

    @property
    def remaining(self) -> Dataset | Table:
        """The rows of the corpus that are not done."""
        if not self.there:
            return self._corpus
        key, missing = self._parts.key, self._missing.combine_chunks()
        if not isinstance(self._corpus, Dataset):
            return _among(self._corpus, key, missing)
        shared = import_module("ray").put(missing)  # once per machine, not once per task

        def rest(rows: Table) -> Table:
            return _among(rows, key, import_module("ray").get(shared))

        return self._corpus.map_batches(rest, batch_format="pyarrow", batch_size=None)

    def now(self) -> Progress:
        """Compare again, with the folder as it is now."""
        return self._compared(self._parts, self._corpus, self._index, self.repeated)


def _index(corpus: Dataset | Table, key: str, text: str) -> Table:
    names = corpus.columns() if isinstance(corpus, Dataset) else corpus.column_names
    for name in (key, text):
        if names and name not in names:
            raise ConfigurationError(f"The corpus has no column {name!r}; it has {', '.join(names)}.")
    if not isinstance(corpus, Dataset):
        return indexed(corpus, key, text)
    pyarrow, form = import_module("pyarrow"), "pyarrow"
    hashed = corpus.map_batches(lambda rows: indexed(rows, key, text), batch_format=form, batch_size=None)
    tables = [pyarrow.table({key: [], CONTENT: []}), *hashed.iter_batches(batch_format=form, batch_size=None)]
    return cast("Table", pyarrow.concat_tables(tables, promote_options="permissive"))


def _among(rows: Table, key: str, keys: object) -> Table:
    if not rows.num_rows:
        return rows
    return rows.filter(import_module("pyarrow.compute").is_in(plain(rows.column(key)), value_set=keys))
