"""Chutes for LangChain.

>>> from langchain_chutes import ChatChutes
>>> model = ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123")

``model.invoke("Hello").content`` returns an answer. `ChutesEmbeddings` embeds texts. `ChutesFallback` moves to the
next model when one fails. `CostCallback` tracks what they all cost.

Classes are loaded on first use, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import langchain_core as _framework  # noqa: F401
except ImportError:
    raise ImportError("langchain_chutes needs langchain-core: pip install 'chutes-connect[langchain]'") from None

from chutes_core.lazy import lazily as _lazily

if TYPE_CHECKING:
    from langchain_chutes.chat_models import ChatChutes
    from langchain_chutes.cost import CostCallback
    from langchain_chutes.embeddings import ChutesEmbeddings
    from langchain_chutes.fallback import ChutesFallback, FallbackError, FallbackPolicy, Health
    from langchain_chutes.strings import register, unregister

    __version__: str

__all__ = [
    "ChatChutes",
    "ChutesEmbeddings",
    "ChutesFallback",
    "CostCallback",
    "FallbackError",
    "FallbackPolicy",
    "Health",
    "__version__",
    "register",
    "unregister",
]

__getattr__, __dir__ = _lazily(
    __name__,
    {
        "ChatChutes": "chat_models",
        "ChutesEmbeddings": "embeddings",
        "CostCallback": "cost",
        "register": "strings",
        "unregister": "strings",
        **dict.fromkeys(("ChutesFallback", "FallbackError", "FallbackPolicy", "Health"), "fallback"),
    },
)
