"""The finished rows of a job on many machines, in a folder that all of them see: what is done, and what is missing.

A part is a Parquet file with the rows of one batch and with what they were made from: in the column ``content_sha256``
a hash of each text, and in its metadata the recipe: the model, the dimensions, the instruction. So the next run knows
which rows are done, and rows that cannot be compared never share a folder.

The theory of operation: parts are numbered in the order in which they are written, and are never changed. A number is
taken with a hard link, which fails if another machine was faster: no two parts have the same, and the first part of a
folder decides its recipe. Of several rows with one key, that in the part with the highest number counts.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from chutes_core.corpus.progress import Progress
from chutes_core.corpus.tables import CONTENT, Dataset, Table, Worker, indexed, key_type, latest, without
from chutes_core.errors import ConfigurationError

__all__ = ["Parts"]

_META = b"chutes_core.scale"
_FORMAT = 1
_NAME = re.compile(r"part-(\d{8,})(?:-[0-9a-f]{8})?\.parquet")
_KNOWN_LATER = ("width", "key_type")


class Parts:
    """The finished rows of a job, in a folder shared by all workers: one Parquet file per batch.

    Files appear whole or not at all, so a killed job goes on where it stopped. A row is done if the folder has its key
    with its text. A folder holds rows of one recipe (worker, model, dimensions, instruction, names of the columns), and
    a run with another one is refused.

    Args:
        folder: The folder; created when the first part is written.
        key: The column that identifies rows.

    >>> Parts("vectors", key="id")
    Parts('vectors', key='id')
    """

    def __init__(self, folder: str | os.PathLike[str], *, key: str = "id") -> None:
        self._given = str(folder)
        self.folder = Path(folder).absolute()  # workers may run in another directory
        self.key = key

    def files(self) -> list[Path]:
        """Return the parts in the order in which they were written."""
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigurationError(f"{self.folder} is not a folder, so nothing can be written there.")
        return sorted(self.folder.glob("part-*.parquet"), key=lambda file: (_number(file), file.name))

    def check(self, recipe: Mapping[str, object], index: Table | None = None) -> Mapping[str, object] | None:
        """Return what the folder's rows were made with; None while there are none.

        Args:
            recipe: What rows are to be made with now.
            index: Their keys.

        Raises:
            ConfigurationError: The two are not the same: names in which respects.
        """
        there = self._recipe()
        if there is None:
            return None
        here = self._whole(recipe, index)
        _refuse_others(there, here, f"The folder {self.folder} has rows of another kind", "there", "here")
        return there

    def _recipe(self) -> Mapping[str, object] | None:
        files = self.files()
        if not files:
            return None
        with _part(files[0]) as (_, recipe):
            return recipe

    def _whole(self, recipe: Mapping[str, object], index: Table | None) -> dict[str, object]:
        return {**recipe, "key": self.key, "key_type": None if index is None else key_type(index, self.key)}

    def write(self, table: Table, recipe: Mapping[str, object]) -> None:
        """Write finished rows as the newest part.

        Raises:
            ConfigurationError: The folder has rows of another recipe.
        """
        if not table.num_rows:
            return
        index = indexed(table, self.key, str(recipe["text"]))
        made_with = json.dumps({"format": _FORMAT, **self._whole(recipe, index)}).encode()
        rows = without(table, CONTENT)
        rows = rows.set_column(rows.column_names.index(self.key), self.key, index.column(self.key))
        rows = rows.append_column(CONTENT, index.column(CONTENT)).replace_schema_metadata({_META: made_with})
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f".part-{os.getpid()}-{random.getrandbits(64):016x}"
        try:
            with unfinished.open("wb") as file:
                import_module("pyarrow.parquet").write_table(rows, file, write_page_checksum=True)
                file.flush()
                os.fsync(file.fileno())
            self._publish(unfinished, recipe, index)
        finally:
            unfinished.unlink(missing_ok=True)

    def _publish(self, unfinished: Path, recipe: Mapping[str, object], index: Table) -> None:
        while True:
            self.check(recipe, index)
            files = self.files()
            name = f"part-{(_number(files[-1]) if files else 0) + 1:08d}"
            try:
                os.link(unfinished, self.folder / f"{name}.parquet")
            except FileExistsError:
                continue  # another worker took the number
            except OSError:  # no hard links here: two parts may share a number, but no name
                unfinished.replace(self.folder / f"{name}-{random.getrandbits(32):08x}.parquet")
            return _keep_names(self.folder)

    def read(self, columns: Sequence[str] | None = None) -> Table | None:
        """Return each finished row once, as it was written last, sorted by key; None while there are none.

        Raises:
            ConfigurationError: A file is damaged, is no part, or belongs to another recipe: names it.
        """
        wanted = None if columns is None else list(dict.fromkeys([self.key, *columns]))
        tables: list[Table] = []
        first: tuple[str, Mapping[str, object]] | None = None
        for file in self.files():
            with _part(file) as (content, recipe):
                if recipe["key"] != self.key:
                    raise ConfigurationError(f"{file} tells rows apart by {recipe['key']!r}, not by {self.key!r}.")
                first = first or (f"in {file.name}", recipe)
                _refuse_others(first[1], recipe, f"{self.folder} has rows of two kinds", first[0], f"in {file.name}")
                tables.append(content.read(columns=wanted))
        return self._joined(tables, wanted) if tables else None

    def _joined(self, tables: list[Table], wanted: list[str] | None) -> Table:
        pyarrow = import_module("pyarrow")
        try:
            rows: Table = pyarrow.concat_tables(tables, promote_options="permissive")
        except pyarrow.ArrowException as error:
            raise ConfigurationError(
                f"The parts in {self.folder} have a column of different types ({error}). Name those to read."
            ) from None
        absent = [name for name in wanted or () if name not in rows.column_names]
        if absent:
            raise ConfigurationError(f"No part in {self.folder} has a column {absent[0]!r}.")
        found = latest(rows.replace_schema_metadata(None), self.key)
        return found if CONTENT in (wanted or ()) else without(found, CONTENT)

    def progress(self, corpus: Dataset | Table, worker: Worker) -> Progress:
        """Compare a corpus with the folder: what is new, changed, there and gone, and the rows that are to be done.

        Args:
            corpus: A dataset of Ray, or a table of pyarrow; its keys and texts are read once.
            worker: What will be done with it, an ``Embed`` or an ``Ask``; if the folder has rows of another kind, that
                is said here, before anything is sent.

        Raises:
            ConfigurationError: That is so, or a key is missing or stands for several texts.
        """
        self.check(worker.recipe)
        return Progress.of(self, corpus, worker.text)

    def remaining(self, corpus: Dataset, worker: Worker | None = None) -> Dataset:
        """Return the rows of a corpus that are to be done: those that are new, and those whose text has changed.

        Without ``worker``, rows of another kind are refused by the workers, each before its first request.
        """
        if worker is not None:
            return cast("Dataset", self.progress(corpus, worker).remaining)
        there = self._recipe()
        return corpus if there is None else cast("Dataset", Progress.of(self, corpus, str(there["text"])).remaining)

    def __repr__(self) -> str:
        return f"Parts({self._given!r}, key={self.key!r})"


def _number(file: Path) -> int:
    found = _NAME.fullmatch(file.name)
    return int(found[1]) if found else 0


@contextmanager
def _part(file: Path) -> Iterator[tuple[_Content, Mapping[str, object]]]:
    """Open a part: its rows, and what they were made with."""
    pyarrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(str(file), page_checksum_verification=True) as content:
            recipe = json.loads((content.schema_arrow.metadata or {}).get(_META, b"null"))
            if not isinstance(recipe, dict) or recipe.get("format") != _FORMAT:
                raise ConfigurationError(
                    f"{file} does not say what its rows were made with: this version did not write it. Move it out of "
                    "the folder, or use another one. pyarrow.parquet.read_table reads it."
                )
            yield content, recipe
    except (ConfigurationError, FileNotFoundError, PermissionError):
        raise
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"{file} is damaged ({said}). Delete it and run the job again: what was in it is done anew."
        ) from None


def _refuse_others(there: Mapping[str, object], here: Mapping[str, object], problem: str, one: str, other: str) -> None:
    differ = [
        f"{name} is {there.get(name)!r} {one} and {value!r} {other}"
        for name, value in here.items()
        if there.get(name) != value and not (name in _KNOWN_LATER and None in (value, there.get(name)))
    ]
    if differ:
        raise ConfigurationError(
            f"{problem}, and they cannot be mixed: {'; '.join(differ)}. Give each a folder of its own."
        )


def _keep_names(folder: Path) -> None:
    """See to it that the names in a folder survive a loss of power."""
    with suppress(OSError):  # where folders cannot be opened, as on Windows
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Content(Protocol):
    def read(self, *, columns: list[str] | None) -> Table: ...
