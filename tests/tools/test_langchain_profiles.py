"""The profiles that are offered to LangChain are the catalogue's, in its format."""

from __future__ import annotations

import langchain_profiles
from langchain_core.language_models import ModelProfile

from chutes_core import Catalog


def test_profiles_are_of_today() -> None:
    """Each chat model has one, with no name that LangChain does not know."""
    text = langchain_profiles.TARGET.read_text("utf-8")
    assert text == langchain_profiles.written()
    found: dict[str, object] = {}
    exec(text, found)
    profiles = found["_PROFILES"]
    assert isinstance(profiles, dict)
    assert profiles.keys() == {info.id for info in Catalog.bundled() if info.kind == "chat"}
    assert all(each.keys() <= ModelProfile.__annotations__.keys() for each in profiles.values())
