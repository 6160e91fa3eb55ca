"""Chutes for LlamaIndex: chat models with ``Chutes``, fallback between several with ``ChutesFallback``, embeddings
with ``ChutesEmbedding``.

>>> from llama_index_chutes import Chutes
>>> Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123").metadata.context_window
40960

Classes are loaded on first use, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import llama_index.core as _framework  # noqa: F401
except ImportError:
    raise ImportError("llama_index_chutes needs llama-index-core: pip install 'chutes-connect[llama-index]'") from None

from chutes_core.lazy import lazily as _lazily

if TYPE_CHECKING:
    from llama_index_chutes.cost import CostHandler
    from llama_index_chutes.embeddings import ChutesEmbedding
    from llama_index_chutes.fallback import ChutesFallback, FallbackError, FallbackPolicy, Health
    from llama_index_chutes.llms import Chutes

    __version__: str

__all__ = [
    "Chutes",
    "ChutesEmbedding",
    "ChutesFallback",
    "CostHandler",
    "FallbackError",
    "FallbackPolicy",
    "Health",
    "__version__",
]

__getattr__, __dir__ = _lazily(
    __name__,
    {
        "Chutes": "llms",
        "ChutesEmbedding": "embeddings",
        "CostHandler": "cost",
        **dict.fromkeys(("ChutesFallback", "FallbackError", "FallbackPolicy", "Health"), "fallback"),
    },
)
