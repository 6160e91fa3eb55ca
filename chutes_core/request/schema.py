"""Adapt JSON schemas to what the gateway accepts."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["without_patterns"]

_MAPS_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples", "example"})


def without_patterns(schema: object) -> tuple[object, int]:
    """Remove every ``pattern`` keyword from a schema and count them; a property of that name stays.

    The gateway answers 400 to any schema with one, whatever the model.

    >>> without_patterns({"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^a"}}})
    ({'type': 'object', 'properties': {'pattern': {'type': 'string'}}}, 1)
    """
    if isinstance(schema, list | tuple):
        parts = [without_patterns(part) for part in schema]
        return [part for part, _ in parts], sum(count for _, count in parts)
    if not isinstance(schema, Mapping):
        return schema, 0
    kept: dict[str, object] = {}
    removed = 0
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            removed += 1
            continue
        if key in _VALUES:
            kept[key] = value
            continue
        if key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            inner = {name: without_patterns(part) for name, part in value.items()}
            kept[key] = {name: part for name, (part, _) in inner.items()}
            removed += sum(count for _, count in inner.values())
            continue
        kept[key], count = without_patterns(value)
        removed += count
    return kept, removed
