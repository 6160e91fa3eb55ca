"""Convert LlamaIndex tools to the service's format, and its tool calls to LlamaIndex's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from chutes_core import RequestRefusedError

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

__all__ = ["Toolbox", "chosen_tool", "selections_in", "tool_specs"]

_CHOICES = ("auto", "none", "required")


class Toolbox(list[Mapping[str, Any]]):
    """Tool specifications that keep the original tools, for other providers' models to convert themselves."""

    def __init__(
        self, specs: Sequence[Mapping[str, Any]], tools: Sequence[BaseTool], options: Mapping[str, Any]
    ) -> None:
        super().__init__(specs)
        self.tools = list(tools)
        self.options = dict(options)


def tool_specs(tools: Iterable[BaseTool | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Convert tools to specifications, leaving existing specifications unchanged."""
    return [
        tool if isinstance(tool, Mapping) else tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools
    ]


def chosen_tool(
    choice: str | Mapping[str, Any] | None, *, required: bool, specs: Sequence[Mapping[str, Any]]
) -> str | Mapping[str, Any] | None:
    """Convert a tool choice to the service's format: a mode, or one tool by name.

    >>> chosen_tool("add", required=False, specs=[{"type": "function", "function": {"name": "add"}}])
    {'type': 'function', 'function': {'name': 'add'}}
    >>> chosen_tool(None, required=True, specs=[])
    'required'
    """
    if choice is None:
        return "required" if required else None
    if isinstance(choice, Mapping) or choice in _CHOICES:
        return choice
    if choice == "any":
        return "required"
    names = [spec["function"]["name"] for spec in specs]
    if choice not in names:
        raise RequestRefusedError(
            f"tool_choice={choice!r} is neither one of {', '.join(_CHOICES)} nor a tool that was given "
            f"({', '.join(names) or 'none was'})."
        )
    return {"type": "function", "function": {"name": choice}}


def selections_in(message: ChatMessage) -> list[ToolSelection]:
    """Return the complete tool calls of a message.

    Arguments that are still text belong to a call still being streamed, which must not be run yet.
    """
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=dict(block.tool_kwargs))
        for block in message.blocks
        if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
    ]
