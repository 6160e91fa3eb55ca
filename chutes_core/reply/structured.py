"""Decide what the structured answer in a model's reply is: one rule for every framework, method and kind of schema.

The answer is the one JSON value of the reply that fits; whether a value fits, the framework says. Values that fit and
differ are an error, since nothing says which of them is meant: a draft is as good as a final. The schema itself is
never an answer, nor is an object that shares no field with a class whose fields all have defaults: ``{"error": …}``
would be a valid instance of it.

>>> form = Form({"type": "object", "properties": {"name": {"type": "string"}}})
>>> reply = 'For {"properties": {"name": {"type": "string"}}} I say: {"name": "Ada"}'
>>> agreed(in_text(reply, form, lambda found: found.value))
{'name': 'Ada'}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from chutes_core.json_text import Value, parse, unfenced, values

__all__ = [
    "Answer",
    "Form",
    "FormError",
    "Found",
    "Piece",
    "agreed",
    "broken",
    "field_names",
    "in_calls",
    "in_text",
    "pieces",
]

T = TypeVar("T")
Schema = Mapping[str, object]

_MOST = 64  # values in one text
_KINDS = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TYPES = frozenset({"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"})
_SCHEMA_KEYS = _TYPES | {"$defs", "additionalProperties", "description", "items", "properties", "required", "title"}


class FormError(ValueError):
    """A reply has no answer of the form that was asked for.

    Attributes:
        why: What is wrong with it.
        read: Whether there was any JSON.
        problem: What the framework said of the value that came closest, if it looked at one.
        said: The values in question.
    """

    def __init__(
        self, why: str, *, read: bool = True, problem: ValueError | None = None, said: Sequence[object] = ()
    ) -> None:
        super().__init__(why)
        self.why = why
        self.read = read
        self.problem = problem
        self.said = said


class Found(NamedTuple):
    """A JSON value of a reply, as text and as a value."""

    text: str
    value: object


class Answer(NamedTuple, Generic[T]):
    """A value that fits, and what the framework made of it."""

    value: object
    result: T


@dataclass(frozen=True, eq=False)
class Form:
    """What a structured answer must look like.

    Attributes:
        schema: The JSON schema; empty for any object.
        names: Other names that its fields go by.
    """

    schema: Schema
    names: frozenset[str] = frozenset()

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The types that an answer may have.

        >>> Form({"$ref": "#/$defs/A", "$defs": {"A": {"type": "array"}}}).kinds
        frozenset({'array'})
        """
        kinds: set[str] = set()
        for shape in self._shapes:
            told = shape.get("type", "object" if "properties" in shape else "array" if "items" in shape else None)
            kinds.update(_KINDS if told is None else map(str, told) if isinstance(told, list) else {str(told)})
        return frozenset(kinds)

    @cached_property
    def fields(self) -> Schema:
        """The schemas of its fields by name."""
        return {name: each for shape in self._shapes for name, each in _mapping(shape.get("properties")).items()}

    @cached_property
    def _all_optional(self) -> bool:
        return any(shape.get("properties") and not shape.get("required") for shape in self._shapes)

    @cached_property
    def _shapes(self) -> Sequence[Schema]:
        """The schema, or those that it refers to."""
        shapes: list[Schema] = []
        waiting, seen = [self.schema], set[int]()
        while waiting:
            shape = waiting.pop()
            if id(shape) in seen:
                continue
            seen.add(id(shape))
            parts = [each for key in ("anyOf", "oneOf", "allOf") for each in _list(shape.get(key))]
            if (ref := shape.get("$ref")) is not None:
                parts.append(_resolved(self.schema, str(ref)))
            waiting += [each for each in parts if isinstance(each, Mapping)]
            if not parts or "properties" in shape:
                shapes.append(shape)
        return shapes

    @cached_property
    def _items(self) -> Sequence[Form]:
        definitions = {key: self.schema[key] for key in ("$defs", "definitions") if key in self.schema}
        items = [_mapping(shape.get("items")) for shape in self._shapes]
        return [Form({**definitions, **each}, self.names) for each in items if each]

    def flaw(self, value: object) -> str | None:
        """Return why a value is no answer, although it may fit; None if it may be one.

        >>> form = Form({"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}})
        >>> form.flaw({"error": "I cannot"}), form.flaw({"name": {"type": "string"}}), form.flaw({"age": 36})
        ("it has none of the fields 'age', 'name'", 'it repeats the schema', None)
        """
        if isinstance(value, list):
            objects = [each for each in value if isinstance(each, Mapping)]
            return next((flaw for form in self._items for each in objects if (flaw := form.flaw(each))), None)
        if not isinstance(value, Mapping) or not value:
            return None
        if value == self.schema or (self.fields and self._repeats(value)):
            return "it repeats the schema"
        known = self.fields.keys() | self.names
        if self._all_optional and value.keys().isdisjoint(known):
            return f"it has none of the fields {', '.join(map(repr, sorted(self.fields)))}"
        return None

    def _repeats(self, value: Schema) -> bool:
        """Return whether an object is the schema, perhaps inside of something, or the part about its fields."""
        own = value.keys() & self.fields.keys()
        rest = value.keys() - self.fields.keys()
        if own and rest <= _SCHEMA_KEYS and all(_describes(value[name], self.fields[name]) for name in own):
            return True
        return self._holds_schema(value, all_fields="properties" in self.fields)

    def _holds_schema(self, value: Schema, depth: int = 3, *, all_fields: bool) -> bool:
        fields = self.fields
        inner = _mapping(value.get("properties"))
        shared = inner.keys() & fields.keys()
        if (
            shared
            and all(_describes(inner[name]) for name in shared)
            and (not all_fields or len(shared) == len(fields))
        ):
            return True
        nested = (each for each in value.values() if depth and isinstance(each, Mapping))
        return any(self._holds_schema(each, depth - 1, all_fields=True) for each in nested)


