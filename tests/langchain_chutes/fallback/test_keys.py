"""Members without a key, or with a client that cannot be used: nothing is sent, and nobody is marked for it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from chutes_core import ConfigurationError, MissingKeyError
from langchain_chutes import ChatChutes, ChutesFallback
from langchain_chutes._errors import family
from tests.langchain_chutes.fallback_stage import ANSWER, NAMES, Recorder, Stage, Tree, stage
from tests.langchain_chutes.models import KEY

MODES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]


def keyed(made: Stage, name: str = "acme/keyed", key: Any = KEY) -> ChatChutes:
    """A member with a key, over the stage's service."""
    first = made.model.members[0]
    assert isinstance(first, ChatChutes)
    return first.model_copy(update={"model": name, "api_key": key})


@pytest.mark.parametrize("mode", MODES)
def test_without_any_key_that_is_what_is_raised(mode: str) -> None:
    """As MissingKeyError, LangChain's and ours, alone, with how to give one."""
    made = stage([], api_key=None).call(mode)
    assert isinstance(made.error, MissingKeyError)
    assert isinstance(made.error, family("ModelAuthenticationError"))
    assert "CHUTES_API_KEY" in str(made.error)
    assert made.transport.requests == []
    assert made.model.health.snapshot()["members"] == {}


@pytest.mark.parametrize("tracers", [[], [Tree, Recorder]], ids=["unwatched", "watched"])
@pytest.mark.parametrize("mode", MODES)
def test_members_without_a_key_are_skipped(mode: str, tracers: list[Any]) -> None:
    """The next one answers, and the attempts say why the first did not."""
    made = stage([], api_key=None)
    made.model.members = [made.model.members[0], keyed(made)]
    made.call(mode, config={"callbacks": [tracer() for tracer in tracers]})
    assert made.message.text == ANSWER.text
    assert [(each["model"], each["outcome"]) for each in made.attempts] == [
        ("acme/one", "skipped"),
        ("acme/keyed", "answered"),
    ]
    assert "No Chutes key" in made.attempts[0]["detail"]
    assert not made.model.health.vitals("|acme/one").failures
    assert len(made.transport.requests) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_fallback_over_every_exception_skips_them_too(mode: str) -> None:
    """LangChain's own way of listing them."""
    made = stage([], api_key=None)
    made.model = keyed(made, "acme/one", None).with_fallbacks([keyed(made)])
    made.model.clock = made.clock
    made.call(mode)
    assert [each["outcome"] for each in made.attempts] == ["skipped", "answered"]
    made.model = keyed(made, "acme/one", None).with_fallbacks([keyed(made, "acme/two", None)])
    assert isinstance(made.call(mode).error, MissingKeyError)
    assert made.model.health.snapshot()["members"] == {}


def test_a_closed_client_is_not_its_models_failure() -> None:
    """The next member answers."""
    made = stage([])
    first = made.model.members[0]
    assert isinstance(first, ChatChutes)
    first.client.close()
    assert made.call("sync-whole").models == ["acme/two"]
    assert [each["outcome"] for each in made.attempts] == ["skipped", "answered"]


@pytest.mark.parametrize("mode", ["sync-whole", "sync-stream"])
def test_an_async_key_in_a_blocking_call(mode: str) -> None:
    """It is the caller's mistake for every member, and said as that."""

    async def key() -> str:
        return KEY

    made = stage([], api_key=key).call(mode)
    assert isinstance(made.error, ConfigurationError)
    assert "use the async client" in str(made.error)
    assert made.model.health.snapshot()["members"] == {}


def fetch_key() -> str:
    return KEY


@pytest.mark.parametrize(
    "kind", [lambda **given: ChatChutes(model="acme/one", **given), lambda **given: ChutesFallback(NAMES, **given)]
)
def test_in_another_process_the_error_says_that_keys_stay(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to give one there; a function goes along."""
    there = pickle.loads(pickle.dumps(kind(api_key=KEY)))
    with pytest.raises(MissingKeyError, match=r"not carried along.*environment of that process.*function"):
        there.invoke("Hi")
    twice = pickle.loads(pickle.dumps(there))
    with pytest.raises(MissingKeyError, match="not carried along"):
        twice.invoke("Hi")
    with pytest.raises(MissingKeyError, match="No Chutes key was given"):
        kind().invoke("Hi")
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_there")
    member = getattr(there, "members", [there])[0]
    assert member.client._credential.secret().get_secret_value() == "cpk_there"
    carried = pickle.loads(pickle.dumps(kind(api_key=fetch_key)))
    member = getattr(carried, "members", [carried])[0]
    assert member.client._credential.secret().get_secret_value() == KEY
