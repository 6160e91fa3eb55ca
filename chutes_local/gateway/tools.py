"""When and how the local server calls a tool: the policy behind ``tool_choice``.

A 135M model cannot decide well whether to call a tool, so the server decides, and forces the model's answer into
the schema of a call:

* ``none``: never. ``required``: one of the offered tools. A named tool: that one.
* ``auto``, the default: text after a tool's result. Otherwise the tools that share a word with the last user
  message (in name, description or parameters) are offered; if none does, text.

>>> weather = {"type": "function", "function": {"name": "get_weather", "description": "Weather in a city"}}
>>> [name_of(tool) for tool in offered("auto", [weather], [{"role": "user", "content": "Weather?"}])]
['get_weather']
>>> offered("auto", [weather], [{"role": "user", "content": "Hello!"}])
[]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from chutes_local.wire import errors
from chutes_local.wire.encode import Frame, ToolPart
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import ToolDeltas

Tool = Mapping[str, object]
FRAGMENT = 8
_COMMON = re.compile(
    "the|and|for|with|from|that|this|what|which|who|how|are|you|your|can|could|would|will|does|did|not|use|"
    "tool|function|call|get|set|please|tell|give|about|into|one|all|any"
)


def check_tools(body: Mapping[str, object]) -> list[Tool]:
    """Read ``tools``, refusing what no engine accepts."""
    tools = body.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) and name_of(tool) for tool in tools):
        raise Refused(errors.engine_400("Each entry of tools must be a function with a name."))
    choice = body.get("tool_choice")
    if choice not in (None, "none", "auto") and not tools:
        raise Refused(errors.engine_400("When using `tool_choice`, `tools` must be set."))
    wanted = _named(choice)
    if wanted and wanted not in map(name_of, tools):
        raise Refused(
            errors.engine_400(f"The tool specified in `tool_choice` does not match any of the tools: {wanted}")
        )
    if choice is not None and not wanted and choice not in ("none", "auto", "required"):
        raise Refused(errors.engine_400(f"Invalid value for `tool_choice`: {json.dumps(choice)}"))
    return tools


def offered(choice: object, tools: Sequence[Tool], messages: Sequence[Mapping[str, object]]) -> list[Tool]:
    """List the tools of which one is to be called now; an empty list means an answer in text."""
    if not tools or choice == "none":
        return []
    if choice == "required":
        return list(tools)
    wanted = _named(choice)
    if wanted:
        return [tool for tool in tools if name_of(tool) == wanted]
    if messages and messages[-1].get("role") != "user":
        return []
    asked = _words(json.dumps(messages[-1].get("content"), ensure_ascii=False)) if messages else set()
    return [tool for tool in tools if asked & _words(_speaks_of(tool))]


def name_of(tool: Tool) -> str:
    """Return the name of a tool."""
    function = tool.get("function")
    return str(function.get("name") or "") if isinstance(function, Mapping) else ""


def call_frames(calls: Sequence[tuple[str, str]], deltas: ToolDeltas, index: int = 0) -> Iterator[Frame]:
    """Yield calls, each a name and arguments, as fragments in the given order."""
    streams = [_fragments(place, name, arguments, deltas) for place, (name, arguments) in enumerate(calls)]
    if deltas == "interleaved":
        parts = (part for row in zip_longest(*streams) for part in row if part)
    else:
        parts = (part for stream in streams for part in stream)
    for part in parts:
        yield Frame("tool", index, tool=part)


def _fragments(place: int, name: str, arguments: str, deltas: ToolDeltas) -> Iterator[ToolPart]:
    call_id = str(place)
    if deltas == "whole":
        yield ToolPart(place, call_id, name, arguments)
        return
    yield ToolPart(place, call_id, name)
    for start in range(0, len(arguments), FRAGMENT):
        yield ToolPart(place, call_id, None, arguments[start : start + FRAGMENT])


def _named(choice: object) -> str:
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return str(function.get("name") or "") if isinstance(function, Mapping) else ""


def _speaks_of(tool: Tool) -> str:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return ""
    parameters = function.get("parameters")
    fields = parameters.get("properties") if isinstance(parameters, Mapping) else None
    names = " ".join(fields) if isinstance(fields, Mapping) else ""
    return f"{function.get('name')} {function.get('description')} {names}"


def _words(text: str) -> set[str]:
    split = re.findall(r"[^\W_]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())
    # Match simple plurals with their singular: "numbers", though not "cities".
    return {word.rstrip("s") for word in split if len(word) > 2 and not _COMMON.fullmatch(word)}
