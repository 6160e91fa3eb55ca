"""Without a model the classes of all packages ask the default one, or say how to name one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import langchain_chutes
import llama_index_chutes
from chutes_core import AsyncFallbackClient, ConfigurationError, FallbackClient
from langchain_chutes import ChatChutes
from llama_index_chutes import Chutes


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, which no test here sends anywhere."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_fake")


ONE: dict[str, Callable[..., Any]] = {
    "ChatChutes": ChatChutes,
    "Chutes": Chutes,
}
SEVERAL: dict[str, Callable[..., Any]] = {
    "FallbackClient": FallbackClient,
    "AsyncFallbackClient": AsyncFallbackClient,
    "langchain": langchain_chutes.ChutesFallback,
    "llama_index": llama_index_chutes.ChutesFallback,
}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_a_model_without_a_name_is_the_first(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument goes before the default; a model that was made, or pickled, keeps its name."""
    monkeypatch.setenv("CHUTES_MODEL", "acme/one,acme/two")
    model = make()
    assert (model.model, make(model="acme/mine").model) == ("acme/one", "acme/mine")
    monkeypatch.setenv("CHUTES_MODEL", "acme/other")
    assert (model.model, pickle.loads(pickle.dumps(model)).model) == ("acme/one", "acme/one")


@pytest.mark.parametrize("make", SEVERAL.values(), ids=SEVERAL)
def test_a_fallback_without_members_has_all(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A list goes before the default, and an empty one is still a mistake."""
    monkeypatch.setenv("CHUTES_MODEL", "acme/one,acme/two")
    assert "(['acme/one', 'acme/two']" in repr(make())
    assert "(['acme/mine']" in repr(make(["acme/mine"]))
    with pytest.raises(ConfigurationError, match="at least one model"):
        make([])


@pytest.mark.parametrize("make", [*ONE.values(), *SEVERAL.values()], ids=[*ONE, *SEVERAL])
def test_without_any_the_ways_to_name_one_are_said(make: Callable[..., Any]) -> None:
    """The error names the argument, the variable and the command."""
    with pytest.raises(ConfigurationError, match="No model was named") as caught:
        make()
    said = str(caught.value)
    assert "pass model=" in said or "pass members=" in said
    assert "CHUTES_MODEL" in said
    assert "`chutes-connect models set MODEL`" in said
