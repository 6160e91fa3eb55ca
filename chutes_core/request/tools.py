"""The tools of a request, and which of them a model is to call: every way to say it, as the service reads it. Pure.

>>> tool_choice_param("any", ["add"]), tool_choice_param("add", ["add"])
('required', {'type': 'function', 'function': {'name': 'add'}})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chutes_core.errors import RequestRefusedError

__all__ = ["Toolbox", "tool_choice_param", "tool_names"]


class Toolbox(list[Mapping[str, object]]):
    """Tool specifications that keep the framework's own tools, for other providers' models to describe themselves.

    Args:
        specs: The specifications.
        tools: The tools as the caller gave them.
        options: What else was said of them.
    """

    def __init__(
        self, specs: Iterable[Mapping[str, object]], tools: Iterable[object], options: Mapping[str, object]
    ) -> None:
        super().__init__(specs)
        self.tools = list(tools)
        self.options = dict(options)


def tool_names(tools: Iterable[object]) -> list[str]:
    """Return the names in a list of tool specifications.

    >>> tool_names([{"type": "function", "function": {"name": "add"}}])
    ['add']
    """
    specs = (tool.get("function", tool) for tool in tools if isinstance(tool, Mapping))
    return [str(spec.get("name")) for spec in specs if isinstance(spec, Mapping)]


def tool_choice_param(choice: object, names: Sequence[str]) -> object:
    """Convert a tool choice: one of the service's modes, LangChain's "any", a tool name, or a dict.

    Raises:
        RequestRefusedError: There is no such tool.
    """
    if choice is None or choice is False:
        return None
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        # Accept Anthropic's formats too.
        if choice.get("type") in ("auto", "none", "any", "required"):
            return tool_choice_param(str(choice["type"]), names)
        if not isinstance(name, str):
            return dict(choice)
        return _named(name, names)
    if choice in ("auto", "none", "required"):
        return choice
    return _named(str(choice), names)


def _named(name: str, names: Sequence[str]) -> dict[str, object]:
    if name not in names:
        from difflib import get_close_matches  # for a message that is seldom needed

        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The tools are {', '.join(map(repr, names)) or 'none'}."
        raise RequestRefusedError(f"tool_choice names the tool {name!r}, which is not among those given. {hint}")
    return {"type": "function", "function": {"name": name}}
