"""Warnings that point at the caller's own line."""

from __future__ import annotations

import sys
import warnings

from chutes_core.errors import ChutesWarning

__all__ = ["warn"]

_BETWEEN = frozenset(
    ("chutes_core", "chutes_cli", "langchain_chutes", "llama_index_chutes", "langchain_core", "langchain",
     "langchain_classic", "langgraph", "deepagents", "llama_index", "llama_index_instrumentation", "workflows",
     "pydantic", "asyncio", "concurrent", "contextlib", "functools", "threading", "copy", "pickle", "tenacity", "wrapt")
)  # fmt: skip
"""Packages whose code may stand between a program and what warns it."""


def warn(message: str) -> None:
    """Warn whoever called into the library. In a thread of a framework nobody's line is known, and none is named.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     warn("Something was changed.")
    >>> caught[0].category.__name__
    'ChutesWarning'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN and frame.f_back is not None:
        frame, level = frame.f_back, level + 1
    if frame.f_back is None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        level += 1  # past the end
    warnings.warn(message, ChutesWarning, stacklevel=level)