def field_names(model: object) -> frozenset[str]:
    """Return every name by which a pydantic class, of either major version, takes its fields."""
    names: set[str] = set()
    fields = getattr(model, "model_fields", None) or getattr(model, "__fields__", {})
    for name, field in fields.items():
        alias = getattr(field, "validation_alias", None)
        choices = getattr(alias, "choices", [alias])
        paths = [getattr(each, "path", [each])[0] for each in choices]
        names.update(each for each in (name, field.alias, *paths) if isinstance(each, str))
    return frozenset(names)


# -------------------------------------------------------------------------------------------------- the decision


def in_text(text: str, form: Form, fits: Callable[[Found], T], *, cut: bool = False) -> list[Answer[T]]:
    """Return the values in a text that fit.

    Args:
        text: The reply.
        form: What was asked for.
        fits: Makes the result of a value, and raises a ``ValueError`` if it does not fit.
        cut: The reply ended at its length limit.

    Raises:
        FormError: There is none.
    """
    if cut:
        raise FormError("it was cut at its length limit: raise max_tokens, or ask for less", read=False)
    fitting: list[Answer[T]] = []
    problems: list[FormError] = []
    for found in _found(text, form):
        try:
            fitting.append(_fitted(found, form, fits))
        except FormError as problem:
            problems.append(problem)
    if not fitting:
        raise next((each for each in problems if each.problem is not None), problems[0])
    # Beside another one, an empty object is a manner of speaking: "I use {} for what is not known".
    return [each for each in fitting if each.value] or fitting


def in_calls(calls: Iterable[object], form: Form, fits: Callable[[Found], T]) -> list[Answer[T]]:
    """Return the answers that a model gave as arguments of tool calls, as text or as values: every call is one.

    Raises:
        FormError: One of them does not fit.
    """
    answers = []
    for given in calls:
        try:
            text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            found = Found(text, parse(text))
        except (TypeError, ValueError, RecursionError) as problem:
            raise FormError(f"the arguments of its call are not valid JSON ({problem})", read=False) from None
        answers.append(_fitted(found, form, fits))
    return answers


