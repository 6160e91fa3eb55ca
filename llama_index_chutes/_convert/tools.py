"""Convert LlamaIndex tools to the service's format, and its tool calls to LlamaIndex's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool

__all__ = ["selections_in", "tool_specs"]


def tool_specs(tools: Iterable[BaseTool | Mapping[str, Any]], *, strict: bool | None = None) -> list[Mapping[str, Any]]:
    """Convert tools to specifications, leaving existing ones unchanged but for ``strict``, which is sent if set."""
    specs = [
        tool if isinstance(tool, Mapping) else tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools
    ]
    return specs if strict is None else [_strictly(spec, strict) for spec in specs]


def _strictly(spec: Mapping[str, Any], strict: bool) -> Mapping[str, Any]:
    function = spec.get("function")
    if not isinstance(function, Mapping):
        return spec
    parameters = {**(function.get("parameters") or {}), **({"additionalProperties": False} if strict else {})}
    return {**spec, "function": {**function, "parameters": parameters, "strict": strict}}


def selections_in(message: ChatMessage) -> list[ToolSelection]:
    """Return the complete tool calls of a message.

    Arguments that are still text belong to a call still being streamed, which must not be run yet.
    """
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=dict(block.tool_kwargs))
        for block in message.blocks
        if isinstance(block, ToolCallBlock) and isinstance(block.tool_kwargs, dict)
    ]
