"""The LlamaIndex embedding model for Chutes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, ClassVar, cast

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, field_validator

from chutes_core.calls.embeddings import one_width
from chutes_core.peers import Word
from chutes_core.request.queries import TASK, query_text
from llama_index_chutes._settings import ChutesComponent

__all__ = ["DEFAULT_EMBEDDING_MODEL", "DEFAULT_TASK", "ChutesEmbedding"]

DEFAULT_EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-8B-TEE"
DEFAULT_TASK = TASK


class _Instructed(str):
    """A query that already has its instruction."""

    __slots__ = ()


class ChutesEmbedding(ChutesComponent, BaseEmbedding):
    r"""A Chutes embedding model.

    Args:
        model_name: The model name. Alias: ``model``.
        embed_batch_size: Number of texts per request.
        num_workers: Maximum number of concurrent requests in async methods.
        dimensions: Vector size; None uses the model's own.
        query_instruction: Query template with ``{query}`` and, optionally, ``{task}``. None uses the one the model
            was trained with, "" none.
        task: What the queries are for, in one sentence.
        api_base: One URL for all embedding models; by default each model's own host.
        e2ee: Encrypt every request end to end to the machine that answers it; see docs/privacy.md.
        api_key: A key or token, or a function that returns one; without it ``CHUTES_OAUTH_TOKEN``, then
            ``CHUTES_API_KEY``, then the login stored by ``chutes-connect login``.

    >>> embedding = ChutesEmbedding(api_key="cpk_0123", task="Find the clause")
    >>> embedding.instructed("notice period")
    'Instruct: Find the clause\nQuery: notice period'
    """

    model_name: str = Field(default=DEFAULT_EMBEDDING_MODEL, description="The embedding model.")
    embed_batch_size: int = Field(default=100, gt=0, le=2048, description="Number of texts per request.")
    num_workers: int | None = Field(default=3, gt=0, description="Maximum number of concurrent async requests.")
    dimensions: int | None = Field(default=None, gt=0, description="Vector size; None uses the model's own.")
    query_instruction: str | None = Field(
        default=None, description="Query template with {query}; None uses the model's own, '' none."
    )
    task: str = Field(default=DEFAULT_TASK, description="What the queries are for.")

    _passed_on: ClassVar[Mapping[str, str]] = {**ChutesComponent._passed_on, "embedding_base_url": "api_base"}
    _words: ClassVar[Mapping[str, Word]] = {
        **ChutesComponent._words, "model": Word("model_name"), "batch_size": Word("embed_batch_size"),
    }  # fmt: skip

    @field_validator("query_instruction")
    @classmethod
    def _has_a_place_for_the_query(cls, value: str | None) -> str | None:
        if value and "{query}" not in value:
            raise ValueError("query_instruction must say where the query goes: '... {query}'")
        return value

    @classmethod
    def class_name(cls) -> str:
        """Return the class name used in serialized data."""
        return "ChutesEmbedding"

    def instructed(self, query: str) -> str:
        """Return the text that is sent for a query."""
        if isinstance(query, _Instructed):
            return query
        return query_text(query, self.model_name, self._known_models, self.query_instruction, self.task)

    def _request(self, texts: list[str]) -> dict[str, Any]:
        size = max(len(texts), 1)
        return {"texts": texts, "model": self.model_name, "dimensions": self.dimensions, "batch_size": size}

    # A query and a document with the same text have different vectors, but the framework caches by text, so the
    # instruction is added before the cache lookup. `__wrapped__` is the method without its span, which this
    # override already has.

    def get_query_embedding(self, query: str) -> list[float]:
        """Embed a query with its instruction."""
        plain = cast("Any", BaseEmbedding.get_query_embedding).__wrapped__
        return cast("list[float]", plain(self, _Instructed(self.instructed(query))))

    async def aget_query_embedding(self, query: str) -> list[float]:
        """Embed a query with its instruction."""
        plain = cast("Any", BaseEmbedding.aget_query_embedding).__wrapped__
        return cast("list[float]", await plain(self, _Instructed(self.instructed(query))))

    # The framework makes one call of ours for each batch, and takes what it can from its cache.

    def get_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """Embed texts; their vectors have one width, however many requests it takes."""
        plain = cast("Any", BaseEmbedding.get_text_embedding_batch).__wrapped__
        return one_width(plain(self, texts, show_progress, **kwargs), self.model_name)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """Embed texts; their vectors have one width, however many requests it takes."""
        plain = cast("Any", BaseEmbedding.aget_text_embedding_batch).__wrapped__
        return one_width(await plain(self, texts, show_progress, **kwargs), self.model_name)

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
        """Return a limiter for ``num_workers``; the framework itself treats 1 as no limit."""
        if self.num_workers is None:
            return nullcontext()
        places = self._clients.places.setdefault(asyncio.get_running_loop(), {})
        return places.setdefault(self.num_workers, asyncio.Semaphore(self.num_workers))
