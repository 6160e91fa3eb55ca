"""Merge the service's lists of models, statistics and chutes into the known models.

Pure functions from models and rows to models. Unreadable rows are skipped, with one warning per list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from chutes_core.catalog import checked
from chutes_core.catalog.kinds import kind_of, published
from chutes_core.catalog.model_info import ModelInfo, parse_row
from chutes_core.catalog.traits import family_tags
from chutes_core.warned import warn

__all__ = ["OFFICIAL", "merge_chutes", "merge_rows", "merge_stats", "read_all"]

T = TypeVar("T")
Models = tuple[ModelInfo, ...]

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
OFFICIAL = "chutes"
"""The user whose chutes are Chutes' own. Those of others are public too, under any name."""


def read_all(rows: Iterable[object], what: str, read: Callable[[Mapping[str, object]], T | None]) -> list[T]:
    """Read every row; one that is not an object, or for which ``read`` returns None, is skipped with a warning."""
    found: list[T] = []
    skipped = 0
    for row in rows:
        value = read(row) if isinstance(row, Mapping) else None
        if value is None:
            skipped += 1
        else:
            found.append(value)
    if skipped:
        warn(f"{skipped} of {skipped + len(found)} rows of the {what} could not be read and are ignored.")
    return found


def merge_rows(known: Models, rows: Iterable[object]) -> Models:
    """Merge the service's list of models, keeping what that list never reports.

    A chat model that is not listed is removed. Models of other kinds are never listed, and stay. A list without a
    single usable row is an error of the service and changes nothing.
    """
    before = {info.id: info for info in known}
    listed: dict[str, ModelInfo] = {}
    for info in read_all(rows, "list of models", parse_row):
        listed.setdefault(info.id, _carried_over(info, before.get(info.id)))
    if not listed:
        warn("The list of models has no usable row, so the previous models are kept.")
        return known
    return (*listed.values(), *(info for info in known if info.kind != "chat" and info.id not in listed))


def _carried_over(info: ModelInfo, before: ModelInfo | None) -> ModelInfo:
    """Add what the list of models never reports, from the previous entry of the same model."""
    if before is None:
        return info
    same_chute = info.chute_id == before.chute_id
    return replace(
        info,
        kind=before.kind if info.output_modalities is None else info.kind,
        version=before.version if same_chute else None,
        user=before.user if same_chute else None,
        host=before.host,
        dimensions=before.dimensions,
        ttft=before.ttft if same_chute else None,
        tps=before.tps if same_chute else None,
        tags=info.tags | before.tags,
        traits=before.traits,
    )


class _Day(NamedTuple):
    date: str
    keys: tuple[str, ...]
    ttft: float | None
    tps: float | None


def merge_stats(known: Models, rows: Iterable[object]) -> Models:
    """Merge speeds from the daily statistics: for each chute, the latest day with a measurement."""
    newest: dict[str, _Day] = {}
    for day in read_all(rows, "statistics", _read_day):
        for key in day.keys if day.ttft is not None or day.tps is not None else ():
            if key not in newest or day.date > newest[key].date:
                newest[key] = day

    def measured(info: ModelInfo) -> ModelInfo:
        day = newest.get(info.chute_id or info.id)
        return info if day is None else replace(info, ttft=day.ttft, tps=day.tps)

    return tuple(map(measured, known))


def _read_day(row: Mapping[str, object]) -> _Day | None:
    date = row.get("date")
    keys = tuple(key for key in (row.get("chute_id"), row.get("name")) if isinstance(key, str))
    if not isinstance(date, str) or not keys:
        return None
    ttft, tps = checked.number(row.get("average_ttft")), checked.number(row.get("average_tps"))
    # The service writes 0 when nothing was measured.
    return _Day(date, keys, ttft or None, tps or None)


def merge_chutes(known: Models, rows: Iterable[object], *, whole: bool = False) -> Models:
    """Merge from the list of chutes what the list of models lacks: which are hot, versions, and every other kind.

    Chat models are those of the list of models, so a chute for chat that is not among them is left out. From a list
    that is ``whole``, what it no longer has of the other kinds is removed.
    """
    chutes = dict(read_all(rows, "list of chutes", _by_id))
    known = _with_ids(known, chutes)
    gone = {info.chute_id for info in known if info.kind != "chat"} - chutes.keys() if whole and chutes else set()

    def refreshed(info: ModelInfo) -> ModelInfo:
        chute = chutes.get(info.chute_id or "", {})
        hot, version = checked.flag(chute.get("hot")), checked.text(chute.get("version"))
        return replace(
            info,
            hot=info.hot if hot is None else hot,
            version=version or info.version,
            user=_publisher(chute) or info.user,
            paths=frozenset(published(chute.get("cords"))) or info.paths,
        )

    kept = [refreshed(info) for info in known if info.kind == "chat" or info.chute_id not in gone]
    found = [info for chute in chutes.values() if (info := _other_model(chute)) is not None]
    # Anybody may give a chute any name: the service's own come first, and none takes the place of a known one.
    found.sort(key=lambda info: info.user != OFFICIAL)
    names: dict[str, ModelInfo] = {}
    for info in (*kept, *found):
        names.setdefault(info.id, info)
    return tuple(names.values())


def _with_ids(known: Models, chutes: Mapping[str, Mapping[str, object]]) -> Models:
    """Add the ids of the service's own chutes to models that have none, as at a gateway of one's own."""
    ids = {chute.get("name"): chute_id for chute_id, chute in chutes.items() if _publisher(chute) == OFFICIAL}
    return tuple(
        replace(info, chute_id=ids[info.id]) if info.chute_id is None and info.id in ids else info for info in known
    )


def _by_id(row: Mapping[str, object]) -> tuple[str, Mapping[str, object]] | None:
    chute_id = row.get("chute_id")
    return (chute_id, row) if isinstance(chute_id, str) and chute_id else None


def _publisher(chute: Mapping[str, object]) -> str | None:
    user = chute.get("user")
    return checked.text(user.get("username")) if isinstance(user, Mapping) else None


def _other_model(chute: Mapping[str, object]) -> ModelInfo | None:
    """Read a chute that is not for chat; None if it is for chat, nobody's, or without a host."""
    name, slug, user = checked.text(chute.get("name")), chute.get("slug"), _publisher(chute)
    template, paths = checked.text(chute.get("standard_template")), published(chute.get("cords"))
    kind = kind_of(template, paths)
    # The slug becomes part of a host that keys are sent to, so it must be a single host name label.
    if kind == "chat" or not name or not user or not isinstance(slug, str) or not _LABEL.fullmatch(slug):
        return None
    told = {
        "id": name,
        "kind": kind,
        "user": user,
        "host": f"https://{slug}.chutes.ai{'/v1' if kind == 'embedding' else ''}",
        "paths": sorted(paths) or None,
        "input_modalities": ["text"] if kind == "embedding" else None,
        "confidential": chute.get("tee"),
        "tags": sorted(family_tags(name) | ({template} if template else set())),
    }
    return ModelInfo.from_dict({**told, **{each: chute.get(each) for each in ("chute_id", "version", "hot")}})
