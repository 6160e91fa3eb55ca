"""Chutes for LangChain.

>>> from langchain_chutes import ChatChutes
>>> model = ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key="cpk_0123")

``model.invoke("Hello").content`` is an answer. `ChutesEmbeddings` makes vectors.
"""

from __future__ import annotations

from importlib.metadata import version as _version

try:
    import langchain_core as _framework  # noqa: F401
except ImportError:
    raise ImportError("langchain_chutes needs langchain-core: pip install 'chutes-connect[langchain]'") from None

__version__ = _version("chutes-connect")

from langchain_chutes.chat_models import ChatChutes
from langchain_chutes.embeddings import ChutesEmbeddings

__all__ = ["ChatChutes", "ChutesEmbeddings", "__version__"]
