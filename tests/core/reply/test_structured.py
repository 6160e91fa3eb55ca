"""Which part of a reply is the structured answer: one rule, and nothing chosen where nothing says which is meant."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, AliasPath, BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic.v1 import Field as FieldV1

from chutes_core.json_text import values
from chutes_core.reply.structured import Form, FormError, Found, agreed, broken, field_names, in_calls, in_text, pieces


class Person(BaseModel):
    """Somebody."""

    name: str = ""
    age: int = 0


class Sure(BaseModel):
    """Somebody of whom all is known."""

    name: str
    age: int


class Deep(BaseModel):
    """Data of any form."""

    name: Any = None
    data: dict[str, Any] = {}
    next: Deep | None = None


class Spec(BaseModel):
    """A tool."""

    name: str = ""
    parameters: dict[str, Any] = {}


def form_of(model: type[BaseModel]) -> Form:
    return Form(model.model_json_schema(), field_names(model))


def read(text: str, model: type[BaseModel] = Person) -> Any:
    return agreed(in_text(text, form_of(model), lambda found: model.model_validate(found.value)))


ADA = Person(name="Ada", age=36)
SAID = '{"name": "Ada", "age": 36}'
SCHEMA = json.dumps(Person.model_json_schema())
FIELDS = json.dumps(Person.model_json_schema()["properties"])


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        f"```json\n{SAID}\n```",
        f"Here you are: {SAID} Anything else?",
        f"As [1] says, for {{name}} and {{}}: {SAID}",
        f"{SAID} I repeat: {SAID}",
        f'{SAID} or, in another order, {{"age": 36.0, "name": "Ada"}}',
        f"Schema: {SCHEMA} Answer: {SAID}",
        f"```json\n{SCHEMA}\n```\n```json\n{SAID}\n```",
        f"Its fields are {FIELDS}, so: {SAID}",
        f'{SAID} {{"error": "none"}}',
        f"<think>Perhaps {{'name': 'Bob'}} or {{\"name\": \"Bob\"}}</think>{SAID}",
        f"{{{SAID}}}",
    ],
)
def test_the_one_value_that_fits_is_the_answer(text: str) -> None:
    """Prose, fences, thoughts, the schema and what is of another form do not matter, nor does saying it twice."""
    assert read(text) == ADA


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f'Draft: {{"name": "Bob", "age": 1}} wait. Final: {SAID}', "2 answers that differ"),
        (f'```json\n{SAID}\n```\n```json\n{{"name": "Bob"}}\n```', "2 answers that differ"),
        (f'{SAID}\n{{"name": "Ada"}}\n{{"name": "Bob"}}', "3 answers that differ"),
        (f'{SAID} {{"name": "Ada", "age": 3', "breaks off"),
        (f"{SAID} {{", "breaks off"),
        (SCHEMA, "repeats the schema"),
        (f"The schema is {SCHEMA}.", "repeats the schema"),
        (json.dumps({"properties": Person.model_json_schema()["properties"]}), "repeats the schema"),
        (FIELDS, "repeats the schema"),
        ('{"properties": {"name": {"type": "string"}}, "required": []}', "repeats the schema"),
        (json.dumps({"type": "json_schema", "json_schema": {"name": "p", "schema": json.loads(SCHEMA)}}), "repeats"),
        (json.dumps({"Person": json.loads(SCHEMA)}), "repeats the schema"),
        ('{"error": "I cannot"}', "none of the fields 'age', 'name'"),
        ('{"Person": {"name": "Ada"}}', "none of the fields"),
        (f'[{SAID}, {{"name": "Bob"}}]', "valid dictionary or instance"),
        (f"They are: [{SAID}]", "no valid JSON"),
        (f'{{"of": {SAID}, x}}', "no valid JSON"),
        ('{"name": "Ada", "name": "Bob"}', "the key 'name' twice"),
        (f'First {{"age": 1, "age": 2}}, then {SAID}', "the key 'age' twice"),
        ('{"name": "Ada", "age": NaN}', "NaN is not JSON"),
        ('{"name": "Ada", "age": Infinity}', "Infinity is not JSON"),
        ('It is {"name": "Ada", "age": NaN}.', "no valid JSON"),
        ('{"name": "Ada", "age": 1e999}', "too large"),
        ("I would rather not.", "no valid JSON"),
        ("", "no valid JSON"),
        ('{"name": 1}', "valid string"),
        (f'{SCHEMA} {{"name": 1}}', "valid string"),
        ('{"name": "Ada"} ' * 65, "more than 64 JSON values"),
        ("<think>" + SAID, "no valid JSON"),
    ],
)
def test_what_cannot_be_told_is_an_error(text: str, why: str) -> None:
    """A draft and a final, an echo of the schema, an apology, a value that two programs read differently."""
    with pytest.raises(FormError, match=why):
        read(text)


def test_nothing_is_the_answer_only_alone() -> None:
    """An empty object may be meant, for a class that needs nothing; beside another one it is a manner of speaking."""
    assert read("{}") == read("Nothing is known: {}") == Person()
    assert read(f"Instead of {{}}: {SAID}") == ADA
    with pytest.raises(FormError, match="Field required"):
        read("{}", Sure)


def test_a_reply_that_was_cut_has_no_answer() -> None:
    """Even if what there is looks whole: more was to come."""
    with pytest.raises(FormError, match="max_tokens"):
        in_text(SAID, form_of(Person), lambda found: found.value, cut=True)


@pytest.mark.parametrize("text", ['{"title": "Dune", "type": "object", "name": "x"}', '{"name": {"type": "rare"}}'])
def test_data_that_looks_like_a_schema_is_data(text: str) -> None:
    """What the fields of a class are is no secret, and its values may be anything."""
    assert read(text, Deep).name == json.loads(text)["name"]


@pytest.mark.parametrize(
    ("value", "model", "flaw"),
    [
        ({"name": "f", "parameters": {"type": "object", "properties": {"name": {"type": "string"}}}}, Spec, False),
        ({"name": "Spec", "parameters": Spec.model_json_schema()}, Spec, True),
        ({"data": {"type": "object"}}, Deep, True),
        ({"data": {"type": "postgres"}}, Deep, False),
        ({"$defs": Deep.model_json_schema()["$defs"], "$ref": "#/$defs/Deep"}, Deep, True),
        ({"next": {"name": 1}}, Deep, False),
        ({"nothing": 1}, Deep, True),
    ],
)
def test_an_echo_is_told_from_data(value: dict[str, Any], model: type[BaseModel], flaw: bool) -> None:
    """Also for a class that refers to itself, and for one whose answers are schemas."""
    assert (form_of(model).flaw(value) is not None) is flaw


def test_lists_are_answers_where_a_list_is_asked_for() -> None:
    """And what is in them is looked at as an answer is."""
    form = Form({"type": "array", "items": {"$ref": "#/$defs/P"}, "$defs": {"P": Person.model_json_schema()}})
    for text, found in (
        (f"[{SAID}]", [json.loads(SAID)]),
        (f"Two of {{these}}: {SAID} [] [{SAID}]", [json.loads(SAID)]),
    ):
        assert agreed(in_text(text, form, lambda found: found.value)) == found
    assert form.flaw([{"error": "I cannot"}]) == "it has none of the fields 'age', 'name'"
    either = Form({"anyOf": [{"type": "array"}, {"type": ["object", "null"]}]})
    assert either.kinds == {"array", "object", "null"}
    assert [piece.value for piece in pieces("[1] {} [2", either)] == [[], {}, [1]]


def test_a_field_goes_by_several_names() -> None:
    """Each of them makes an object one of the class's."""

    class Named(BaseModel):
        first: str = Field("", alias="firstName")
        last: str = Field("", validation_alias=AliasChoices("surname", AliasPath("names", 1)))

    class NamedV1(BaseModelV1):
        first: str = FieldV1("", alias="firstName")

    assert field_names(Named) == {"first", "firstName", "last", "surname", "names"}
    assert field_names(NamedV1) == {"first", "firstName"}
    assert field_names({"type": "object"}) == frozenset()
    assert read('{"names": ["Ada", "Lovelace"]}', Named).last == "Lovelace"


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([{"name": "Ada"}, {"name": "Bob"}], "2 answers that differ"),
        ([{"name": "Ada"}, {"nme": "Ada"}], "none of the fields"),
        ([{"name": "Ada"}, {"name": 1}], "valid string"),
        ([{"name": "Ada", "age": float("nan")}], "not valid JSON"),
        (['{"name": "Ada", "name": "Bob"}'], "not valid JSON"),
        ([json.loads(SCHEMA)], "repeats the schema"),
    ],
)
def test_every_call_is_an_answer(calls: list[object], why: str) -> None:
    """None is dropped: one that does not fit, or says something else, makes all of them useless."""
    with pytest.raises(FormError, match=why):
        agreed(in_calls(calls, form_of(Person), lambda found: Person.model_validate(found.value)))


