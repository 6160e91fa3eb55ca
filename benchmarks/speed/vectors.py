"""Embedding clients: CPU for so many texts, and the most memory they took."""

from __future__ import annotations

import base64
import json
import time
from array import array
from collections.abc import Callable
from importlib import import_module
from typing import Any

from benchmarks.speed.tokens import peak, resident

Embed = Callable[[list[str]], list[list[float]]]
RAW = "httpx, base64 decoded"


def _decoded(content: bytes) -> list[list[float]]:
    vectors = []
    for row in json.loads(content)["data"]:
        numbers = array("f")
        numbers.frombytes(base64.b64decode(row["embedding"]))
        vectors.append(numbers.tolist())
    return vectors


def _raw(size: int) -> Callable[[str, str], Embed]:
    def make(url: str, model: str) -> Embed:
        import httpx

        http = httpx.Client(timeout=120)

        def embed(texts: list[str]) -> list[list[float]]:
            vectors: list[list[float]] = []
            for start in range(0, len(texts), size):
                body = {"model": model, "input": texts[start : start + size], "encoding_format": "base64"}
                vectors += _decoded(http.post(f"{url}/embeddings", json=body).content)
            return vectors

        return embed

    return make


def _sdk(options: dict[str, Any]) -> Callable[[str, str], Embed]:
    def make(url: str, model: str) -> Embed:
        import openai

        client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)

        def embed(texts: list[str]) -> list[list[float]]:
            parts = (texts[start : start + 1000] for start in range(0, len(texts), 1000))
            replies = (client.embeddings.create(model=model, input=part, **options) for part in parts)
            return [row.embedding for reply in replies for row in reply.data]

        return embed

    return make


def _core(url: str, model: str) -> Embed:
    from chutes_core import ChutesClient

    client = ChutesClient("cpk_none", base_url=url, embedding_base_url=url)
    return lambda texts: client.embed(texts, model=model).vectors


def _framework(module: str, name: str, method: str, **options: Any) -> Callable[[str, str], Embed]:
    def make(url: str, model: str) -> Embed:
        place = {"base_url": url} if "api_base" not in options else {"api_base": url}
        given = {**options, **place}
        named = {"model_name": model} if given.pop("by_model_name", False) else {"model": model}
        made = getattr(import_module(module), name)(**named, **given)
        embed: Embed = getattr(made, method)
        return embed

    return make


_LI = "get_text_embedding_batch"
CLIENTS: dict[str, tuple[int, Callable[[str, str], Embed]]] = {
    RAW: (3, _raw(32)),
    f"{RAW}, 1,000 at once": (3, _raw(1000)),
    "openai SDK, base64": (3, _sdk({})),
    "openai SDK, floats": (3, _sdk({"encoding_format": "float"})),
    "chutes_core": (3, _core),
    "ChutesEmbeddings": (3, _framework("langchain_chutes", "ChutesEmbeddings", "embed_documents", api_key="cpk_none")),
    "OpenAIEmbeddings": (
        3,
        _framework(
            "langchain_openai", "OpenAIEmbeddings", "embed_documents", api_key="none", check_embedding_ctx_length=False
        ),
    ),
    "ChutesEmbedding": (
        3,
        _framework("llama_index_chutes", "ChutesEmbedding", _LI, api_key="cpk_none", api_base=""),
    ),
    "OpenAILikeEmbedding": (
        2,
        _framework(
            "llama_index.embeddings.openai_like", "OpenAILikeEmbedding", _LI,
            api_key="none", api_base="", by_model_name=True, max_retries=0,
        ),
    ),
}  # fmt: skip
"""The openai SDK of each one's environment, and its maker. Batch sizes are their own defaults."""


SMALL_ONLY = frozenset({"openai SDK, floats", f"{RAW}, 1,000 at once"})
"""Those that only the smaller size is measured with."""


def measure(name: str, url: str, texts: int, dimensions: int) -> dict[str, float]:
    """Embed once; the imports, the construction and a small first call lie before."""
    embed = CLIENTS[name][1](url, f"bench/{dimensions}")
    embed(["warm"] * 64)
    before, began = resident(), time.process_time()
    vectors = embed([f"text {number}" for number in range(texts)])
    spent = time.process_time() - began
    if len(vectors) != texts or {len(vector) for vector in vectors} != {dimensions}:
        raise AssertionError(f"{len(vectors)} vectors came where {texts} of {dimensions} dimensions were asked for")
    size = f"{texts} x {dimensions}"
    return {f"{size}: cpu": spent * 1e3, f"{size}: memory": (peak() - before) / 1024}
