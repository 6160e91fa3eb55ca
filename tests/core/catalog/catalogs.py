"""Catalogues of a few models, at a time of their own."""

from __future__ import annotations

from chutes_core.catalog.catalog import Catalog, ModelInfo

EMBEDDING = "Qwen/Qwen3-Embedding-8B-TEE"
SNAPSHOT_TIME = 1787356800.0  # 2026-08-22T00:00:00Z
LATER = SNAPSHOT_TIME + 10 * 86400


def catalog_of(*models: ModelInfo, now: float = LATER, fetched_at: float = LATER) -> Catalog:
    return Catalog(models, "live", fetched_at, "2026-08-22", now=lambda: now)


def chat(name: str, **facts: object) -> ModelInfo:
    return ModelInfo(id=name, **facts)  # type: ignore[arg-type]


def ids(models: object) -> list[str]:
    return [info.id for info in models]  # type: ignore[attr-defined]
