"""Chutes for LlamaIndex."""

from __future__ import annotations

from importlib.metadata import version as _version

try:
    import llama_index.core as _framework  # noqa: F401
except ImportError:
    raise ImportError(
        "llama_index_chutes needs llama-index-core: pip install 'chutes-connect[llama-index]'"
    ) from None

__version__ = _version("chutes-connect")

__all__ = ["__version__"]
