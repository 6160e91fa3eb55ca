"""Convert tools to request format. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

__all__ = ["Tool", "tool_params"]

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool


def tool_params(tools: Sequence[Tool], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert any kind of tool that LangChain supports; ``strict`` is sent only if set."""
    return [
        dict(tool)
        if isinstance(tool, Mapping) and tool.get("type") == "function" and strict is None
        else convert_to_openai_tool(tool, strict=strict)
        for tool in tools
    ]
