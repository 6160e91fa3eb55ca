"""What comes in through the door is JSON to every program, and of the type that was asked for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import door
from chutes_core.door import MAX_COUNT, MAX_DEPTH, MisfitError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(value=JSON, ascii_only=st.booleans())
def test_what_is_json_is_read_as_it_is(value: object, ascii_only: bool) -> None:
    """In either way of writing, as bytes and as text."""
    written = json.dumps(value, ensure_ascii=ascii_only)
    assert door.loads(written) == door.loads(written.encode()) == value


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("NaN", "NaN is not JSON"),
        ('{"a": [-Infinity]}', "-Infinity is not JSON"),
        ('{"a": "\\ud83d"}', "surrogate"),
        ('{"\\uDC00": 1}', "surrogate"),
        ('["\\u00e9", {"a": ["\\uD83D\\uD83D\\uDE00"]}]', "surrogate"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "deep"),
        ('{"a":' * 100_000, "deep"),
        ("9" * 5000, "digits"),
        ("{", "Expecting"),
        ('{"a": 1} {"b": 2}', "Extra data"),
        ("\ufeff{}", "Expecting value"),
    ],
)
def test_what_programs_read_differently_is_refused(written: str, said: str) -> None:
    """Whatever one program takes and the next one stumbles over is no JSON here, however deep inside."""
    with pytest.raises(ValueError, match=said):
        door.loads(written.encode())
    with pytest.raises(ValueError, match=said):
        door.loads(written)


@pytest.mark.parametrize("raw", [b"\xff\xfe{\x00}\x00", b'"\xed\xa0\x80"', b"\x80"])
def test_another_encoding_is_refused(raw: bytes) -> None:
    """JSON is UTF-8."""
    with pytest.raises(ValueError, match="utf-8"):
        door.loads(raw)


def test_pairs_and_depth_that_any_program_reads_are_taken() -> None:
    """A whole pair is one character, and brackets inside text are no depth."""
    assert door.loads(b'"\\ud83d\\ude00"') == "😀"
    assert door.loads(json.dumps("[" * 1000).encode()) == "[" * 1000
    assert door.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


@given(value=JSON, field=st.just("choices[0].x"))
def test_a_reader_takes_its_type_or_names_the_field(value: object, field: str) -> None:
    """Each value is returned as it is, or refused with the field's name and without the value."""
    for read, takes in (
        (door.text, isinstance(value, str)),
        (door.mapping, isinstance(value, dict)),
        (door.objects, isinstance(value, list) and all(isinstance(each, dict) for each in value)),
    ):
        if takes or value is None:
            assert read(value, field) == (value if takes else () if read is door.objects else None)
            continue
        with pytest.raises(MisfitError) as caught:
            read(value, field)
        assert str(caught.value).startswith(field)
        assert len(str(caught.value)) < 80


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (5.0, 5), (None, None), (MAX_COUNT, MAX_COUNT), (-0.0, 0)],
)
def test_a_count_is_a_whole_number(value: object, expected: int | None) -> None:
    """As an int or as a number with nothing behind its point."""
    assert door.count(value, "n") == expected


@pytest.mark.parametrize("value", [-1, -1.0, 1.5, MAX_COUNT + 1, 1e300, 10**4000, float("inf"), True, "1", [], {}])
def test_what_is_no_count_is_refused(value: object) -> None:
    """Negative, too large, in part, or of another type."""
    with pytest.raises(MisfitError, match=r"^usage\.total_tokens is "):
        door.count(value, "usage.total_tokens")
