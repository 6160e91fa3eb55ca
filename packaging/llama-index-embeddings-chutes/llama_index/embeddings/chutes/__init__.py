"""Re-export of ``llama_index_chutes.ChutesEmbedding`` under LlamaIndex's usual import path."""

from __future__ import annotations

from llama_index_chutes import ChutesEmbedding

__all__ = ["ChutesEmbedding"]
