"""The systems that machines may have booted: the list of this release, and those that a caller gives.

A row has the form in which the service publishes its own list (``GET /servers/tee/measurements``). That list is the
word of who is under examination, so a row of it counts only if the caller has named it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import cast

from chutes_core.errors import ConfigurationError

__all__ = ["REGISTERS", "Row", "as_of", "bundled", "listed", "named", "rehearsed", "row_name"]

REGISTERS = ("RTMR0", "RTMR1", "RTMR2", "RTMR3")
Row = Mapping[str, object]
_REGISTER = re.compile(r"[0-9A-Fa-f]{96}")


@lru_cache(maxsize=1)
def _released() -> Mapping[str, object]:
    text = files("chutes_core").joinpath("data/measurements.json").read_text("utf-8")
    return cast("Mapping[str, object]", json.loads(text))


def as_of() -> str:
    """Return the day of the list of this release."""
    return str(_released()["as_of"])


@lru_cache(maxsize=1)
def bundled() -> tuple[Row, ...]:
    """Return the list of this release.

    >>> row = bundled()[0]
    >>> row_name(row), sorted(row["runtime_rtmrs"])
    ('8xh200 1.3.0', ['RTMR0', 'RTMR1', 'RTMR2', 'RTMR3'])
    """
    rows: list[Row] = []
    for system in cast("Sequence[Mapping[str, str]]", _released()["systems"]):
        shared = {name: system[name] for name in REGISTERS[1:]}
        for name, first in cast("Mapping[str, str]", system["RTMR0"]).items():
            registers = {"RTMR0": first, **shared}
            rows.append(
                {"version": system["version"], "name": name, "mrtd": system["mrtd"], "runtime_rtmrs": registers}
            )
    return tuple(rows)


def listed(given: Sequence[Row] | str | os.PathLike[str] | Callable[[], object]) -> tuple[Row, ...]:
    """Return the rows that a caller gives: as such, in a JSON file, or by a function.

    Raises:
        ConfigurationError: They are not rows of measurements.

    >>> listed([{"mrtd": "00"}])
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: measurements: row 0 needs mrtd and runtime_rtmrs (RTMR0 to RTMR3), ...
    """
    rows: object = given() if callable(given) else given
    if isinstance(rows, str | os.PathLike):
        try:
            with open(rows, encoding="utf-8") as file:
                rows = json.load(file)
        except (OSError, ValueError) as problem:
            raise ConfigurationError(f"measurements: {str(rows)!r} cannot be read: {problem}") from None
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise ConfigurationError(
            f"measurements must be a list of rows, a file of one or a function, not {type(rows).__name__}."
        )
    for place, row in enumerate(rows):
        if not _is_row(row):
            raise ConfigurationError(
                f"measurements: row {place} needs mrtd and runtime_rtmrs (RTMR0 to RTMR3), each of 96 hexadecimal "
                "digits."
            )
    return tuple(rows)


def rehearsed() -> Row:
    """Return the row of the embedded server, which stands for no hardware: it counts on this machine only."""
    mrtd, *registers = (hashlib.sha384(f"chutes_local {name}".encode()).hexdigest() for name in ("MRTD", *REGISTERS))
    row = {"version": "0", "name": "embedded server (no hardware)", "mrtd": mrtd}
    return {**row, "runtime_rtmrs": dict(zip(REGISTERS, registers, strict=True))}


def named(published: Sequence[object], names: Sequence[str]) -> tuple[Row, ...]:
    """Return the rows of the service's list that have one of these names."""
    rows = (cast("Row", row) for row in published if _is_row(row))
    return tuple(row for row in rows if row_name(row) in names)


def row_name(row: Row) -> str:
    """Return what a row is called: its name and version."""
    return " ".join(str(row[part]) for part in ("name", "version") if row.get(part))


def _is_row(row: object) -> bool:
    registers = row.get("runtime_rtmrs") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or not isinstance(registers, Mapping):
        return False
    # Every register must be listed: a missing one would accept any value.
    return all(
        isinstance(each, str) and _REGISTER.fullmatch(each)
        for each in (row.get("mrtd"), *map(registers.get, REGISTERS))
    )
