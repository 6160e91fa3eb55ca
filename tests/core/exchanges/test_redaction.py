"""What a recording does not hold: by value, by pattern, and in pieces; always in as many bytes."""

from __future__ import annotations

import json
import string
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core.exchanges.redaction import ASKED, Wanted, filled, redacted
from chutes_core.secrets.echoes import Echoes

KEY = "cpk_fake0fake0.fakefake.fakefakefake"
PLAIN = Wanted(Echoes([KEY, "h0rse-battery-fake"]))
EMPTY = Wanted(Echoes([]), content=False)


def events(*deltas: dict[str, Any], ident: str = "chatcmpl-77ab01cd") -> bytes:
    rows = [{"id": ident, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows)


def deltas(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[5:])["choices"][0]["delta"] for line in body.splitlines() if line]


@pytest.mark.parametrize(
    "said",
    [KEY, KEY.upper(), "h0rse-battery-fake", "me+you@mail.example.org", "Bearer fakefake0fakefake"],
    ids=["key", "capitals", "header", "mail", "bearer"],
)
def test_a_secret_is_masked(said: str) -> None:
    """What was sent, and what looks like a secret, is masked wherever it stands."""
    for body in (json.dumps({"detail": f"no {said}!"}).encode(), said.encode(), events({"content": f"a {said} b"})):
        found = redacted(body, PLAIN)
        assert len(found) == len(body)
        assert said.split(" ")[-1].lower().encode() not in found.lower()


@given(cuts=st.lists(st.integers(1, len(KEY) - 1), max_size=6))
def test_a_secret_in_pieces_is_masked(cuts: list[int]) -> None:
    """A key that an answer brings piece by piece is masked in every piece."""
    places = [0, *sorted(set(cuts)), len(KEY)]
    pieces = [KEY[start:end] for start, end in pairwise(places)]
    found = redacted(events({"content": "it is "}, *({"content": each} for each in pieces)), PLAIN)
    assert "".join(delta["content"] for delta in deltas(found)) == "it is " + "*" * len(KEY)


def test_ids_keep_apart_what_they_tell_apart() -> None:
    """Ids are numbered in their order: the same ones stay the same, others stay others, and models keep their names."""
    begun, again = "chatcmpl-77ab01cd", "0f8fad5b-d9cb-469f-a165-70867728950e"
    body = events({"content": "a"}, ident=begun) + events({"content": "b"}, ident=again) + events({}, ident=begun)
    found = [json.loads(line[5:])["id"] for line in redacted(body, PLAIN).splitlines() if line]
    assert found == ["chatcmpl-00000001", "00000000-0000-0000-0000-000000000002", "chatcmpl-00000001"]
    assert redacted(b'{"id": "Qwen/Qwen3-32B-TEE"}', PLAIN) == b'{"id": "Qwen/Qwen3-32B-TEE"}'


def test_an_account_has_no_name() -> None:
    """Of an account's page the numbers and times stay, and no other text."""
    page = {"username": "somebody", "balance": 12.5, "created_at": "2026-01-01", "other": "words"}
    found = json.loads(redacted(json.dumps(page).encode(), PLAIN._replace(account=True)))
    assert found == {"username": "*" * 8, "balance": 12.5, "created_at": "2026-01-01", "other": "*****"}
    assert b"somebody" not in redacted(b'{"user": "somebody", "messages": []}', PLAIN)


def test_filler_keeps_the_form() -> None:
    """Without content an answer has as many letters, the tags of its thoughts, and what the service says of itself."""
    body = events({"role": "assistant", "content": "<think>Grüße 12"}, {"content": "</think>\n\nYes, “7”."})
    found = redacted(body, EMPTY)
    assert len(found) == len(body)
    assert [delta["content"] for delta in deltas(found)] == [
        "<think>xxxxxxxxxxxxxxx 11",
        "</think>\n\nxxx, xxxxxx1xxxxxx.",
    ]
    assert deltas(found)[0]["role"] == "assistant"
    assert redacted(b'{"detail": "model not found"}', EMPTY) == b'{"detail": "model not found"}'
    vectors = redacted(b'{"data": [{"embedding": [-0.25, 1e-05], "index": 0}]}', EMPTY)
    assert vectors == b'{"data": [{"embedding": [-1.11, 1e-11], "index": 1}]}'.replace(b'"index": 1', b'"index": 0')


