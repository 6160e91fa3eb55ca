"""The journal: what is noted, what is kept secret."""

from __future__ import annotations

import threading

import pytest

from chutes_local.world.journal import Journal, Tokens


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
