"""Chutes as embeddings of LangChain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

from langchain_core.embeddings import Embeddings
from pydantic import ConfigDict, Field

from chutes_core.embeddings import BATCH_SIZE, CONCURRENCY
from chutes_core.errors import ConfigurationError
from chutes_core.model_info import traits_for
from langchain_chutes._settings import ChutesSettings, translated_errors

__all__ = ["ChutesEmbeddings"]

_TASK = "Given a web search query, retrieve relevant passages that answer the query"


class ChutesEmbeddings(ChutesSettings, Embeddings):
    r"""An embedding model on Chutes.

    The host is the model's own, as the catalogue knows it. Vectors come in the order of their texts or not at
    all, and a failed request is tried again by itself, without those that succeeded.

    >>> from langchain_chutes import ChutesEmbeddings
    >>> embeddings = ChutesEmbeddings(api_key="cpk_0123", dimensions=1024)
    >>> embeddings.query_text("Who wrote Faust?")
    'Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: Who wrote Faust?'

    ``embed_documents(texts)`` and ``embed_query(text)`` ask, as do their async forms.
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True
    )

    model: str = Field(default="Qwen/Qwen3-Embedding-8B-TEE", min_length=1)
    """The model's name."""

    dimensions: int | None = Field(default=None, ge=1)
    """How many numbers a vector has; the model's own number by default. Where its machines do not cut vectors
    themselves they are cut, and brought back to length one, here."""

    embedding_base_url: str | None = None
    """The host, where it is not the model's own; by default `CHUTES_EMBEDDING_BASE_URL`."""

    query_instruction: str | Literal[False] | None = None
    """What to put around a query, with `{task}` and `{query}`; the model's own way by default, False for nothing."""

    task: str = _TASK
    """What the queries are for, for models whose instruction says it."""

    batch_size: int = Field(default=BATCH_SIZE, ge=1)
    """Texts in one request. Also as `chunk_size`."""

    max_concurrency: int = Field(default=CONCURRENCY, ge=1)
    """Requests at the same time."""

    show_progress_bar: bool = False
    """Show how far `embed_documents` is; needs tqdm."""

    @classmethod
    def _other_names(cls) -> Mapping[str, str]:
        return {**super()._other_names(), "model_name": "model", "chunk_size": "batch_size"}

    def _client_options(self) -> dict[str, Any]:
        return {**super()._client_options(), "embedding_base_url": self.embedding_base_url}

    def query_text(self, text: str) -> str:
        """Return a query as it is embedded."""
        instruction = self.query_instruction
        if instruction is None:
            info = self._known_models().get(self.model)
            instruction = (info.traits if info is not None else traits_for(self.model)).query_instruction
        if not instruction:
            return text
        if "{query}" not in instruction:
            raise ConfigurationError("query_instruction must say where the query goes: '... {query}'.")
        return instruction.replace("{task}", self.task).replace("{query}", text)

    def _arguments(self, on_batch: Callable[[int], object] | None = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "dimensions": self.dimensions,
            "batch_size": self.batch_size,
            "concurrency": self.max_concurrency,
            "on_batch": on_batch,
        }

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be found."""
        with translated_errors, _progress(len(texts), shown=self.show_progress_bar) as on_batch:
            return self.client.embed(texts, **self._arguments(on_batch)).vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts to be found."""
        with translated_errors, _progress(len(texts), shown=self.show_progress_bar) as on_batch:
            return (await self.async_client.embed(texts, **self._arguments(on_batch))).vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed what to search for."""
        with translated_errors:
            return self.client.embed([self.query_text(text)], **self._arguments()).vectors[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed what to search for."""
        with translated_errors:
            return (await self.async_client.embed([self.query_text(text)], **self._arguments())).vectors[0]


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Callable[[int], object] | None]:
    if not shown:
        yield None
        return
    try:
        tqdm = import_module("tqdm.auto").tqdm
    except ImportError:
        raise ConfigurationError("show_progress_bar needs tqdm: pip install tqdm.") from None
    with tqdm(total=total, unit="text") as bar:
        yield bar.update
