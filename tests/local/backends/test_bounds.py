"""A bounded schema is narrower than its original, finite, and stands alone."""

from __future__ import annotations

import enum
from datetime import date, datetime
from typing import Annotated, Literal, Union
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field, TypeAdapter

from chutes_local.backends.bounds import MAX_ITEMS, MAX_STRING, SchemaError, bounded, minimal_instance


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    name: str
    children: list[Tree] = []
    left: Tree | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: Annotated[float, Field(gt=0.5)]


class Everything(BaseModel):
    colour: Colour
    pet: Annotated[Union[Cat, Dog], Field(discriminator="kind")]  # noqa: UP007 (the schema differs by form)
    born: date
    seen: datetime
    id: UUID
    home: AnyUrl
    code: Annotated[str, Field(min_length=6, max_length=8)]
    tags: Annotated[set[int], Field(max_length=5)]
    least: Annotated[list[str], Field(min_length=4)]
    prices: dict[str, float]
    note: str | None
    odd: Annotated[int, Field(multiple_of=7, gt=7)]
    debt: Annotated[int, Field(le=-5)]
    fraction: float
    anything: object


TYPES: list[object] = [
    str,
    int,
    float,
    bool,
    Colour,
    Tree,
    Cat,
    Dog,
    Everything,
    list[Cat],
    dict[str, list[int]],
    Annotated[dict[str, int], Field(min_length=2)],
    Cat | Dog,
    Literal["one", 2],
    Annotated[float, Field(gt=0, lt=1)],
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_the_smallest_instance_is_valid_under_the_original(kind: object) -> None:
    """What the bounded schema allows, pydantic accepts."""
    adapter = TypeAdapter(kind)
    adapter.validate_python(minimal_instance(adapter.json_schema()), strict=False)


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_bounding_twice_changes_nothing(kind: object) -> None:
    """A schema that is bounded already passes as it is."""
    once = bounded(TypeAdapter(kind).json_schema())
    assert bounded(once) == once


def test_what_has_no_end_gets_one() -> None:
    """Strings, arrays, numbers and free keys are cut to size."""
    assert bounded({"type": "string"}) == {"type": "string", "maxLength": MAX_STRING}
    assert bounded({"type": "string", "maxLength": 9_000})["maxLength"] == MAX_STRING
    assert bounded({"type": "array", "items": {"type": "boolean"}})["maxItems"] == MAX_ITEMS
    assert bounded({"type": "integer"}) == {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000}
    assert bounded({"type": "object"})["maxProperties"] == MAX_ITEMS


def test_what_was_narrower_stays_narrow() -> None:
    """Limits of the original are kept."""
    assert bounded({"type": "string", "maxLength": 5})["maxLength"] == 5
    assert bounded({"type": "array", "items": {"type": "null"}, "maxItems": 1})["maxItems"] == 1
    assert bounded({"type": "number", "exclusiveMinimum": 3e9}) == {
        "type": "number",
        "exclusiveMinimum": 3e9,
        "maximum": 3e9 + 1_000_000,
    }


def test_recursion_ends_where_it_may() -> None:
    """A tree becomes a tree of limited depth, without references."""
    text = str(bounded(Tree.model_json_schema()))
    assert "$ref" not in text
    assert "'maxItems': 0" in text


def test_recursion_that_cannot_end_is_refused() -> None:
    """A schema that requires itself has no instance."""
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    with pytest.raises(SchemaError, match="no finite instance"):
        bounded(node)


def test_inheritance_is_joined() -> None:
    """``allOf`` over objects becomes one object; over a single part it is that part."""
    a = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    b = {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]}
    assert bounded({"allOf": [a, b]})["required"] == ["a", "b"]
    assert bounded({"allOf": [a], "description": "decorated"}) == bounded(a)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"not": {"type": "string"}}, "'not'"),
        ({"type": "tuple"}, "no type 'tuple'"),
        ({"$ref": "#/$defs/absent"}, "does not resolve"),
        ({"$ref": "https://example.com/schema"}, "does not resolve"),
        ({"type": "array", "uniqueItems": True, "minItems": 2}, "uniqueItems"),
        ({"enum": []}, "no finite instance"),
        ({"anyOf": [False]}, "no finite instance"),
        ({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}]}, "beside 'properties'"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "'allOf'"),
        ({"properties": {"a": 3}}, "3 is not a schema"),
        ({"type": "array", "prefixItems": [{}]}, "prefixItems"),
    ],
)
def test_what_cannot_be_enforced_is_refused(schema: dict[str, object], reason: str) -> None:
    """The error names the part, instead of letting an unconstrained answer through."""
    with pytest.raises(SchemaError, match=reason):
        bounded(schema)


def test_the_echo_does_not_read_a_pattern() -> None:
    """A text for a regular expression is not made up, but the echo's own; for a known format it is."""
    assert minimal_instance({"type": "string", "pattern": "^a$"}) == "echo"
    assert minimal_instance({"type": "string", "format": "date"}) == "2000-01-01"