def agreed(answers: Sequence[Answer[T]]) -> T:
    """Return what all the answers say.

    Raises:
        FormError: They differ.

    >>> agreed([Answer({"a": 1}, 1), Answer({"a": 2}, 2)])
    Traceback (most recent call last):
    chutes_core.reply.structured.FormError: it has 2 answers that differ, and nothing says which is meant
    """
    first, *others = answers
    if any(not _same(first, other) for other in others):
        said = [each.value for each in answers]
        raise FormError(f"it has {len(said)} answers that differ, and nothing says which is meant", said=said)
    return first.result


class Piece(NamedTuple):
    """A value in a text that still grows, and whether that value is complete."""

    value: object
    whole: bool


def pieces(text: str, form: Form) -> Iterator[Piece]:
    """Yield what may be the answer in a text that still grows, the last one first.

    >>> [piece.value for piece in pieces('{"name": "Ada"} or {"name": "Bo', Form({}))]
    [{'name': 'Bo'}, {'name': 'Ada'}]
    """
    for each in reversed([each for each in values(text) if _kind(each) in form.kinds][-_MOST:]):
        try:
            value = each.read()
        except ValueError:
            continue
        if form.flaw(value) is None:
            yield Piece(value, each.whole)


def _found(text: str, form: Form) -> Iterator[Found]:
    """Yield the values that may be the answer: the whole text, or else those of the right type in it."""
    told = unfenced(text)
    try:
        yield Found(told, parse(told))
        return
    except ValueError as problem:
        none = FormError(f"there is no valid JSON in it ({problem})", read=False)
    found = list(islice((each for each in values(text) if _kind(each) in form.kinds), _MOST + 1))
    if not found:
        raise none
    if len(found) > _MOST:
        raise FormError(f"it has more than {_MOST} JSON values", read=False)
    if not found[-1].whole:
        raise FormError("there is no valid JSON in it (it breaks off inside a value)", read=False)
    for each in found:
        try:
            yield Found(each.text, each.read())
        except ValueError as problem:
            raise FormError(f"there is no valid JSON in it ({problem})", read=False) from None


def _fitted(found: Found, form: Form, fits: Callable[[Found], T]) -> Answer[T]:
    if flaw := form.flaw(found.value):
        raise FormError(flaw, said=[found.value])
    try:
        return Answer(found.value, fits(found))
    except ValueError as problem:
        raise FormError(str(problem), problem=problem, said=[found.value]) from problem


def _same(one: Answer[T], other: Answer[T]) -> bool:
    """Return whether two answers say the same; to Python, 1 and True do."""
    if _plain(one.value) == _plain(other.value):
        return True
    return not isinstance(one.result, dict | list) and one.result is not one.value and one.result == other.result


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def _kind(value: Value) -> str:
    return "array" if value.is_list else "object"


# ------------------------------------------------------------------------------------------------------- schemas


_TESTS: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


def broken(schema: Schema, answer: object) -> str | None:
    """Return how an answer violates a schema, however deep inside; None if it does not.

    Types, fields that must be there, values that are listed, and patterns count; other keywords are not looked at.

    >>> schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    >>> broken(schema, {"name": "Ada"}), broken(schema, {"age": "36"}), broken(schema, {"age": 36})
    ("'age' is missing", "'age' is not of type integer: '36'", None)
    >>> broken({"items": {"properties": {"zip": {"pattern": "^[0-9]+$"}}}}, [{"zip": "1"}, {"zip": "x"}])
    "'[1].zip' does not match '^[0-9]+$': 'x'"
    """
    try:
        fault = _Check(schema).fault(schema, answer)
    except RecursionError:
        return "it is nested too deeply to be checked"
    return None if fault is None else f"{repr(fault.where) if fault.where else 'it'} {fault.what}"


