"""Reasoning in its several shapes."""

from __future__ import annotations

import pytest

from chutes_local.gateway.reasoning import PARTS, form_of, reasoning_frames, thinking_wanted
from chutes_local.world.fleet import Chute, Fleet, Reasoning


def model(name: str) -> Chute:
    chute = Fleet.load().find(name)
    assert chute
    return chute


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (None, False),
        ({}, False),
        ({"thinking": True}, True),
        ({"enable_thinking": False, "reasoning_effort": "high"}, False),
        ({"reasoning_effort": "low"}, True),
        ({"effective_reasoning_effort": "none"}, False),
    ],
)
def test_switches_in_the_body(options: object, wanted: bool) -> None:
    """Either key switches thinking, and an effort does when neither key is there."""
    assert thinking_wanted({"chat_template_kwargs": options}) is wanted


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Qwen/Qwen3-32B-TEE", "think"),
        ("zai-org/GLM-5.2-TEE", "reasoning_content"),
        ("moonshotai/Kimi-K2.6-TEE", "reasoning"),
    ],
)
def test_each_model_has_its_own_form(name: str, form: Reasoning) -> None:
    """With thinking on, the form is the model's or its engine's; without, there is none."""
    assert form_of(model(name), None, thinking=True) == form
    assert form_of(model(name), None, thinking=False) == "off"


def test_a_form_asked_for_wins() -> None:
    """The header and the model's shape show reasoning even when nobody switched thinking on."""
    chute = model("Qwen/Qwen3-32B-TEE")
    chute.shape = chute.shape.changed(reasoning="reasoning")
    assert form_of(chute, None, thinking=False) == "reasoning"
    assert form_of(chute, "off", thinking=True) == "off"


def test_tags_are_split_over_frames() -> None:
    """The think tags arrive in pieces; close_only leaves the first one out."""
    text = "".join(PARTS)
    whole = reasoning_frames("think")
    assert "".join(frame.text for frame in whole) == f"<think>\n{text}\n</think>\n\n"
    assert all("<think>" not in frame.text and "</think>" not in frame.text for frame in whole)
    assert "".join(frame.text for frame in reasoning_frames("close_only")) == f"{text}\n</think>\n\n"
