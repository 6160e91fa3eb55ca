"""Narrow a JSON schema until a very small model can fill it in, and build its minimal instance.

A 135M model follows a grammar but does not know when to stop: inside an unbounded string, array or number it
may never end. Every instance of a *bounded* schema is finite, and satisfies the original schema too (``oneOf``
is read as ``anyOf``: in practice its branches are tagged). Keywords that the grammar engine does not enforce are
refused, because it would silently drop the whole grammar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

MAX_STRING = 120
MAX_ITEMS = 3
MAX_NUMBER = 1_000_000
MAX_SELF_NESTING = 2  # how often a schema may appear inside itself (trees, linked lists)

FREE_KEY = "^[a-z][a-z_]{0,15}$"  # the keys of an object for which the schema names none

# Formats as patterns, each with an example for the echo. The engine knows some formats itself, but allows a
# date-time twenty decimals and an address a screenful; an unknown format turns the grammar off.
_FORMATS = {
    "date": (r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$", "2000-01-01"),
    "time": (r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$", "00:00:00Z"),
    "date-time": (
        r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$",
        "2000-01-01T00:00:00Z",
    ),
    "email": (r"^[a-z]{1,16}@[a-z]{2,12}[.](com|org)$", "echo@example.com"),
    "uri": (r"^https://[a-z]{2,12}[.](com|org)/[a-z]{0,12}$", "https://example.com/"),
    "ipv4": (r"^10[.][0-9]{1,2}[.][0-9]{1,2}[.][0-9]{1,2}$", "10.0.0.1"),
    "uuid": (
        r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$",
        "00000000-0000-4000-8000-000000000000",
    ),
}
_EXAMPLES = dict(_FORMATS.values())
_UNENFORCED = (
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
    "prefixItems",
    "propertyNames",
    "contains",
)
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")

# Stands for "any value": a small scalar is valid wherever the schema is open.
_SCALARS: Mapping[str, object] = {"type": ["string", "integer", "boolean", "null"]}


class SchemaError(ValueError):
    """The schema cannot constrain an answer; the message says which part and why."""


def bounded(schema: Mapping[str, object], max_string: int = MAX_STRING) -> dict[str, object]:
    """Narrow ``schema`` so that every instance is short: same keys, shorter contents.

    References are resolved, so the result is self-contained.

    >>> bounded({"type": "array", "items": {"type": "string"}})
    {'type': 'array', 'items': {'type': 'string', 'maxLength': 120}, 'minItems': 0, 'maxItems': 3}

    Raises:
        SchemaError: the schema has no finite instance, or parts that cannot be enforced.
    """
    narrowed = _Bounder(schema, max_string).node(schema, ())
    if narrowed is None:
        _refuse("it has no finite instance")
    return narrowed


def minimal_instance(schema: Mapping[str, object]) -> object:
    """Return a small value that is valid under ``schema``: the echo backend's answer.

    >>> minimal_instance({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    {'n': 0}
    """
    return _instance(bounded(schema))


class _Bounder:
    """Walks one schema. A node without finite instances becomes ``None`` and is left out of its parent."""

    def __init__(self, root: Mapping[str, object], max_string: int) -> None:
        self.root = root
        self.max_string = max_string

    def node(self, schema: object, refs: tuple[str, ...]) -> dict[str, object] | None:
        """Bound one schema; ``refs`` are the references followed to get here."""
        if schema is False:
            return None
        if schema is True or schema == {}:
            schema = _SCALARS
        if not isinstance(schema, Mapping):
            _refuse(f"{schema!r} is not a schema")
        for keyword in _UNENFORCED:
            if keyword in schema:
                _refuse(f"{keyword!r} cannot be enforced while generating")
        if isinstance(ref := schema.get("$ref"), str):
            return self._reference(ref, refs)
        if "const" in schema:
            return {"const": schema["const"]}
        if "enum" in schema:
            return {"enum": schema["enum"]} if schema["enum"] else None
        for union in ("anyOf", "oneOf"):
            if union in schema:
                if "properties" in schema:
                    _refuse(f"{union!r} beside 'properties' cannot be enforced while generating")
                return self._any_of(_list(schema[union]), refs)
        if "allOf" in schema:
            return self._all_of(schema, refs)
        return self._typed(schema, refs)

    def _reference(self, ref: str, refs: tuple[str, ...]) -> dict[str, object] | None:
        if refs.count(ref) >= MAX_SELF_NESTING:
            return None
        target: object = self.root
        for key in ref.removeprefix("#").strip("/").split("/"):
            if key:
                target = target.get(key) if isinstance(target, Mapping) else None
        if target is None or not ref.startswith("#"):
            _refuse(f"the reference {ref!r} does not resolve within the schema")
        return self.node(target, (*refs, ref))

    def _any_of(self, branches: Sequence[object], refs: tuple[str, ...]) -> dict[str, object] | None:
        finite = [branch for branch in (self.node(each, refs) for each in branches) if branch is not None]
        return {"anyOf": finite} if len(finite) > 1 else (finite[0] if finite else None)

    def _all_of(self, schema: Mapping[str, object], refs: tuple[str, ...]) -> dict[str, object] | None:
        # A single part is how a reference gets a description; several are inheritance, merged key by key.
        parts = _list(schema["allOf"])
        own = {key: schema[key] for key in ("properties", "required") if key in schema}
        bounds = [self.node(part, refs) for part in ([*parts, own] if own else parts)]
        if len(bounds) == 1:
            return bounds[0]
        properties: dict[str, object] = {}
        required: list[object] = []
        for bound in bounds:
            if bound is None:
                return None
            if "properties" not in bound or properties.keys() & _mapping(bound["properties"]).keys():
                _refuse("'allOf' can only join objects with different named properties")
            properties.update(_mapping(bound["properties"]))
            required += _list(bound.get("required"))
        return _closed_object(properties, required)

    def _typed(self, schema: Mapping[str, object], refs: tuple[str, ...]) -> dict[str, object] | None:
        kind = schema.get("type")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else _SCALARS["type"]
        if isinstance(kind, list):
            return self._any_of([{**schema, "type": each} for each in kind], refs)
        if kind == "object":
            return self._object(schema, refs)
        if kind == "array":
            return self._array(schema, refs)
        if kind == "string":
            return self._string(schema)
        if kind == "number" or kind == "integer":
            return _number(schema, kind)
        if kind == "boolean" or kind == "null":
            return {"type": kind}
        _refuse(f"there is no type {kind!r}")

    def _object(self, schema: Mapping[str, object], refs: tuple[str, ...]) -> dict[str, object] | None:
        properties: dict[str, object] = {}
        for name, value in _mapping(schema.get("properties")).items():
            narrowed = self.node(value, refs)
            if narrowed is not None:
                properties[name] = narrowed
        required = _list(schema.get("required"))
        if not all(name in properties for name in required):
            return None
        least = _int(schema.get("minProperties"), 0)
        free = _mapping(schema.get("patternProperties")).get(FREE_KEY, schema.get("additionalProperties", True))
        value_schema = None if properties or "properties" in schema else self.node(free, refs)
        if value_schema is None:
            return _closed_object(properties, required) if least <= len(required) else None
        # Free keys: few and short, or the model never stops.
        return {
            "type": "object",
            "patternProperties": {FREE_KEY: value_schema},
            "additionalProperties": False,
            "minProperties": max(1, least),
            "maxProperties": max(MAX_ITEMS, least),
        }

    def _array(self, schema: Mapping[str, object], refs: tuple[str, ...]) -> dict[str, object] | None:
        least = _int(schema.get("minItems"), 0)
        most = max(least, min(_int(schema.get("maxItems"), MAX_ITEMS), MAX_ITEMS))
        if schema.get("uniqueItems"):  # not enforced by the engine, but true of any list of one
            if least > 1:
                _refuse("'uniqueItems' with more than one item cannot be enforced while generating")
            most = min(most, 1)
        item = self.node(schema.get("items", True), refs)
        if item is None:
            return None if least else {"type": "array", "items": {"type": "null"}, "minItems": 0, "maxItems": 0}
        return {"type": "array", "items": item, "minItems": least, "maxItems": most}

    def _string(self, schema: Mapping[str, object]) -> dict[str, object]:
        pattern, _ = _FORMATS.get(str(schema.get("format")), (schema.get("pattern"), ""))
        if pattern is not None:
            return {"type": "string", "pattern": pattern}
        least = _int(schema.get("minLength"), 0)
        most = max(least, min(_int(schema.get("maxLength"), self.max_string), self.max_string))
        bound: dict[str, object] = {"type": "string", "maxLength": most}
        if least:
            bound["minLength"] = least
        return bound


def _number(schema: Mapping[str, object], kind: str) -> dict[str, object]:
    """Bound a number on both sides; a number without limits also gets two decimals, so that it ends."""
    bound: dict[str, object] = {"type": kind, **{key: schema[key] for key in _LIMITS if key in schema}}
    lower, upper = _limit(bound, "minimum", "exclusiveMinimum"), _limit(bound, "maximum", "exclusiveMaximum")
    if kind == "number" and len(bound) == 1:
        bound["multipleOf"] = 0.01
    if lower is None:
        bound["minimum"] = -MAX_NUMBER if upper is None else min(-MAX_NUMBER, upper - MAX_NUMBER)
    if upper is None:
        bound["maximum"] = MAX_NUMBER if lower is None else max(MAX_NUMBER, lower + MAX_NUMBER)
    return bound


def _instance(schema: Mapping[str, object]) -> object:
    """Return a small instance of a bounded schema."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _list(schema["enum"])[0]
    if "anyOf" in schema:
        return _instance(_mapping(_list(schema["anyOf"])[0]))
    kind = schema["type"]
    if kind == "object":
        if "patternProperties" in schema:
            value = _instance(_mapping(_mapping(schema["patternProperties"])[FREE_KEY]))
            return {"echo" + "_" * place: value for place in range(_int(schema["minProperties"], 1))}
        properties = _mapping(schema["properties"])
        return {str(name): _instance(_mapping(properties[str(name)])) for name in _list(schema["required"])}
    if kind == "array":
        return [_instance(_mapping(schema["items"]))] * _int(schema.get("minItems"), 0)
    if kind == "string":
        return _sample_text(schema)
    return {"boolean": False, "null": None}[str(kind)] if kind in ("boolean", "null") else _sample_number(schema)


def _sample_text(schema: Mapping[str, object]) -> str:
    if "pattern" in schema:
        return _EXAMPLES.get(str(schema["pattern"]), "echo")  # the echo reads no regular expressions
    return "echo".ljust(_int(schema.get("minLength"), 0), ".")[: _int(schema["maxLength"], MAX_STRING)]


def _sample_number(schema: Mapping[str, object]) -> float:
    lower = _limit(schema, "minimum", "exclusiveMinimum") or 0
    upper = _limit(schema, "maximum", "exclusiveMaximum") or 0
    if lower < 0 < upper:
        return 0
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else None)
    if isinstance(step, int | float):
        candidate = step * (lower // step)
        while candidate < lower or candidate == schema.get("exclusiveMinimum"):
            candidate += step
        return candidate
    return lower if "exclusiveMinimum" not in schema else (lower + upper) / 2


def _closed_object(properties: dict[str, object], required: list[object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _limit(schema: Mapping[str, object], *keys: str) -> float | None:
    found = [value for value in (schema.get(key) for key in keys) if isinstance(value, int | float)]
    return found[0] if found else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _refuse(reason: str) -> NoReturn:
    raise SchemaError(f"This JSON schema cannot constrain an answer here: {reason}.")
