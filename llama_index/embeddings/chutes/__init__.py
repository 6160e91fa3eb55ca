"""Chutes' embeddings where LlamaIndex's users look for them; the package is ``llama_index_chutes``."""

from __future__ import annotations

from llama_index_chutes import ChutesEmbedding

__all__ = ["ChutesEmbedding"]
