"""The error of a fallback, as one that is LangChain's too."""

from __future__ import annotations

from chutes_core import fallback
from langchain_chutes._errors import twin

__all__ = ["FallbackError"]

FallbackError = twin(fallback.FallbackError, "ModelError", __name__)
