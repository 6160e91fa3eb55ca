"""The cassettes replayed: the same answers, every recorded request asked, and no other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from vcr.errors import CannotOverwriteExistingCassetteException

from chutes_core import ChutesError
from langchain_chutes import ChatChutes

from .interactions import FOLDER, INTERACTIONS, MODEL, SEEING, STREAM_TIME, options, recorder

OUTCOMES: dict[str, Any] = json.loads((FOLDER / "outcomes.json").read_text("utf-8"))


@pytest.mark.parametrize("name", INTERACTIONS)
def test_a_replay_comes_to_what_was_recorded(name: str) -> None:
    """Each interaction gives what it gave when it was recorded, and leaves nothing of its cassette unplayed."""
    with recorder().use_cassette(name) as cassette:
        outcome = INTERACTIONS[name](options())
    assert json.loads(json.dumps(outcome)) == OUTCOMES[name]["outcome"]
    assert cassette.all_played


def test_a_request_that_was_not_recorded_is_an_error() -> None:
    """Another question than the recorded one gets no answer."""
    refused = (CannotOverwriteExistingCassetteException, ChutesError)  # the SDK may take it for a lost connection
    with recorder().use_cassette("invoke"), pytest.raises(refused, match="overwrite existing cassette"):
        ChatChutes(model=MODEL, max_retries=0, **options()).invoke("Something else.")


def test_every_cassette_belongs_to_an_interaction_and_says_its_source() -> None:
    """There is no cassette that nobody plays, and each says against what it was recorded."""
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(INTERACTIONS) == set(OUTCOMES)
    assert all(entry["recorded_against"] for entry in OUTCOMES.values())
    assert STREAM_TIME in OUTCOMES
    assert SEEING in (FOLDER / f"{STREAM_TIME}.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", INTERACTIONS)
def test_a_cassette_holds_no_secret_and_no_place(name: str) -> None:
    """Keys, addresses and paths of the machine that recorded are not in it."""
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    assert not re.search(r"(cpk|cak|crt|csc)_|127\.0\.0\.1|localhost|/home/|/root/|User-Agent", text)
    assert "Bearer ****" in text
