"""LangChain embeddings for Chutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Literal

from langchain_core.embeddings import Embeddings
from pydantic import Field, SecretStr

from chutes_core.calls.embeddings import BATCH_SIZE, CONCURRENCY
from chutes_core.connected import wraps
from chutes_core.errors import ConfigurationError
from chutes_core.peers import FIELDS, Word
from chutes_core.request.queries import TASK, query_text
from langchain_chutes._settings import ChutesSettings, translated_errors

__all__ = ["ChutesEmbeddings"]


class ChutesEmbeddings(ChutesSettings, Embeddings):
    r"""A Chutes embedding model.

    Requests go to the model's own host, taken from the catalogue. Vectors are returned in the order of their texts.
    Only failed requests are retried; if one still fails, the whole call fails.

    The key comes from ``api_key``, else ``CHUTES_OAUTH_TOKEN``, ``CHUTES_API_KEY``, or the stored login.

    >>> from langchain_chutes import ChutesEmbeddings
    >>> embeddings = ChutesEmbeddings(api_key="cpk_0123", dimensions=1024)
    >>> embeddings.query_text("Who wrote Faust?")
    'Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: Who wrote Faust?'

    Use ``embed_documents(texts)`` and ``embed_query(text)``, or their async forms.
    """

    model: str = Field(default="Qwen/Qwen3-Embedding-8B-TEE", min_length=1)
    """The model name."""

    dimensions: int | None = Field(default=None, ge=1)
    """Vector size; by default the model's own. If the server cannot shorten vectors, they are truncated and
    normalized here."""

    embedding_base_url: str | None = None
    """One host for all embedding models; by default `CHUTES_EMBEDDING_BASE_URL`, else each model's own host."""

    _passed_on: ClassVar[Mapping[str, str]] = {
        **ChutesSettings._passed_on, "embedding_base_url": "embedding_base_url",
    }  # fmt: skip

    _wraps: ClassVar[Mapping[str, Callable[[Any], Any]]] = wraps(
        SecretStr, "base_url", "management_url", "embedding_base_url"
    )
    _words: ClassVar[Mapping[str, Word]] = {**FIELDS["langchain"], "chunk_size": Word("batch_size")}

    query_instruction: str | Literal[False] | None = None
    """Query template with `{task}` and `{query}`; by default the model's own, False for none."""

    task: str = TASK
    """What the queries are for; used by templates with `{task}`."""

    batch_size: int = Field(default=BATCH_SIZE, ge=1)
    """Texts per request. Alias: `chunk_size`."""

    max_concurrency: int = Field(default=CONCURRENCY, ge=1)
    """Maximum number of concurrent requests."""

    show_progress_bar: bool = False
    """Show a progress bar in `embed_documents`; needs tqdm."""

    def query_text(self, text: str) -> str:
        """Return the text that is embedded for a query."""
        return query_text(text, self.model, self._known_models, self.query_instruction, self.task)

    def _arguments(self, on_batch: Callable[[int], object] | None = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "dimensions": self.dimensions,
            "batch_size": self.batch_size,
            "concurrency": self.max_concurrency,
            "on_batch": on_batch,
        }

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents."""
        with translated_errors, _progress(len(texts), shown=self.show_progress_bar) as on_batch:
            return self.client.embed(texts, **self._arguments(on_batch)).vectors

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents."""
        with translated_errors, _progress(len(texts), shown=self.show_progress_bar) as on_batch:
            return (await self.async_client.embed(texts, **self._arguments(on_batch))).vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a search query."""
        with translated_errors:
            return self.client.embed([self.query_text(text)], **self._arguments()).vectors[0]

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a search query."""
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
