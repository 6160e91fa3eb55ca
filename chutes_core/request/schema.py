"""Adapt JSON schemas to what the gateway accepts.

It refuses some schemas with a ``pattern``, for every model, since regular expressions have crashed engines. It does not
find all of them, and takes some for one that are none; :func:`is_refused` says what it does, and :func:`by_reference`
writes a schema so that it is taken. A pattern is best not sent in either case.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import get_origin

from chutes_core.errors import RequestRefusedError

__all__ = ["by_reference", "check_form", "is_refused", "is_taken", "without_patterns"]

_LOG = logging.getLogger("chutes_core")
_FOLLOWED = ("properties", "items", "additionalProperties", "allOf", "anyOf", "oneOf", "not", "if", "then", "else")

_MAPS_OF_SCHEMAS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples", "example"})


def is_refused(schema: object) -> bool:
    """Return whether the gateway refuses an answer's schema. The parameters of tools it does not look at.

    It looks for a key ``pattern``, and follows some keywords; the map behind ``properties`` it takes for a schema. So a
    property's own schema is not looked at, but a property *named* ``pattern`` counts.

    >>> is_refused({"properties": {"zip": {"type": "string", "pattern": "^[0-9]+$"}}})
    False
    >>> is_refused({"properties": {"pattern": {"type": "string"}}})
    True
    """
    if not isinstance(schema, Mapping):
        return False
    followed = (schema[key] for key in _FOLLOWED if key in schema)
    inner = (part for value in followed for part in (value if isinstance(value, list) else (value,)))
    return "pattern" in schema or any(map(is_refused, inner))


def is_taken(schema: object) -> bool:
    """Return whether an object of a schema can be asked for by the schema; if not, the log says why.

    >>> is_taken({"properties": {"zip": {"pattern": "^[0-9]+$"}}}), is_taken({"properties": {"pattern": {}}})
    (True, False)
    """
    refused = is_refused(without_patterns(schema)[0])
    if refused:
        _LOG.info(
            "the gateway takes a property named 'pattern' for a regular expression and refuses such a schema, "
            "so the object is asked for by a tool call or in words"
        )
    return not refused


def by_reference(schema: object) -> object:
    """Return a schema that means the same, with all of it among its definitions, where the gateway does not look.

    One with references to elsewhere than its definitions stays as it is.

    >>> by_reference({"properties": {"pattern": {}}})
    {'$ref': '#/$defs/answer', '$defs': {'answer': {'properties': {'pattern': {}}}}}
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else None
    if not (isinstance(schema, Mapping) and isinstance(definitions, Mapping)):
        return schema
    if not all(isinstance(ref, str) and ref.startswith("#/$defs/") for ref in _references(schema)):
        return schema
    name = "answer"
    while name in definitions:
        name += "_"
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    return {"$ref": f"#/$defs/{name}", "$defs": {**definitions, name: inner}}


def _references(part: object) -> Iterator[object]:
    if isinstance(part, Mapping):
        if "$ref" in part:
            yield part["$ref"]
        part = part.values()
    elif not isinstance(part, list | tuple):
        return
    for each in part:
        yield from _references(each)


def without_patterns(schema: object) -> tuple[object, int]:
    """Remove every ``pattern`` keyword from a schema and count them; a property of that name stays.

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


def check_form(form: object) -> None:
    """Refuse a form of an answer that is no class with fields of its own, such as a list.

    >>> check_form(list[int])
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: An answer is one object, and list[int] is none: ...
    """
    if get_origin(form) is None and not (isinstance(form, type) and form.__module__ == "builtins"):
        return
    told = form.__name__ if isinstance(form, type) and get_origin(form) is None else str(form)
    raise RequestRefusedError(
        f"An answer is one object, and {told} is none: put it into a class, as in "
        f"`class Answer(BaseModel): items: {told}`."
    )