def test_calls_may_say_the_same() -> None:
    """As text or as values."""
    calls = [{"name": "Ada", "age": 36}, SAID, '{"name": "Ada", "age": "36"}']
    answers = in_calls(calls, form_of(Person), lambda found: Person.model_validate(found.value))
    assert agreed(answers) == ADA
    with pytest.raises(FormError, match="differ"):  # to Python, they are equal
        agreed(in_calls([{"a": 1}, {"a": True}], Form({}), lambda found: found.value))


# ------------------------------------------------------------------------------------------------ anything at all

PROSE = st.text(alphabet="ab .[1]{}:'`\n", max_size=12)
CANDIDATES = st.sampled_from(
    [SAID, '{"name": "Bob"}', '{"age": 1}', "{}", "[]", '{"error": 1}', SCHEMA, FIELDS, '{"name": 5}', '{"age": "36"}']
)


@given(st.lists(st.tuples(PROSE, CANDIDATES), max_size=4), PROSE)
def test_the_rule_is_the_rule(parts: list[tuple[str, str]], rest: str) -> None:
    """Among any prose: what comes out is what a slow reading of the rule says, and else an error that says so."""
    text = "".join(prose + candidate for prose, candidate in parts) + rest
    found = [value for value in values(text) if not value.is_list]
    fitting = [person for value in found if (person := _plainly(value.text)) is not None]
    named = [person for person in fitting if person[0]] or fitting
    differ = {repr(person) for _, person in named}
    whole = all(value.whole for value in found) and not text.strip().startswith("[")
    try:
        answer = read(text)
    except FormError:
        assert len(differ) != 1 or not whole
    else:
        assert differ == {repr(answer)}


