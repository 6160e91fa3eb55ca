"""The chutes on offer and how tests change them."""

from __future__ import annotations

import pytest

from chutes_local.world.fleet import Fleet

MODEL = "Qwen/Qwen3-32B-TEE"


def test_names_ids_and_slugs_are_unique() -> None:
    """No two chutes can be mistaken for each other."""
    chutes = Fleet.load().chutes
    for key in ("name", "chute_id", "slug"):
        assert len({getattr(chute, key) for chute in chutes}) == len(chutes)


def test_the_embedding_host_answers_to_its_older_label() -> None:
    """The label without -tee still leads to the embedding chute."""
    fleet = Fleet.load()
    assert fleet.at("chutes-qwen-qwen3-embedding-8b") is fleet.find("Qwen/Qwen3-Embedding-8B-TEE")


def test_change_and_reset() -> None:
    """Changes take hold at once, and reset undoes them all."""
    fleet = Fleet.load()
    chute = fleet.change(MODEL, machines=0, reasoning="think", tool_calls=2)
    assert (chute.machines, chute.shape.reasoning, chute.shape.tool_calls) == (0, "think", 2)
    fleet.reset()
    assert (chute.machines, chute.shape.reasoning, chute.shape.tool_calls) == (2, None, 1)


@pytest.mark.parametrize(
    ("model", "change", "problem"),
    [
        ("nobody", {"machines": 0}, "No model 'nobody'"),
        (MODEL, {"colour": "red"}, "colour cannot be changed"),
        (MODEL, {"reasoning": "loud"}, "reasoning must be one of off"),
        (MODEL, {"tool_calls": 0}, "at least 1"),
        (MODEL, {"prefill": "often"}, "prefill must be one of honoured, closed"),
    ],
)
def test_changes_that_make_no_sense_are_refused(model: str, change: dict[str, object], problem: str) -> None:
    """A wrong model, attribute or value is refused by name."""
    with pytest.raises(ValueError, match=problem):
        Fleet.load().change(model, **change)
