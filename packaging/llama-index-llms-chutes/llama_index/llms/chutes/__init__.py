"""Re-export of ``llama_index_chutes.Chutes`` under LlamaIndex's usual import path."""

from __future__ import annotations

from llama_index_chutes import Chutes

__all__ = ["Chutes"]
