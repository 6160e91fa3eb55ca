"""Profiles from the catalogue."""

from __future__ import annotations

import pytest
from langchain_core.language_models import ModelProfile

from chutes_core import Catalog, ModelInfo
from chutes_core.catalog.names import model_infos
from langchain_chutes._convert.profile import model_profile

ONE = ModelInfo(
    id="acme/one",
    context_length=8192,
    max_output=1024,
    features=frozenset({"tools", "reasoning"}),
    input_modalities=frozenset({"text", "image"}),
    sampling_parameters=frozenset({"temperature"}),
)
TWO = ModelInfo(id="acme/two", context_length=4096, features=frozenset({"tools"}))
BARE = ModelInfo(id="acme/bare")
KNOWN = Catalog((ONE, TWO, BARE), "live", 0.0, "2026-01-01", offline=True)


def test_a_profile_says_what_is_known() -> None:
    """And leaves out the rest."""
    profile = model_profile([ONE])
    assert profile is not None
    assert profile["name"] == "acme/one"
    assert (profile["max_input_tokens"], profile["max_output_tokens"]) == (8192, 1024)
    assert (profile["tool_calling"], profile["structured_output"], profile["reasoning_output"]) == (True, False, True)
    assert (profile["image_inputs"], profile["image_tool_message"], profile["video_inputs"]) == (True, True, False)
    assert profile["pdf_inputs"] is False
    assert profile["temperature"] is True


@pytest.mark.parametrize("name", ["tool_call_streaming", "name", "text_outputs", "temperature"])
def test_only_names_that_langchain_has_are_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier release of it warns of those that a later one has."""
    monkeypatch.delitem(ModelProfile.__annotations__, name, raising=False)
    profile = model_profile([ONE])
    assert profile is not None
    assert name not in profile
    assert set(profile) <= set(ModelProfile.__annotations__)


def test_a_list_can_do_what_all_its_members_can() -> None:
    """Any of them may answer."""
    profile = model_profile(model_infos(KNOWN, "acme/one, acme/two:latency"))
    assert profile is not None
    assert (profile["max_input_tokens"], profile["tool_calling"]) == (4096, True)
    assert profile["reasoning_output"] is False
    assert "max_output_tokens" not in profile
    assert "image_inputs" not in profile
    assert "name" not in profile


@pytest.mark.parametrize("model", ["acme/bare", "acme/nowhere"])
def test_nothing_known_is_no_profile(model: str) -> None:
    """A model of which nothing is said has none."""
    assert model_profile(model_infos(KNOWN, model)) is None
