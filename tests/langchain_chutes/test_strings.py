"""``"chutes:MODEL"`` where LangChain takes the name of a model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain.agents import create_agent
from langchain.chat_models import base as chat_models
from langchain.chat_models import init_chat_model
from langchain.embeddings import base as embeddings
from langchain.embeddings import init_embeddings

from chutes_core import ConfigurationError
from langchain_chutes import ChatChutes, ChutesEmbeddings, register, unregister

KEY = "cpk_0123"


@pytest.fixture
def registered() -> Iterator[None]:
    """Registered twice, which is once; afterwards everything is as before."""
    before = dict(chat_models._BUILTIN_PROVIDERS), dict(embeddings._BUILTIN_PROVIDERS)
    register()
    register()
    yield
    unregister()
    unregister()
    assert before == (chat_models._BUILTIN_PROVIDERS, embeddings._BUILTIN_PROVIDERS)


@pytest.mark.usefixtures("registered")
def test_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model, embeddings and an agent; a routing list keeps its commas and colons."""
    model = init_chat_model("chutes:acme/one,acme/two:latency", api_key=KEY, temperature=0)
    assert isinstance(model, ChatChutes)
    assert (model.model, model.temperature) == ("acme/one,acme/two:latency", 0)
    found = init_embeddings("chutes:Qwen/Qwen3-Embedding-8B-TEE", api_key=KEY)
    assert isinstance(found, ChutesEmbeddings)
    monkeypatch.setenv("CHUTES_API_KEY", KEY)
    assert create_agent("chutes:Qwen/Qwen3-32B-TEE", []).nodes.keys() >= {"model"}


def test_nothing_is_registered_by_itself() -> None:
    """Importing the package changes nothing of LangChain's."""
    with pytest.raises(ValueError, match="Unable to infer model provider"):
        init_chat_model("chutes:acme/one")


def test_an_entry_of_langchains_own_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither replaced nor removed."""
    own = ("langchain_other", "ChatOther", print)
    monkeypatch.setitem(chat_models._BUILTIN_PROVIDERS, "chutes", own)
    register()
    assert chat_models._BUILTIN_PROVIDERS["chutes"] is own
    unregister()
    assert chat_models._BUILTIN_PROVIDERS["chutes"] is own
    assert "chutes" not in embeddings._BUILTIN_PROVIDERS


def test_another_version_of_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no such table, the error shows the way without it."""
    monkeypatch.delattr(chat_models, "_BUILTIN_PROVIDERS")
    with pytest.raises(ConfigurationError, match=r"pass a model, as in create_agent\(ChatChutes"):
        register()