def _plainly(text: str) -> tuple[dict[str, Any], Person] | None:
    """Read one value by the letter of the rule; None if it is no answer."""
    try:
        value = json.loads(text)
        person = Person.model_validate(value)
    except ValueError:
        return None
    echo = any(isinstance(value.get(key), Mapping) for key in ("name", "age", "properties"))
    return None if echo or (value and not value.keys() & {"name", "age"}) else (value, person)


@given(st.text() | st.lists(st.sampled_from(["{", "}", '"name"', ":", '"x"', ",", "[", "]", "```", "\\"])).map("".join))
def test_no_text_raises_anything_else(text: str) -> None:
    """A value or a FormError, whatever was written."""
    for form in (form_of(Person), form_of(Deep), Form({})):
        list(pieces(text, form))
        for call in (lambda form=form: in_text(text, form, _value), lambda form=form: in_calls([text], form, _value)):
            with contextlib.suppress(FormError):
                agreed(call())


def _value(found: Found) -> object:
    return found.value


# ------------------------------------------------------------------------------------------ what a schema asks for

ZIP = {"type": "string", "pattern": "^[0-9]+$"}
PLACE = {"type": "object", "properties": {"zip": ZIP, "kind": {"enum": ["home", "work"]}}, "required": ["zip"]}
TREE = {"$ref": "#/$defs/Node", "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}, "zip": ZIP}}}}


@pytest.mark.parametrize(
    ("schema", "answer", "why"),
    [
        ({"properties": {"at": PLACE}}, {"at": {"zip": "1", "kind": "home"}}, None),
        ({"properties": {"at": PLACE}}, {"at": {"zip": "x"}}, "'at.zip' does not match '^[0-9]+$': 'x'"),
        ({"properties": {"at": PLACE}}, {"at": {}}, "'at.zip' is missing"),
        ({"properties": {"at": PLACE}}, {"at": {"zip": "1", "kind": "?"}}, "'at.kind' is none of ['home', 'work']: "),
        ({"properties": {"a": {"nullable": True, "enum": ["x"]}}, "required": ["a"]}, {"a": None}, None),
        ({"items": PLACE}, [{"zip": "1"}, {"zip": 2}], "'[1].zip' is not of type string: 2"),
        ({"properties": {"all": {"items": {"items": ZIP}}}}, {"all": [["1"], ["1", ""]]}, "'all[1][1]' does not match"),
        (TREE, {"next": {"next": {"zip": "x"}}}, "'next.next.zip' does not match"),
        (TREE, {"next": {"next": {"zip": "1"}}}, None),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, {"a": 1}, None),
        ({"$ref": "https://elsewhere.test/schema"}, {"a": 1}, None),
        ({"allOf": [{"properties": {"a": ZIP}}, {"required": ["b"]}]}, {"a": "1"}, "'b' is missing"),
        ({"properties": {"a": {"anyOf": [ZIP, {"type": "null"}]}}}, {"a": "1"}, None),
        ({"properties": {"a": {"anyOf": [ZIP, {"type": "null"}]}}}, {"a": "x"}, "'a' has none of the forms it"),
        ({"properties": {"a": {"const": 1}}}, {"a": 2}, "'a' is not 1: 2"),
        ({"properties": {"a": ZIP}}, {"a": None}, None),
        ({"properties": {"a": {"pattern": "(?=only Python reads this)"}}}, {"a": "x"}, None),
        ({"properties": {"a": {"pattern": 3}, "b": {"items": [ZIP]}, "c": True}}, {"a": "x", "b": ["x"], "c": 1}, None),
    ],
)  # fmt: skip
def test_an_answer_is_held_to_all_of_its_schema(schema: dict[str, Any], answer: object, why: str | None) -> None:
    """Inside of objects, lists, alternatives and references too; what it does not know, it lets pass."""
    found = broken(schema, answer)
    assert found is None if why is None else (found or "").startswith(why)


