"""The strings and numbers of JSON, where they stand."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core.exchanges.strings import values_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    max_leaves=8,
)


def strings(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [found for name, each in value.items() for found in [name, *strings(each)]]
    if isinstance(value, list):
        return [found for each in value for found in strings(each)]
    return [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else []


@settings(max_examples=50)
@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_every_string_and_number_is_found(value: dict[str, Any]) -> None:
    """Of JSON, alone or as an event, each string and number is found in its order, and nothing else."""
    text = json.dumps(value)
    for body in (text, f"data: {text}\n\n"):
        found = list(values_of(body))
        told = [body[each.start : each.end] for each in found]
        read = [
            int(said) if each.is_number else json.loads(f'"{said}"') for each, said in zip(found, told, strict=True)
        ]
        assert read == strings(value)


def test_names_lead_to_a_value() -> None:
    """A value knows the names above it, also behind a list that has ended, and whether it stands in one."""
    body = '{"a": [{"b": 1}, "c"], "d": "e"}'
    found = {body[each.start : each.end]: (each.names, each.listed) for each in values_of(body) if not each.is_name}
    assert found == {"1": (("a", "b"), False), "c": (("a",), True), "e": (("d",), False)}


def test_what_was_cut_off() -> None:
    """The beginning of a string is one, wherever it ends."""
    for body in ('{"a": "secret', 'data: {"a": "sec\\', '{"a": ["x", "sec\\u00'):
        *_, last = values_of(body)
        assert body[last.start :].startswith("sec")
