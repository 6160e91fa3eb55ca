"""The catalogue on disk: one JSON file, replaced atomically and validated when read."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chutes_core.catalog.model_info import ModelInfo, traits_for
from chutes_core.catalog.updates import read_all
from chutes_core.folders import replace_file
from chutes_core.warned import warn

__all__ = ["Cached", "cache_file", "read", "write"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Cached:
    """The contents of the cache file."""

    models: tuple[ModelInfo, ...]
    fetched_at: float


def cache_file(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the cache file: in the given folder, or in the platform's cache folder."""
    if cache_dir is None:
        from platformdirs import user_cache_dir

        cache_dir = user_cache_dir("chutes-connect")
    return Path(cache_dir) / "models.json"


def read(cache_dir: str | os.PathLike[str] | None = None) -> Cached | None:
    """Read the cache; None if there is none, or it is unusable."""
    path = cache_file(cache_dir)
    try:
        loaded = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        _warn_unusable(path, f"it cannot be read ({type(error).__name__})")
        return None
    if isinstance(loaded, dict) and isinstance(loaded.get("schema"), int) and loaded["schema"] != SCHEMA:
        # Another version of this library wrote it and will write it again: not worth a warning.
        return None
    rows = loaded.get("models") if isinstance(loaded, dict) else None
    fetched_at = loaded.get("fetched_at") if isinstance(loaded, dict) else None
    if not isinstance(rows, list) or not isinstance(fetched_at, float) or not math.isfinite(fetched_at):
        _warn_unusable(path, "it is not a catalogue")
        return None
    models = tuple(read_all(rows, f"cache {path}", _model))
    if not models:
        _warn_unusable(path, "no model in it can be read")
        return None
    return Cached(models, fetched_at)


def write(
    models: Iterable[ModelInfo], fetched_at: float, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """Write the cache atomically; warn and return None if that is impossible."""
    path = cache_file(cache_dir)
    rows = [_lasting(info).to_dict() for info in models]
    try:
        replace_file(path, json.dumps({"schema": SCHEMA, "fetched_at": float(fetched_at), "models": rows}))
    except OSError as error:
        warn(
            f"The catalogue cannot be cached at {path} ({error.strerror or error}), so each program "
            "fetches it again. Choose another cache_dir to avoid that."
        )
        return None
    return path


def _lasting(info: ModelInfo) -> ModelInfo:
    """Leave out what changes within minutes, and what was measured here and has a file of its own."""
    own = replace(info.traits, prefill=traits_for(info.id).prefill)
    return replace(info, hot=None, traits=own)


def _model(row: Mapping[str, object]) -> ModelInfo | None:
    try:
        return ModelInfo.from_dict(row)
    except ValueError:
        return None


def _warn_unusable(path: Path, why: str) -> None:
    warn(f"The cached catalogue {path} is ignored: {why}. It is replaced when the list is next fetched.")
