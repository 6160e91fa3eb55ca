"""JSON schemas for structured output: what to send, and what to check answers against. Pure.

>>> promise({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})["required"]
['age']
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, cast, get_args, get_type_hints

from langchain_core.utils.function_calling import convert_to_json_schema

__all__ = ["Schema", "promise", "response_format", "titled"]

Schema = Mapping[str, Any] | type

_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def response_format(schema: Schema, *, strict: bool | None = None) -> dict[str, Any]:
    """Return the ``response_format`` for a schema.

    >>> response_format({"title": "Person", "type": "object", "properties": {"name": {"type": "string"}}})
    {'type': 'json_schema', 'json_schema': {'name': 'Person', 'schema': {'title': 'Person', 'type': 'object', \
'properties': {'name': {'type': 'string'}}}}}
    """
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema":
        return dict(schema)
    if isinstance(schema, Mapping) and isinstance(schema.get("json_schema"), Mapping):
        return {"type": "json_schema", "json_schema": dict(schema["json_schema"])}
    described = dict(schema) if _is_json_schema(schema) else convert_to_json_schema(schema)  # type: ignore[arg-type]
    name = _NAME.sub("_", str(described.get("title") or getattr(schema, "__name__", "answer")))[:64]
    wrapped: dict[str, Any] = {"name": name, "schema": described}
    if strict is not None:
        wrapped["strict"] = strict
    return {"type": "json_schema", "json_schema": wrapped}


def _is_json_schema(schema: Schema) -> bool:
    if not isinstance(schema, Mapping):
        return False
    return schema.keys().isdisjoint(("parameters", "input_schema", "toolSpec")) and schema.get("type") != "function"


def titled(schema: Schema) -> Schema:
    """Add the title that LangChain uses as a tool name to a JSON schema.

    >>> titled({"type": "object", "properties": {}})
    {'title': 'answer', 'type': 'object', 'properties': {}}
    """
    if not _is_json_schema(schema) or not {"title", "name"}.isdisjoint(cast("Mapping[str, Any]", schema)):
        return schema
    wrapped = response_format(schema)["json_schema"]
    return {"title": wrapped.get("name", "answer"), **wrapped.get("schema", {})}


def promise(schema: Schema) -> Mapping[str, Any]:
    """Return the schema that answers are checked against.

    LangChain describes every TypedDict key as required and none as nullable, so the class itself is consulted, and
    nothing is known of what is inside of its values.
    """
    described = response_format(schema)["json_schema"].get("schema")
    if not isinstance(described, Mapping):
        return {}
    keys = getattr(schema, "__required_keys__", None)
    if keys is None:
        return described
    nullable = _nullable(cast("type", schema))
    known = {
        name: {key: each[key] for key in ("type", "enum") if key in each}
        for name, each in described["properties"].items()
        if name not in nullable
    }
    needed = [name for name in described.get("required", ()) if name in keys]
    return {**described, "properties": known, "required": needed}


def _nullable(schema: type) -> set[str]:
    try:
        hints = get_type_hints(schema)
    except NameError:  # it refers to names local to a function
        return set(schema.__annotations__)
    return {name for name, hint in hints.items() if NoneType in get_args(hint)}
