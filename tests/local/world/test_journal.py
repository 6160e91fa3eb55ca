"""The journal: what is noted, what is kept secret."""

from __future__ import annotations

import gc
import json
import threading
import tracemalloc

import pytest

from chutes_local.world.journal import MOST_OF_A_BODY, Journal, Tokens


def test_secrets_are_not_noted() -> None:
    """Authorization, keys and cookies never reach the journal; only which sort of key it was."""
    headers = {"authorization": "Bearer cpk_secret", "x-api-key": "cpk_secret", "cookie": "a=b", "x-title": "t"}
    entry = Journal().open("POST", "/", host="llm", headers=headers)
    assert entry.headers == {"x-title": "t"}
    assert entry.key_kind == "cpk"
    assert "secret" not in str(entry.as_json())


def test_the_bill_is_summed_per_model() -> None:
    """Billed tokens add up, for one model or for all."""
    journal = Journal()
    for model, tokens in (("a", Tokens(3, 1)), ("b", Tokens(5, 2)), ("a", Tokens(1, 1))):
        entry = journal.open("POST", "/", host="llm")
        entry.model, entry.billed = model, tokens
    assert journal.billed("a") == Tokens(4, 2)
    assert journal.billed().total == 13


def test_wait_returns_once_the_answer_is_over() -> None:
    """A test may wait for the server to have noted the end."""
    journal = Journal()
    entry = journal.open("POST", "/", host="llm")
    threading.Timer(0.0, journal.close, (entry,), {"status": 200}).start()
    assert journal.wait(1)[0].status == 200


def test_wait_gives_up_with_a_count() -> None:
    """Waiting for what never comes ends in an error that says how far it came."""
    with pytest.raises(TimeoutError, match="0 of 2"):
        Journal().wait(2, timeout=0)


def test_only_the_last_entries_are_kept() -> None:
    """The journal does not grow without end."""
    journal = Journal(limit=2)
    for path in ("/1", "/2", "/3"):
        journal.open("GET", path, host="llm")
    assert [entry.path for entry in journal] == ["/2", "/3"]
    assert [entry.number for entry in journal] == [2, 3]
    assert journal.to("3") == [journal.last]


def test_an_empty_journal_has_no_last_entry() -> None:
    """Asking an empty journal for its last entry is an error that says so."""
    with pytest.raises(LookupError, match="empty"):
        _ = Journal().last


def noted(journal: Journal, body: dict[str, object], *pieces: str) -> dict[str, object]:
    """Record one request and its answer; return what is kept of its body."""
    entry = journal.open("POST", "/v1/chat/completions", host="llm", headers={"x-title": "t" * 100})
    journal.note(entry, body)
    for piece in pieces:
        journal.said(entry, piece)
    journal.close(entry, status=200)
    return dict(entry.body or {})


def test_it_takes_no_more_memory_than_it_may() -> None:
    """What is counted is what is taken, or more; beyond the limit the oldest go; clear() gives all of it back."""
    journal = Journal(most_bytes=1_000_000)
    body = json.dumps({"messages": [{"role": "user", "content": f"{'long ' * 200}"}] * 5})
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(300):
            noted(journal, json.loads(body), *(f" word {number} {place}" for place in range(100)))
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        assert 500_000 < taken < journal.bytes * 1.2 <= 1_200_000
        assert 50 < len(journal) < 300
        assert journal.last.number == 300
        journal.clear()
        gc.collect()
        assert journal.bytes == 0
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("picture", ["data:image/png;base64," + "iVBOR" * 2000, "iVBOR" * 2000])
def test_pictures_are_shortened(picture: str) -> None:
    """Of a picture the beginning is kept, and how long it was; words stay."""
    journal, words = Journal(), "How are you? " * 1000
    kept = noted(journal, {"messages": [{"content": [{"image_url": {"url": picture}}, {"text": words}]}]})
    assert kept["messages"] == [
        {"content": [{"image_url": {"url": f"{picture[:200]}… ({len(picture)} characters)"}}, {"text": words}]}
    ]


@pytest.mark.parametrize(
    "body",
    [{"input": "word " * 10**6}, {"input": ["word " * 10] * 10**5}, {"input": list(range(10**6))},
     {f"key {number}": number for number in range(10**5)}, {"x" * 10**6: 1}],
    ids=["text", "texts", "numbers", "keys", "key"],
)  # fmt: skip
def test_of_a_huge_request_the_beginning_is_kept(body: dict[str, object]) -> None:
    """Whatever makes it huge, and it says how much there was."""
    journal = Journal()
    kept = noted(journal, body)
    assert journal.bytes < 2 * MOST_OF_A_BODY + 10_000
    assert "… (" in json.dumps(kept, ensure_ascii=False) or kept["…"] == f"({len(body)} in all)"


def test_of_a_huge_answer_the_beginning_is_kept() -> None:
    """The rest is an ellipsis."""
    journal = Journal()
    noted(journal, {}, *["word "] * 50_000)
    assert journal.bytes < 2 * MOST_OF_A_BODY + 10_000
    assert journal.last.deltas[0] == "word "
    assert journal.last.deltas[-1] == "…"


def test_an_answer_that_outlives_its_entry_is_not_counted() -> None:
    """A stream that goes on after the journal was cleared takes nothing of it."""
    journal = Journal()
    entry = journal.open("POST", "/", host="llm")
    journal.clear()
    journal.said(entry, "late")
    assert journal.bytes == 0
    journal.open("POST", "/", host="llm")
    before = journal.bytes
    journal.said(entry, "later")
    assert journal.bytes == before


def test_every_body_can_be_written_as_json() -> None:
    """Numbers that JSON does not have are texts."""
    assert noted(Journal(), {"a": float("nan"), "b": [float("inf")]}) == {"a": "nan", "b": ["inf"]}
