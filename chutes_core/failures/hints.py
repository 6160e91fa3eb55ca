"""Hints for a model that was not found: another kind of model, or a similar name in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import FACTS, explained

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.catalog.model_info import ModelInfo

__all__ = ["Wanted", "with_hint"]

Wanted = Literal["chat", "embedding"]
"""The kind of model that a call needs."""

_NOT_FOUND = (Kind.MODEL_NOT_FOUND, Kind.ROUTE_NOT_FOUND)
_EMBED = "use embed(), ChutesEmbeddings (LangChain), ChutesEmbedding (LlamaIndex) or `chutes-connect embed`"


def with_hint(error: APIError, catalog: Catalog, wanted: Wanted | None = None) -> APIError:
    """Add what the catalogue knows about a model that was not found to a failure, otherwise unchanged.

    >>> from chutes_core.catalog.catalog import Catalog
    >>> from chutes_core.failures.reading import failure
    >>> error = failure(Kind.MODEL_NOT_FOUND, model="Qwen/Qwen3-Embedding-8B-TEE", status_code=404)
    >>> print(with_hint(error, Catalog.bundled(), "chat"))
    Qwen/Qwen3-Embedding-8B-TEE: this is an embedding model (404). For embeddings use embed(), ChutesEmbeddings \
(LangChain), ChutesEmbedding (LlamaIndex) or `chutes-connect embed`; for chat choose a chat model such as \
Qwen/Qwen3-32B-TEE.
    """
    if error.kind not in _NOT_FOUND or not error.model:
        return error
    info, why = catalog.get(error.model), ""
    if info is not None and wanted is not None and info.kind != wanted:
        kind = f"not {_a(wanted)}" if info.kind == "other" else _a(info.kind)
        why, remedy = f"this is {kind} model", _other_kind(info, catalog, wanted)
    elif info is None and error.kind is Kind.MODEL_NOT_FOUND and (name := _meant(error.model, catalog, wanted)):
        remedy = f"{FACTS[error.kind].remedy} Did you mean {name}?"
    else:
        return error
    return explained(error, why=why, remedy=remedy)


def _other_kind(info: ModelInfo, catalog: Catalog, wanted: Wanted) -> str:
    """Return how to call a model of this kind, and a suitable model for this call."""
    example = next((each.id for each in catalog.select(kind=wanted)), None)
    such_as = f" such as {example}" if example is not None else ""
    if wanted == "embedding":
        return f"Embeddings need an embedding model{such_as}."
    for_itself = f"For embeddings {_EMBED}; for" if info.kind == "embedding" else "For"
    return f"{for_itself} chat choose a chat model{such_as}."


def _meant(asked: str, catalog: Catalog, wanted: Wanted | None) -> str | None:
    # Imported here because it is only needed after an error.
    from chutes_core.catalog.query import nearest

    return next(iter(nearest(asked, catalog.select(kind=wanted), limit=1)), None)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aei' else 'a'} {kind}"
