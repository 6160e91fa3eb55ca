"""Chutes for LangChain.

>>> from langchain_chutes import ChatChutes
>>> model = ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123")

``model.invoke("Hello").content`` returns an answer. `ChutesEmbeddings` embeds texts. `ChutesFallback` moves to the
next model when one fails. `CostCallback` tracks what they all cost.

Classes are loaded on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

try:
    import langchain_core as _framework  # noqa: F401
except ImportError:
    raise ImportError("langchain_chutes needs langchain-core: pip install 'chutes-connect[langchain]'") from None

if TYPE_CHECKING:
    from langchain_chutes.chat_models import ChatChutes
    from langchain_chutes.cost import CostCallback
    from langchain_chutes.embeddings import ChutesEmbeddings
    from langchain_chutes.fallback import ChutesFallback, FallbackError, FallbackPolicy, Health

__version__ = _version("chutes-connect")

_HOMES = {
    "ChatChutes": "chat_models",
    "ChutesEmbeddings": "embeddings",
    "CostCallback": "cost",
    **dict.fromkeys(("ChutesFallback", "FallbackError", "FallbackPolicy", "Health"), "fallback"),
}

__all__ = [
    "ChatChutes",
    "ChutesEmbeddings",
    "ChutesFallback",
    "CostCallback",
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