@pytest.mark.parametrize(
    "body",
    [
        b"data: Zebra and {Zebra\n\n",
        b"data: {'content': 'Zebra', Zebra: \xc3\xa9Zebra}\n\ndata: [DONE]\n\n",
        b"{Zebra: Zebra1}",
        b'data: Zebra\ndata: {"id": "a", "b": [true, null, 1e5]} Zebra\n',
    ],
)
def test_words_outside_of_json_do_not_stay(body: bytes) -> None:
    """A stream's event, or a body, that is no JSON says nothing without content; what JSON itself says stays."""
    found = redacted(body, EMPTY)
    assert len(found) == len(body)
    assert b"Zebra" not in found
    assert all((each in found) == (each in body) for each in (b"data:", b"[DONE]", b"true, null, 1"))


def test_what_a_program_asks_is_content_whatever_its_fields_are_called() -> None:
    """Fields that say in a reply why there is no answer say nothing in a request; of a chute's own, none is known."""
    body = b'{"model": "acme/one", "message": "Zebra", "detail": "Zebra", "code": "Zebra"}'
    asked = redacted(body, EMPTY._replace(plain=ASKED))
    assert asked == body.replace(b"Zebra", b"xxxxx")
    own = redacted(
        b'{"message": "Zebra", "model": "Zebra", "deep": {"Zebra": "Zebra"}}', EMPTY._replace(plain=frozenset())
    )
    assert own == b'{"message": "xxxxx", "model": "xxxxx", "deep": {"xxxxx": "xxxxx"}}'


def test_a_number_that_says_who_somebody_is_does_not_stay() -> None:
    """An account may be called by one."""
    assert (
        redacted(b'{"user_id": 90210, "user": "90210", "n": 90210}', PLAIN)
        == b'{"user_id": 11111, "user": "*****", "n": 90210}'
    )


TEXT = st.text(st.sampled_from(string.ascii_letters + string.digits + ' {}[]":,\\/\n\té世🙂<>'), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda each: st.lists(each) | st.dictionaries(TEXT, each)
)


@settings(max_examples=40)
@given(
    arguments=st.dictionaries(TEXT, JSON, max_size=4),
    cuts=st.lists(st.integers(0, 200), max_size=5),
    plain=st.booleans(),
)
def test_arguments_stay_json(arguments: dict[str, Any], cuts: list[int], plain: bool) -> None:
    """However arguments are cut into pieces, their filler is the same JSON with other words."""
    text = json.dumps(arguments, ensure_ascii=plain)
    places = [0, *sorted(cut for cut in set(cuts) if cut < len(text)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    calls = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    body = events(*calls)
    found = redacted(body, EMPTY)
    assert len(found) == len(body)
    joined = "".join(delta["tool_calls"][0]["function"]["arguments"] for delta in deltas(found))
    assert shape(json.loads(joined, object_pairs_hook=list)) == shape(json.loads(text, object_pairs_hook=list))


def shape(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [shape(each) for each in value]
    return type(value).__name__ if not isinstance(value, bool) else value


@settings(max_examples=15)
@given(body=st.dictionaries(TEXT, JSON, max_size=5), cut=st.integers(0, 300))
def test_no_word_stays(body: dict[str, Any], cut: int) -> None:
    """Without content no word stays, also of JSON that was cut off, and the length is the same."""
    marked = json.dumps(
        {"choices": [{"message": {"content": "Zebra"}}], "tools": [{"Zebra": body}], "input": ["Zebra"]}
    )
    for text in (marked.encode(), marked.encode()[: max(cut, 1)], b"data: " + marked.encode()[: max(cut, 1)]):
        found = redacted(text, EMPTY)
        assert len(found) == len(text)
        assert b"Zebra" not in found
    assert filled(b"Zebra") == b"xxxxx"