class _Fault(NamedTuple):
    where: str
    what: str

    def within(self, name: str) -> _Fault:
        """The same, told from outside of a field or an item."""
        between = "." if self.where and not self.where.startswith("[") else ""
        return _Fault(f"{name}{between}{self.where}", self.what)


class _Check:
    """Looks for the first violation. Every part of the schema meets every part of the answer once at most."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._met: dict[tuple[int, int], _Fault | None] = {}

    def fault(self, schema: Schema, value: object) -> _Fault | None:
        met = (id(schema), id(value))
        if met not in self._met:
            self._met[met] = None  # a reference that leads back here says nothing new
            self._met[met] = next(filter(None, self._faults(schema, value)), None)
        return self._met[met]

    def _faults(self, schema: Schema, value: object) -> Iterator[_Fault | None]:
        if value is None and schema.get("nullable"):
            return
        fields = _mapping(schema.get("properties"))
        kind = schema.get("type") or ("object" if fields else None)
        if not _is_of(kind, value):
            yield _Fault("", f"is not of type {_told(kind)}: {value!r:.80}")
        if isinstance(choices := schema.get("enum"), list) and value not in choices:
            yield _Fault("", f"is none of {choices!r:.200}: {value!r:.80}")
        if "const" in schema and value != schema["const"]:
            yield _Fault("", f"is not {schema['const']!r:.200}: {value!r:.80}")
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and isinstance(value, str) and not _matcher(pattern)(value):
            yield _Fault("", f"does not match {pattern!r}: {value!r:.80}")
        if "$ref" in schema:
            yield self.fault(_mapping(_resolved(self._root, str(schema["$ref"]))), value)
        for part in _list(schema.get("allOf")):
            yield self.fault(_mapping(part), value)
        for parts in filter(None, (_list(schema.get("anyOf")), _list(schema.get("oneOf")))):
            faults = [self.fault(_mapping(part), value) for part in parts]
            if None not in faults:
                yield faults[0] if len(faults) == 1 else _Fault("", f"has none of the forms it may have: {value!r:.80}")
        if isinstance(value, dict):
            yield from self._in_fields(fields, _list(schema.get("required")), value)
        elif isinstance(value, list) and isinstance(items := schema.get("items"), Mapping):
            for number, item in enumerate(value):
                if fault := self.fault(items, item):
                    yield fault.within(f"[{number}]")

    def _in_fields(self, fields: Schema, needed: Sequence[object], value: Mapping[str, object]) -> Iterator[_Fault]:
        for name in needed:
            if name not in value:
                yield _Fault(str(name), "is missing")
        for name, each in value.items():
            if each is None and name not in needed:
                continue  # models say so of what is not there
            if fault := self.fault(_mapping(fields.get(name)), each):
                yield fault.within(name)


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what looks for a pattern in linear time, as pydantic does; where that is impossible, it is found."""
    try:
        from pydantic_core import SchemaError, SchemaValidator, core_schema
    except ImportError:  # the frameworks bring it, the core alone does not need it
        return lambda text: True
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return lambda text: True
    return validator.isinstance_python


def _is_of(kind: object, value: object) -> bool:
    """Return whether a value is of one of the given types; unknown types always match."""
    tests = [_TESTS.get(str(each)) for each in (kind if isinstance(kind, list) else [kind])]
    return any(test is None or test(value) for test in tests)


def _told(kind: object) -> str:
    return " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)


def _mapping(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()


def _resolved(schema: Schema, ref: str) -> object:
    """Return the part of a schema that a reference names."""
    found: object = schema
    for name in ref.removeprefix("#").strip("/").split("/"):
        found = _mapping(found).get(name)
    return found


def _describes(value: object, field: object = None) -> bool:
    """Return whether a value is a schema, of the same type as the field's, rather than a value for a field."""
    if not isinstance(value, Mapping) or value.keys().isdisjoint(_TYPES):
        return field is not None and value == field
    told = value.get("type", "object")
    if field is not None and value.get("type") != _mapping(field).get("type"):
        return False
    return all(each in _KINDS for each in (told if isinstance(told, list) else [told]))
