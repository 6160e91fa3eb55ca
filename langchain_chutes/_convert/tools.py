"""Convert tools to request format. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

__all__ = ["Tool", "ToolList", "tool_params"]

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool


class ToolList(list[dict[str, Any]]):
    """Tool specifications for a request, along with the original tools for models that use another format.

    Args:
        described: The specifications.
        raw: The tools as passed by the caller.
        strict: Whether arguments must follow the schema.
    """

    def __init__(
        self, described: Sequence[dict[str, Any]] = (), raw: Sequence[Tool] = (), strict: bool | None = None
    ) -> None:
        super().__init__(described)
        self.raw = list(raw)
        self.strict = strict


def tool_params(tools: Sequence[Tool], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """Convert any kind of tool that LangChain supports; ``strict`` is sent only if set."""
    return [
        dict(tool)
        if isinstance(tool, Mapping) and tool.get("type") == "function" and strict is None
        else convert_to_openai_tool(tool, strict=strict)
        for tool in tools
    ]
