"""The embedding models of Chutes for LlamaIndex."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar, cast

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, field_validator

from chutes_core.model_info import traits_for
from llama_index_chutes._base import ChutesComponent

__all__ = ["DEFAULT_EMBEDDING_MODEL", "DEFAULT_TASK", "ChutesEmbedding"]

DEFAULT_EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-8B-TEE"
DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"

_HINTS = {
    "batch_size": "Did you mean 'embed_batch_size'?",
}


class _Instructed(str):
    """A query that has its instruction already."""

    __slots__ = ()


class ChutesEmbedding(ChutesComponent, BaseEmbedding):
    r"""An embedding model on Chutes.

    Args:
        model_name: The model; also as ``model``.
        embed_batch_size: How many texts go into one request.
        num_workers: How many requests the async methods make at a time.
        dimensions: How many numbers a vector should have; None leaves it to the model.
        query_instruction: What stands around a query, with ``{query}`` and, if you like, ``{task}``. None is what
            the model was trained with, "" is nothing.
        task: What a query is for, in a sentence.
        api_base: An address for embeddings of every model; by default each model's own host.
        e2ee: Seal every request for the machine that answers it; see docs/privacy.md.

    >>> embedding = ChutesEmbedding(api_key="cpk_0123", task="Find the clause")
    >>> embedding.instructed("notice period")
    'Instruct: Find the clause\nQuery: notice period'
    """

    model_name: str = Field(default=DEFAULT_EMBEDDING_MODEL, description="The embedding model.")
    embed_batch_size: int = Field(default=100, gt=0, le=2048, description="How many texts go into one request.")
    num_workers: int | None = Field(default=3, gt=0, description="How many requests the async methods make at a time.")
    dimensions: int | None = Field(default=None, gt=0, description="How many numbers a vector should have.")
    query_instruction: str | None = Field(
        default=None, description="What stands around a query, with {query}; None is the model's own, '' is nothing."
    )
    task: str = Field(default=DEFAULT_TASK, description="What a query is for.")

    _hints: ClassVar[Mapping[str, str]] = _HINTS
    _other_names: ClassVar[Mapping[str, str]] = {"model": "model_name", "base_url": "api_base"}

    @field_validator("query_instruction")
    @classmethod
    def _has_a_place_for_the_query(cls, value: str | None) -> str | None:
        if value and "{query}" not in value:
            raise ValueError("query_instruction must say where the query goes: '... {query}'")
        return value

    @classmethod
    def class_name(cls) -> str:
        """Name the class in serialized data."""
        return "ChutesEmbedding"

    def instructed(self, query: str) -> str:
        """Return a query as it is sent."""
        if isinstance(query, _Instructed):
            return query
        template = self.query_instruction
        if template is None:
            info = self._known_models().get(self.model_name)
            template = (info.traits if info is not None else traits_for(self.model_name)).query_instruction
        if not template:
            return query
        return template.replace("{task}", self.task).replace("{query}", query)

    def _own_settings(self) -> dict[str, Any]:
        return {"embedding_base_url": self.api_base}

    def _request(self, texts: list[str]) -> dict[str, Any]:
        size = max(len(texts), 1)
        return {"texts": texts, "model": self.model_name, "dimensions": self.dimensions, "batch_size": size}

    # A query and a text of the same words have different vectors, and the framework's cache goes by the words:
    # so the instruction is added before the cache is asked, not behind it. `__wrapped__` is the method without its
    # span, which this override has.

    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a query, with the instruction that the model expects."""
        plain = cast("Any", BaseEmbedding.get_query_embedding).__wrapped__
        return cast("list[float]", plain(self, _Instructed(self.instructed(query))))

    async def aget_query_embedding(self, query: str) -> list[float]:
        """Embed a query, with the instruction that the model expects."""
        plain = cast("Any", BaseEmbedding.aget_query_embedding).__wrapped__
        return cast("list[float]", await plain(self, _Instructed(self.instructed(query))))

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(self.instructed(query))

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await self._aget_text_embedding(self.instructed(query))

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._client().embed(**self._request(texts)).vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        async with self._place():
            return (await self._async_client().embed(**self._request(texts))).vectors

    def _place(self) -> AbstractAsyncContextManager[object]:
        """Wait for one of the ``num_workers`` places; the framework itself takes 1 for no limit."""
        workers, loop = self.num_workers, asyncio.get_running_loop()
        if workers is None:
            return nullcontext()
        known = self._clients.places.get(loop)
        if known is None or known[0] != workers:
            known = self._clients.places[loop] = (workers, asyncio.Semaphore(workers))
        return known[1]