def test_many_alternatives_do_not_multiply() -> None:
    """A form that refers to itself in two places meets each part of an answer once; too deep an answer is refused."""
    either = {"anyOf": [{"properties": {"a": {"$ref": "#/$defs/E"}, "b": {"const": n}}} for n in (1, 2)]}
    schema = {"$ref": "#/$defs/E", "$defs": {"E": either}}
    answer: dict[str, Any] = {"b": 3}
    for _ in range(40):
        answer = {"a": answer}
    assert (broken(schema, answer) or "").startswith("it has none of the forms")
    for _ in range(1_000):
        answer = {"a": answer}
    assert broken(schema, answer) == "it is nested too deeply to be checked"


names = st.sampled_from("ab")
plain = st.one_of(st.booleans(), st.integers(0, 2), st.sampled_from(["", "1", "x"]))
schemas = st.recursive(
    st.one_of(
        st.sampled_from([{}, {"type": "string"}, {"type": "integer"}, {"type": ["boolean", "string"]}, ZIP]),
        st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(["", "1", "x"]), min_size=1)),
        st.just({"$ref": "#/$defs/A"}),
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda fields, needed: {"type": "object", "properties": fields, "required": needed},
            st.dictionaries(names, inner),
            st.lists(names, unique=True),
        ),
        st.builds(lambda each: {"type": "array", "items": each}, inner),
        st.builds(lambda key, parts: {key: parts}, st.sampled_from(["anyOf", "allOf"]), st.lists(inner, min_size=1)),
    ),
    max_leaves=8,
)
answers = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner)), max_leaves=8
)


@given(schemas, st.one_of(plain.map(lambda _: {"type": "string"}), schemas), answers)
def test_it_agrees_with_a_validator(schema: dict[str, Any], definition: dict[str, Any], answer: object) -> None:
    """On the keywords that it knows, it says what the library ``jsonschema`` says."""
    jsonschema: Any = pytest.importorskip("jsonschema")
    if "$ref" in definition:
        definition = {}
    whole = {**schema, "$defs": {"A": definition}}
    try:
        valid = jsonschema.Draft202012Validator(whole).is_valid(answer)
    except RecursionError:  # a reference that leads to itself: there it gives up
        return
    assert (broken(whole, answer) is None) == valid
