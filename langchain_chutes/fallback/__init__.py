"""The fallback between several models, and what reads its streams."""

from chutes_core.fallback import FallbackError, FallbackPolicy, Health
from langchain_chutes._convert.restart import acollect, collect, is_restart, render
from langchain_chutes.fallback import error as _error  # noqa: F401  # known to `as_langchain` from here on
from langchain_chutes.fallback.model import ChutesFallback

__all__ = [
    "ChutesFallback", "FallbackError", "FallbackPolicy", "Health", "acollect", "collect", "is_restart", "render",
]  # fmt: skip
