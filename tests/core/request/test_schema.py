"""JSON schemas without what the gateway refuses."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from chutes_core.reply.structured import broken
from chutes_core.request.schema import by_reference, is_refused, is_taken, without_patterns
from chutes_local.gateway.request import has_pattern
from tests.gateway.recordings import BY_NAME

NAMES = st.sampled_from(["pattern", "properties", "default", "items", "$defs", "enum", "a"])


def schemas(depth: int = 3) -> st.SearchStrategy[dict[str, object]]:
    """JSON schemas in which anything may be called what a keyword is called."""
    if depth == 0:
        return st.fixed_dictionaries({"type": st.just("string")}, optional={"pattern": st.text(max_size=3)})
    inner = st.deferred(lambda: schemas(depth - 1))
    named = st.dictionaries(NAMES, inner, max_size=2)
    example = st.dictionaries(NAMES, st.text(max_size=3), max_size=2)
    return st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "pattern": st.text(max_size=3),
            "properties": named,
            "$defs": named,
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "default": example,
            "const": example,
            "enum": st.lists(st.just("pattern"), max_size=1),
            "required": st.lists(NAMES, max_size=2),
            "additionalProperties": inner | st.booleans(),
        },
    )


def walk(schema: object) -> tuple[int, list[str]]:
    """Count the pattern keywords, and list the names of properties and definitions."""
    if isinstance(schema, list):
        walked = [walk(part) for part in schema]
        return sum(count for count, _ in walked), [name for _, names in walked for name in names]
    if not isinstance(schema, dict):
        return 0, []
    count, names = int("pattern" in schema), []
    for key in ("properties", "$defs"):
        names += list(schema.get(key, {}))
    children = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", [])]
    for child in (*children, schema.get("items"), schema.get("additionalProperties")):
        below, further = walk(child)
        count, names = count + below, names + further
    return count, names


@given(schemas())
def test_patterns_go_and_names_stay(schema: dict[str, object]) -> None:
    """No pattern keyword is left at any depth, each is counted, and no property of any name is lost."""
    before = copy.deepcopy(schema)
    count, names = walk(schema)
    cleaned, removed = without_patterns(schema)
    assert walk(cleaned) == (0, names)
    assert removed == count
    assert schema == before
    assert without_patterns(cleaned) == (cleaned, 0)


@given(schemas())
def test_without_a_pattern_nothing_changes(schema: dict[str, object]) -> None:
    """Everything but the patterns is as it was: values, examples, requirements."""
    cleaned, _ = without_patterns(schema)
    assert isinstance(cleaned, dict)
    for key in ("default", "const", "enum", "required", "type"):
        assert cleaned.get(key) == schema.get(key)


def test_a_model_with_constraints() -> None:
    """The schema that pydantic writes for a constrained string is freed of its pattern and of nothing else."""

    class Order(BaseModel):
        pattern: str
        code: str = Field(pattern="^[A-Z]+$", min_length=2)

    schema = Order.model_json_schema()
    cleaned, removed = without_patterns({"type": "json_schema", "json_schema": {"name": "Order", "schema": schema}})
    del schema["properties"]["code"]["pattern"]
    assert cleaned == {"type": "json_schema", "json_schema": {"name": "Order", "schema": schema}}
    assert removed == 1


@pytest.mark.parametrize("value", [None, True, "pattern", 7, []])
def test_what_is_no_schema_is_left_alone(value: object) -> None:
    """Anything that holds no keywords comes back as it is."""
    assert without_patterns(value) == (value, 0)


def test_a_tuple_counts_as_a_list() -> None:
    """Python's other sequence is read too."""
    assert without_patterns({"anyOf": ({"pattern": "a"}, {"type": "null"})}) == ({"anyOf": [{}, {"type": "null"}]}, 1)


# ----------------------------------------------------------------------------------------- what the gateway refuses


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("pattern_")])
def test_what_the_service_refused(name: str) -> None:
    """The recorded cases: each is refused, or not, as the service's own code did."""
    case = BY_NAME[name]
    schema = case.send["body"]["response_format"]["json_schema"]["schema"]
    assert is_refused(schema) is (case.status == 400)


@given(schemas())
def test_the_embedded_chutes_refuses_the_same(schema: dict[str, object]) -> None:
    """Whatever the schema is."""
    assert is_refused(schema) is has_pattern(schema)


@given(schemas())
def test_a_schema_is_taken_unless_a_name_is_in_the_way(schema: dict[str, object]) -> None:
    """What is left of it without patterns decides."""
    cleaned, _ = without_patterns(schema)
    assert is_taken(schema) is not is_refused(cleaned)
    assert is_taken(schema) or "pattern" in walk(schema)[1]


def test_why_a_schema_is_not_taken_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At the level that says what goes on."""
    with caplog.at_level("INFO", "chutes_core"):
        assert not is_taken({"properties": {"pattern": {"type": "string"}}})
    assert "a property named 'pattern'" in caplog.text


# ------------------------------------------------------------------------------------------------- by reference


@given(schemas(), st.one_of(st.none(), st.text(max_size=2), st.dictionaries(NAMES, st.text(max_size=2))))
def test_by_reference_it_is_taken_and_means_the_same(schema: dict[str, object], answer: object) -> None:
    """Whatever it says, an answer is held to the same."""
    cleaned = without_patterns(schema)[0]
    assert isinstance(cleaned, dict)
    written = by_reference(cleaned)
    assert isinstance(written, dict)
    assert is_refused(written) is ("$ref" not in written and is_refused(cleaned))
    assert (broken(written, answer) is None) == (broken(cleaned, answer) is None)


def test_definitions_stay_where_references_look_for_them() -> None:
    """Of a class with another one inside; a name that is taken is not taken twice."""

    class Part(BaseModel):
        pattern: str

    class Whole(BaseModel):
        pattern: str
        parts: list[Part]

    schema = Whole.model_json_schema()
    written = by_reference(schema)
    assert isinstance(written, dict)
    assert written["$defs"]["Part"] == schema["$defs"]["Part"]
    assert not is_refused(written)
    assert broken(written, {"pattern": "", "parts": [{"pattern": 1}]}) == "'parts[0].pattern' is not of type string: 1"
    again = by_reference(written)
    assert isinstance(again, dict)
    assert again["$ref"] == "#/$defs/answer_"


@pytest.mark.parametrize(
    "schema", [None, 7, {"$ref": "#"}, {"items": [{"$ref": "#/properties/a"}]}, {"$defs": 1}, {"$ref": 3}]
)
def test_what_cannot_be_written_so_stays(schema: object) -> None:
    """A reference to itself would be one to something else."""
    assert by_reference(schema) == schema
