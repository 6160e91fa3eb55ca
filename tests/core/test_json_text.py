"""JSON is found in whatever a model wrote, and in a time that grows as the text does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.door import MAX_DEPTH
from chutes_core.json_text import Pace, begins_object, parse, unfenced, values
from chutes_core.reply.structured import Form, in_text, pieces
from chutes_core.reply.think import ThinkSplitter, split_whole
from chutes_core.request.messages import fit_messages
from tests.effort import HOSTILE, assert_linear

ATOMS = [
    "{", "}", "[", "]", ",", ":", '"', "\\\\", '\\"', " ", "\n", "a", "{}", "[]", '"a"', '"a": ', '{"a": 1}',
    '{"a": "b"}', '{"a": [', "[1, 2]", "1", "-1", "1.5", "01", "1.", "true", "tru", "null", "-", "x", "```", "é",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(ATOMS), max_size=24).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

# --------------------------------------------------------------------------------------------- what is found


def slowly(text: str) -> Iterator[tuple[str, bool]]:
    """Find the values as the standard library reads them, going on where it fails."""
    position = 0
    while position < len(text):
        if text[position] not in "{[":
            position += 1
            continue
        try:
            _, end = json.JSONDecoder(strict=False).raw_decode(text, position)
        except json.JSONDecodeError as error:
            if any(_reaches_the_end(text[position:], more) for more in MORE):
                yield text[position:], False
                return
            position = max(error.pos, position + 1)
        else:
            yield text[position:end], True
            position = end


MORE = ["", "0", *(word[n:] for word in ("true", "false", "null") for n in range(1, len(word)))]


def _reaches_the_end(text: str, more: str) -> bool:
    """Whether nothing is wrong with a text, but that there is no more of it."""
    try:
        json.loads(text + more, strict=False)
    except json.JSONDecodeError as error:
        return error.pos >= len(text.rstrip() + more) or error.msg.startswith("Unterminated")
    return True


@given(TEXTS)
def test_it_finds_what_trying_everything_finds(text: str) -> None:
    """Each outermost value, complete or cut off by the end, and no part of something else."""
    assert [(value.text, value.whole) for value in values(text)] == list(slowly(text))


@given(JSON.filter(lambda value: isinstance(value, dict | list) and value), st.data())
def test_what_there_is_of_a_value_is_a_beginning_of_it(value: object, data: st.DataObject) -> None:
    """Wherever a value is cut, it is seen as unfinished, and what is read of it will not change any more."""
    text = json.dumps(value, ensure_ascii=False)
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    (found,) = values(f"Here: {cut}")
    assert (found.text, found.whole) == (cut, False)
    assert _begins(found.read(), value)


def _begins(part: object, whole: object) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return list(part) == list(whole)[: len(part)] and all(_begins(part[key], whole[key]) for key in part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(_begins, part, whole))
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    return part == whole


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<think>[1]</think>{"a": 2}', ['{"a": 2}']),
        ('[1]</think>[2] {"a": "</think>"}', ['{"a": "</think>"}']),
        ('<think>{"quote</think>{"a": 2}', ['{"a": 2}']),
        ('<think>"{"a": 1, "b" </think>[2]', ["[2]"]),
        ("<think>" + "[" * 500 + "</think>[2]", ["[2]"]),
        ("<think>[1] but then", []),
        ("[1] <think>", ["[1]"]),
        ("[1]</think>", []),
    ],
)
def test_thoughts_are_no_answers(text: str, found: list[str]) -> None:
    """What stands before the last end of a thought is skipped, even if it is no JSON; the mark may be in a string."""
    assert [value.text for value in values(text)] == found


def test_nesting_has_a_limit() -> None:
    """The same as for all JSON from outside; what is deeper counts as one value that has no end."""
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert [value.text for value in values(f"{deep} {deep}")] == [deep, deep]
    (found,) = values(f"[{deep}] [1]")
    assert not found.whole
    for text in (f"[{deep}]", "[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("NaN", "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("[1e999]", "too large"),
        ("[" + "1" * 5000 + "]", "digits"),
        ('{"a": 1, "a": 1}', "the key 'a' twice"),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "the key 'a' twice"),
        (r'["\ud800"]', "half of a surrogate pair"),
        ('{"a": 1,}', "property name|trailing comma"),
        ("{'a': 1}", "property name"),
        ("", "Expecting value"),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_programs_read_differently_is_not_read(text: str, why: str, strict: bool) -> None:
    """NaN, a key that is there twice, numbers that have no place in memory, and the like."""
    with pytest.raises(ValueError, match=why):
        parse(text, strict=strict)


def test_line_breaks_in_strings_are_read_unless_it_must_be_exact() -> None:
    """Models forget to escape them; a service that is sent the text does not."""
    assert parse('{"a": "b\nc"}') == {"a": "b\nc"}
    with pytest.raises(ValueError, match="control character"):
        parse('{"a": "b\nc"}', strict=True)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('```json\n{"a": "```"}\n```', '{"a": "```"}'),
        ("``` JSON\n1\n ```\n", "1"),
        ("```{}```", "{}"),
        ("```json```", ""),
        ("``````", ""),
        ("```", "```"),
        ("`````", "`````"),
        ("see ```1```", "see ```1```"),
    ],
)
def test_a_fence_is_opened_if_it_is_all_there_is(text: str, inside: str) -> None:
    """One that stands in prose is for whoever looks for values."""
    assert unfenced(text) == inside


@given(TEXTS)
def test_only_what_may_become_an_object_begins_one(text: str) -> None:
    """And nothing that LangChain would have to go back over for long."""
    if not begins_object(text):
        return
    found = list(values(text)) or [None]
    assert found[0] is None or found[0].text.strip() == text.strip() or text.strip() == "{"


# ------------------------------------------------------------------------------------------------ how long it takes


def _in_pieces(text: str) -> None:
    for inside in (False, True):
        splitter = ThinkSplitter(inside=inside)
        for character in text:
            splitter.feed(character)
        splitter.close()


def _grown(text: str) -> None:
    """Look at a text as it grows, as whoever shows a stream does."""
    pace = Pace()
    for length in range(len(text)):
        if pace.due(length):
            list(pieces(text[:length], ANY))


ANY = Form({"type": ["object", "array"], "properties": {"a": {"type": "integer"}, "b": {}}})
READERS: dict[str, Callable[[str], object]] = {
    "values": lambda text: [value.read() for value in values(text) if value.whole or value.so_far],
    "answers": lambda text: in_text(text, ANY, lambda found: found.value),
    "answers after a thought": lambda text: in_text(f"<think>{text}</think>{text}", ANY, lambda found: found.value),
    "pieces": lambda text: list(pieces(text, ANY)),
    "the beginning of an object": begins_object,
    "a fence": unfenced,
    "thoughts": split_whole,
    "thoughts in pieces": _in_pieces,
    "a call of the history": lambda text: fit_messages(
        [{"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": text}}]}]
    ),
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_reading_takes_as_long_as_the_text_is(reader: str, hostile: str) -> None:
    """Ten times the text is ten times the work, whatever a model writes."""
    assert_linear(READERS[reader], HOSTILE[hostile])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_watching_a_text_grow_does_too(hostile: str) -> None:
    """It is not read anew with each character."""
    assert_linear(_grown, HOSTILE[hostile])


def test_blanks_before_a_tag_are_counted_once() -> None:
    """A thought may begin after any number of them, one at a time; without a tag they are the answer's."""
    splitter = ThinkSplitter()
    assert [splitter.feed(piece) for piece in (" ", "\n", " ", "<thi")] == [("", "")] * 4
    assert splitter.feed("s") == ("", " \n <this")
