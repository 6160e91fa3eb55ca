"""Which models continue an answer whose beginning is sent along: measured here, and kept beside the cached catalogue.

No list says so, and an answer does not show whether its beginning was continued or ignored. So it is asked of each
model (``chutes-connect models check --prefill``), and holds for as long as the model is deployed as it was then.

>>> found = Measured(model="acme/one", prefill="as_is", engine="vllm", measured_at=0.0)
>>> one, moved = ModelInfo(id="acme/one", engine="vllm"), ModelInfo(id="acme/one", engine="sglang")
>>> [info.traits.prefill for info in (*applied((one,), (found,)), *applied((moved,), (found,)))]
['as_is', None]
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chutes_core.catalog import checked
from chutes_core.catalog.model_info import ModelInfo, traits_for
from chutes_core.catalog.traits import Prefill, Traits
from chutes_core.settings import BASE_URL
from chutes_core.warned import warn

if TYPE_CHECKING:
    import os

__all__ = ["Measured", "applied", "measured_now", "prefill_file", "read", "record"]

SCHEMA = 1
_DEPLOYMENT = ("engine", "chute_id", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a model makes of the beginning of an answer.

    Attributes:
        model: Its name.
        prefill: The result.
        why: What happened instead, if it is "no".
        engine: The engine that ran it.
        chute_id: Its chute.
        version: What was deployed there.
        measured_at: When, in seconds since 1970.
    """

    model: str
    prefill: Prefill
    measured_at: float
    why: str = ""
    engine: str | None = None
    chute_id: str | None = None
    version: str | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Measured | None:
        """Read one from plain data; None if it is not one."""
        model, prefill = checked.text(raw.get("model")), Traits.from_dict(raw).prefill
        moment, why = checked.number(raw.get("measured_at")), raw.get("why")
        if model is None or prefill is None or moment is None:
            return None
        told = {name: checked.text(raw.get(name)) for name in _DEPLOYMENT}
        return cls(model=model, prefill=prefill, measured_at=moment, why=why if isinstance(why, str) else "", **told)

    def holds_for(self, info: ModelInfo) -> bool:
        """Return whether the model is deployed as it was; what is unknown counts as unchanged."""
        pairs = ((getattr(self, name), getattr(info, name)) for name in _DEPLOYMENT)
        return self.model == info.id and all(None in pair or pair[0] == pair[1] for pair in pairs)


def measured_now(info: ModelInfo, prefill: Prefill, why: str = "", *, now: float | None = None) -> Measured:
    """Make the record of a measurement of a model as it is deployed now."""
    moment, told = time.time() if now is None else now, {name: getattr(info, name) for name in _DEPLOYMENT}
    return Measured(model=info.id, prefill=prefill, why=why, measured_at=moment, **told)


def applied(models: tuple[ModelInfo, ...], measured: Iterable[Measured]) -> tuple[ModelInfo, ...]:
    """Set the trait of every model that was measured; one that was deployed anew since has it unknown again."""
    known = {each.model: each for each in measured}
    return tuple(_applied(info, known[info.id]) if info.id in known else info for info in models)


def _applied(info: ModelInfo, measured: Measured) -> ModelInfo:
    prefill = measured.prefill if measured.holds_for(info) else traits_for(info.id).prefill
    return replace(info, traits=replace(info.traits, prefill=prefill))


def prefill_file(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the file: in the folder of the cached catalogue."""
    from chutes_core.catalog.cache import cache_file

    return cache_file(cache_dir).with_name("prefill.json")


def read(cache_dir: str | os.PathLike[str] | None = None, *, base_url: str = BASE_URL) -> tuple[Measured, ...]:
    """Read what was measured through a gateway; nothing if there is no file, or an unusable one."""
    rows = _gateways(prefill_file(cache_dir)).get(base_url.rstrip("/"))
    found = (Measured.from_dict(row) for row in (rows if isinstance(rows, list) else ()) if isinstance(row, Mapping))
    return tuple(each for each in found if each is not None)


def record(
    measured: Iterable[Measured], cache_dir: str | os.PathLike[str] | None = None, *, base_url: str = BASE_URL
) -> Path | None:
    """Keep measurements, in place of older ones of the same models; warn and return None if that is impossible."""
    from chutes_core.folders import replace_file

    path = prefill_file(cache_dir)
    known = {each.model: each for each in (*read(cache_dir, base_url=base_url), *measured)}
    rows = [{name: value for name, value in asdict(each).items() if value not in (None, "")} for each in known.values()]
    try:
        replace_file(path, json.dumps({"schema": SCHEMA, "gateways": {**_gateways(path), base_url.rstrip("/"): rows}}))
    except OSError as error:
        warn(f"What was measured cannot be kept at {path} ({error.strerror or error}).")
        return None
    return path


def _gateways(path: Path) -> Mapping[str, object]:
    try:
        loaded = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        loaded = None
    if isinstance(loaded, dict) and isinstance(loaded.get("schema"), int) and loaded["schema"] != SCHEMA:
        return {}  # another version of this library wrote it
    gateways = loaded.get("gateways") if isinstance(loaded, dict) else None
    if not isinstance(gateways, dict):
        warn(f"{path} is ignored: it cannot be read. `chutes-connect models check --prefill` replaces it.")
        return {}
    return gateways
