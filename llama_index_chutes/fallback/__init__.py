"""The fallback between several models, and what reads its streams."""

from chutes_core.fallback import FallbackError, FallbackPolicy, Health
from llama_index_chutes._convert.restart import acollect, arender, collect, is_restart, render
from llama_index_chutes.fallback.model import ChutesFallback
from llama_index_chutes.fallback.tracing import AttemptEvent

__all__ = [
    "AttemptEvent", "ChutesFallback", "FallbackError", "FallbackPolicy", "Health", "acollect", "arender", "collect",
    "is_restart", "render",
]  # fmt: skip
