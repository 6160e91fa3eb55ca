"""Merge the model's and the call's arguments. Pure.

>>> call_arguments({"temperature": 0}, {"stop_sequences": ["."]}, {"stop_sequences": "stop"}, model="acme/one")
{'temperature': 0, 'stop': ['.'], 'model': 'acme/one'}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chutes_core.errors import RequestRefusedError
from langchain_chutes._convert.tools import tool_choice_param, tool_names, tool_params
from langchain_chutes._structured.schemas import response_format

__all__ = ["call_arguments"]


def call_arguments(
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    other_names: Mapping[str, str],
    *,
    model: str,
    stop: list[str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    stream: bool = False,
) -> dict[str, Any]:
    """Build the arguments for the core's ``chat`` and ``stream``; the call's own take precedence.

    Raises:
        RequestRefusedError: They cannot be combined.
    """
    if not other_names.keys().isdisjoint(options):
        options = _renamed(options, other_names)
    arguments = {**given, **options}
    arguments.pop("stream", None)
    arguments.setdefault("model", model)
    if stop is not None:
        arguments["stop"] = stop
    if not arguments.get("stop", True):
        del arguments["stop"]
    if tools := arguments.get("tools"):
        arguments["tools"] = tools = tool_params(tools)
    if "tool_choice" in arguments:
        choice = tool_choice_param(arguments.pop("tool_choice"), tool_names(tools or ()))
        if choice is not None:
            arguments["tool_choice"] = choice
    if isinstance(form := arguments.get("response_format"), type):
        arguments["response_format"] = response_format(form)
    if extra_body or "extra_body" in arguments:
        arguments["extra_body"] = {**(extra_body or {}), **(arguments.get("extra_body") or {})}
    if stream and _answers(arguments) != 1:
        raise RequestRefusedError(
            "A stream carries one answer: ask for n > 1 with invoke and without streaming=True, or leave n out."
        )
    return arguments


def _answers(arguments: Mapping[str, Any]) -> object:
    """Return how many answers are asked for, under the parameter or past it."""
    return arguments.get("n") or (arguments.get("extra_body") or {}).get("n") or 1


def _renamed(given: Mapping[str, Any], other_names: Mapping[str, str]) -> dict[str, Any]:
    """Replace aliases by parameter names."""
    taken: dict[str, Any] = {}
    for name, value in given.items():
        known = other_names.get(name, name)
        if known in taken:
            raise RequestRefusedError(f"{known!r} was given twice, once under an alias: pass it once.")
        taken[known] = value
    return taken
