"""How a model is asked for an object of a JSON schema: what goes into the request for it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum

__all__ = ["OWN", "Mode", "asked_for"]

OWN = frozenset({"tool_choice", "tool_required", "allow_parallel_tool_calls", "response_format", "tools"})
"""The parameters that are not the caller's when an object is asked for."""
_NAME = re.compile(r"[^A-Za-z0-9_-]")
_IN_WORDS = (
    "Answer with one JSON object that conforms to this JSON schema, and with nothing else. Give values, "
    "do not repeat the schema.\n"
)


class Mode(StrEnum):
    """How a model is asked: with a schema, to call a tool that takes the object, or in words."""

    SCHEMA = "schema"
    TOOL = "tool"
    WORDS = "words"


def asked_for(
    mode: Mode, name: str, schema: Mapping[str, object], *, several: bool = False, json_mode: bool = False
) -> tuple[dict[str, object], str]:
    """Return the parameters to send, and what to say in the prompt.

    Args:
        mode: How to ask.
        name: The name of the object.
        schema: Its JSON schema.
        several: Whether the tool may be called several times at once.
        json_mode: In words: whether the model can be restricted to JSON.

    >>> asked_for(Mode.WORDS, "City", {"type": "object"}, json_mode=True)[0]
    {'response_format': {'type': 'json_object'}}
    """
    name = _NAME.sub("_", name)[:64]
    if mode is Mode.SCHEMA:
        return {"response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}}, ""
    if mode is Mode.TOOL:
        description = schema.get("description") or f"Give the answer as a {name}."
        tool = {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
        single = {} if several else {"parallel_tool_calls": False}
        return {**single, "tools": [tool], "tool_choice": "required"}, ""
    form = {"response_format": {"type": "json_object"}} if json_mode else {}
    return {**form}, _IN_WORDS + json.dumps(schema, ensure_ascii=False)
