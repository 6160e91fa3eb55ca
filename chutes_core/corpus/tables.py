"""Rows of a corpus as Arrow tables: their keys, the hashes of their texts, and which of several is the latest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Protocol, Self, cast, runtime_checkable

from chutes_core.errors import ConfigurationError

__all__ = ["CONTENT", "distinct", "indexed", "key_type", "latest", "plain", "without"]

CONTENT = "content_sha256"
_SHOWN = 3


class Column(Protocol):
    """The part of ``pyarrow.ChunkedArray`` used here."""

    type: object

    def to_pylist(self) -> list[object]: ...
    def cast(self, target: object) -> Self: ...
    def combine_chunks(self) -> object: ...
    def filter(self, mask: object) -> Self: ...
    def slice(self, offset: int, length: int | None = None) -> Self: ...
    def take(self, places: object) -> Self: ...
    def __len__(self) -> int: ...


class _Groups(Protocol):
    def aggregate(self, how: list[tuple[list[str], str]]) -> Table: ...


class Table(Protocol):
    """The part of ``pyarrow.Table`` used here."""

    num_rows: int

    def column(self, name: str) -> Column: ...
    def append_column(self, name: str, column: object) -> Self: ...
    def set_column(self, place: int, name: str, column: object) -> Self: ...
    def drop_columns(self, names: list[str]) -> Self: ...
    def filter(self, mask: object) -> Self: ...
    def take(self, places: object) -> Self: ...
    def group_by(self, names: list[str]) -> _Groups: ...
    def replace_schema_metadata(self, metadata: Mapping[bytes, bytes] | None) -> Self: ...

    @property
    def column_names(self) -> list[str]: ...


@runtime_checkable
class Dataset(Protocol):
    """The part of ``ray.data.Dataset`` used here."""

    def columns(self) -> list[str] | None: ...
    def map_batches(self, function: Callable[[Table], Table], *, batch_format: str, batch_size: None) -> Self: ...
    def iter_batches(self, *, batch_format: str, batch_size: None) -> Iterable[Table]: ...


class Worker(Protocol):
    """What is known of a worker without its client: the column with the texts, and what its results depend on."""

    text: str

    @property
    def recipe(self) -> Mapping[str, object]: ...


def indexed(rows: Table, key: str, text: str) -> Table:
    """Return the keys of rows, in one type for all integers, and the hashes of their texts."""
    pyarrow = import_module("pyarrow")
    if not rows.num_rows:  # a block without rows may have no columns either
        return cast("Table", pyarrow.table({key: [], CONTENT: []}))
    hashes = [
        hashlib.sha256(each.encode()).digest() if isinstance(each, str) else None
        for each in rows.column(text).to_pylist()
    ]
    return cast(
        "Table", pyarrow.table({key: plain(rows.column(key)), CONTENT: pyarrow.array(hashes, pyarrow.binary())})
    )


def plain(keys: Column) -> Column:
    """Return keys in the type in which they are kept: int64 for integers, string for texts."""
    pyarrow = import_module("pyarrow")
    kinds = pyarrow.types
    if kinds.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)  # type: ignore[attr-defined]
    if kinds.is_integer(keys.type) and not kinds.is_uint64(keys.type):
        return keys.cast(pyarrow.int64())
    return keys.cast(pyarrow.string()) if str(keys.type) in ("large_string", "string_view") else keys


def key_type(index: Table, key: str) -> str | None:
    """Return the type of keys, as a word that is kept with finished rows; None if there are no keys."""
    return str(index.column(key).type) if index.num_rows else None


def distinct(index: Table, key: str) -> Table:
    """Return an index without repetitions.

    Raises:
        ConfigurationError: A row has no key, or a key stands for several texts.
    """
    compute, kinds = import_module("pyarrow.compute"), import_module("pyarrow.types")
    keys = index.column(key)
    if kinds.is_nested(keys.type):
        raise ConfigurationError(f"The values of {key!r} are {keys.type}: choose a column of numbers or texts.")
    without = len(keys.filter(compute.is_null(keys, nan_is_null=True)))
    if without:
        raise ConfigurationError(f"{without} rows have no {key!r}, so they could not be told apart.")
    once = index.group_by([key, CONTENT]).aggregate([])
    counts = once.group_by([key]).aggregate([([], "count_all")])
    several = counts.filter(compute.greater(counts.column("count_all"), 1)).column(key).to_pylist()
    if several:
        named = ", ".join(sorted(map(repr, several))[:_SHOWN])
        raise ConfigurationError(
            f"{len(several)} values of {key!r} stand for several texts each, such as {named}. Choose a column that "
            "tells texts apart, or keep one row of each."
        )
    return once


def without(rows: Table, *names: str) -> Table:
    """Return rows without some columns, if they have them."""
    return rows.drop_columns([name for name in names if name in rows.column_names])


def latest(rows: Table, key: str) -> Table:
    """Return the last row of each key, sorted by key."""
    pyarrow, compute = import_module("pyarrow"), import_module("pyarrow.compute")
    places = pyarrow.table({"key": rows.column(key), "place": range(rows.num_rows)})
    order = compute.sort_indices(places, sort_keys=[("key", "ascending"), ("place", "ascending")])
    keys = rows.column(key).take(order)
    differ = compute.not_equal(keys.slice(0, len(keys) - 1), keys.slice(1))
    last = pyarrow.chunked_array([*differ.chunks, pyarrow.array([True])]).combine_chunks()
    return rows.take(order.filter(last))
