"""Members without a key, or with a client that cannot be used: nothing is sent, and nobody is marked for it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from chutes_core import MissingKeyError
from llama_index_chutes import Chutes, ChutesEmbedding, ChutesFallback
from tests.llama_index_chutes.fallback.test_tracing import Watch, watch
from tests.llama_index_chutes.rigs import KEY, STYLES, ask, text_of
from tests.llama_index_chutes.stages import ANSWER, MEMBERS, Stage, attempts, stage

__all__ = ["watch"]


def keyed(made: Stage, key: Any = KEY) -> Any:
    """A member with a key, over the stage's service."""
    copy = made.llm.members[1].model_copy(update={"api_key": key})
    copy._clients = type(copy._clients)()
    return copy


@pytest.mark.parametrize("style", STYLES)
def test_without_any_key_that_is_what_is_raised(style: str) -> None:
    """As MissingKeyError, alone, with how to give one."""
    made = stage([], api_key=None)
    error = ask(made.llm, style).error
    assert isinstance(error, MissingKeyError)
    assert "CHUTES_API_KEY" in str(error)
    assert made.transport.requests == []
    assert made.llm.health.snapshot()["members"] == {}


@pytest.mark.parametrize("style", STYLES)
def test_members_without_a_key_are_skipped(style: str, watch: Watch) -> None:
    """The next one answers, the attempts say why the first did not, and no span of it stays open."""
    made = stage([], api_key=None)
    made.llm.members = [made.llm.members[0], keyed(made)]
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == ANSWER.text
    rows = attempts(outcome)
    assert [(each["model"], each["outcome"]) for each in rows] == [(MEMBERS[0], "skipped"), (MEMBERS[1], "answered")]
    assert "No Chutes key" in rows[0]["detail"]
    assert not made.llm.health.vitals(f"|{MEMBERS[0]}").failures
    assert len(made.transport.requests) == 1
    spans = watch.named(".attempt-")
    assert [event.attempt for event in watch.attempts] == rows
    assert [event.span_id for event in watch.attempts] == [span.id_ for span in spans]
    assert watch.spans.dropped_spans == spans[:1]
    assert watch.spans.open_spans == {}


def test_a_closed_client_is_not_its_models_failure() -> None:
    """The next member answers."""
    made = stage([])
    made.llm.members[0]._client().close()
    outcome = ask(made.llm, "chat")
    assert [each["outcome"] for each in attempts(outcome)] == ["skipped", "answered"]
    assert made.asked == [MEMBERS[1]]


def fetch_key() -> str:
    return KEY


@pytest.mark.parametrize(
    "kind",
    [lambda **given: Chutes(model=MEMBERS[0], **given), lambda **given: ChutesFallback(MEMBERS, **given)],
    ids=["model", "fallback"],
)
def test_in_another_process_the_error_says_that_keys_stay(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to give one there; a function goes along."""
    there = pickle.loads(pickle.dumps(kind(api_key=KEY)))
    with pytest.raises(MissingKeyError, match=r"not carried along.*environment of that process.*function"):
        there.complete("Hi")
    twice = pickle.loads(pickle.dumps(there))
    with pytest.raises(MissingKeyError, match="not carried along"):
        twice.complete("Hi")
    with pytest.raises(MissingKeyError, match="No Chutes key was given"):
        kind().complete("Hi")
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_there")
    member = getattr(there, "members", [there])[0]
    assert member.api_key is None
    assert member._client()._credential.secret().get_secret_value() == "cpk_there"
    carried = pickle.loads(pickle.dumps(kind(api_key=fetch_key)))
    member = getattr(carried, "members", [carried])[0]
    assert member._client()._credential.secret().get_secret_value() == KEY


def test_embeddings_say_it_too() -> None:
    """They are what is pickled for workers most often."""
    there = pickle.loads(pickle.dumps(ChutesEmbedding(api_key=KEY)))
    with pytest.raises(MissingKeyError, match="not carried along"):
        there.get_text_embedding("Hi")
