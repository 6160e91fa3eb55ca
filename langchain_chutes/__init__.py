"""Chutes for LangChain."""

from __future__ import annotations

from importlib.metadata import version as _version

try:
    import langchain_core as _framework  # noqa: F401
except ImportError:
    raise ImportError(
        "langchain_chutes needs langchain-core: pip install 'chutes-connect[langchain]'"
    ) from None

__version__ = _version("chutes-connect")

__all__ = ["__version__"]
