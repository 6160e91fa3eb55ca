"""Chutes for LlamaIndex: chat models with ``Chutes``, fallback between several with ``ChutesFallback``, embeddings
with ``ChutesEmbedding``.

>>> from llama_index_chutes import Chutes
>>> Chutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123").metadata.context_window
40960

Classes are loaded on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

try:
    import llama_index.core as _framework  # noqa: F401
except ImportError:
    raise ImportError("llama_index_chutes needs llama-index-core: pip install 'chutes-connect[llama-index]'") from None

if TYPE_CHECKING:
    from llama_index_chutes.cost import CostHandler
    from llama_index_chutes.embeddings import ChutesEmbedding
    from llama_index_chutes.fallback import ChutesFallback, FallbackError, FallbackPolicy, Health
    from llama_index_chutes.llms import Chutes

__version__ = _version("chutes-connect")

_HOMES = {
    "Chutes": "llms",
    "ChutesEmbedding": "embeddings",
    "CostHandler": "cost",
    **dict.fromkeys(("ChutesFallback", "FallbackError", "FallbackPolicy", "Health"), "fallback"),
}

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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
