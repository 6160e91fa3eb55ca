"""Chutes for LlamaIndex: the chat models as ``Chutes``, several of them as one as ``ChutesFallback``, the embeddings
as ``ChutesEmbedding``.

>>> from llama_index_chutes import Chutes
>>> Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123").metadata.context_window
40960
"""

from __future__ import annotations

from importlib.metadata import version as _version

try:
    import llama_index.core as _framework  # noqa: F401
except ImportError:
    raise ImportError("llama_index_chutes needs llama-index-core: pip install 'chutes-connect[llama-index]'") from None

from llama_index_chutes.embeddings import ChutesEmbedding
from llama_index_chutes.fallback import ChutesFallback, FallbackError, FallbackPolicy, Health
from llama_index_chutes.llms import Chutes

__version__ = _version("chutes-connect")

__all__ = [
    "Chutes",
    "ChutesEmbedding",
    "ChutesFallback",
    "FallbackError",
    "FallbackPolicy",
    "Health",
    "__version__",
]
