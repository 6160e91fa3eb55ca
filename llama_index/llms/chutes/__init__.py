"""Chutes where LlamaIndex's users look for it; the package is ``llama_index_chutes``."""

from __future__ import annotations

from llama_index_chutes import Chutes

__all__ = ["Chutes"]
