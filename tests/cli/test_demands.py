"""Demands on a model, as they are written."""

from __future__ import annotations

import argparse

import pytest

from chutes_cli.demands import fitting, limited, named, read_demands, unmet
from chutes_core.catalog.model_info import ModelInfo

INFO = ModelInfo(
    id="acme/Coder-TEE",
    engine="vllm",
    price_in=0.1,
    price_out=0.3,
    context_length=131072,
    max_output=8192,
    features=frozenset({"tools", "json_mode"}),
    input_modalities=frozenset({"text", "image"}),
    confidential=True,
    quantization="fp8",
    ttft=0.5,
    tps=60.0,
)
UNKNOWN = ModelInfo(id="acme/unknown")


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("tools", True),
        ("!tools", False),
        ("structured", False),
        ("!structured", True),
        ("json", True),
        ("vision", True),
        ("video", False),
        ("tee", True),
        ("hot", None),
        ("!hot", None),
        ("<=0.3$", True),
        ("<= $0.3", True),
        ("<0.3", False),
        ("out<=0.29", False),
        ("in<=0.1", True),
        ("ctx>=100k", True),
        ("ctx>131072", False),
        ("answer>=8k", True),
        ("ttft<=2", True),
        ("tps>=100", False),
        ("owner=acme", True),
        ("owner=other", False),
        ("kind=chat", True),
        ("quantization=FP8", True),
        ("engine=sglang", False),
        ("~CODER", True),
        ("TOOLS", True),
    ],
)
def test_demands(text: str, met: bool | None) -> None:
    """Each form says whether the model meets it, or that nobody knows."""
    (demand,) = read_demands(text)
    assert demand.met_by(INFO) is met
    assert demand.text == text


@pytest.mark.parametrize("text", ["tools", "!tools", "<=1", "ctx>=1", "tee", "quantization=fp8"])
def test_what_is_not_known_meets_nothing(text: str) -> None:
    """A model of which nothing is known meets neither a demand nor its opposite."""
    assert fitting([UNKNOWN], read_demands(text)) == []


@pytest.mark.parametrize("text", ["fast", "!fast", "~", "size<=3", "<=", "<=cheap", "kind=toy", "colour=red", "!<=3"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    """A demand that does not exist is a mistake."""
    with pytest.raises(argparse.ArgumentTypeError):
        read_demands(text)


def test_several_at_once() -> None:
    """Commas part demands; blanks and empty parts do not matter."""
    assert [each.text for each in read_demands(" tools , <=0.3$,, tee ")] == ["tools", "<=0.3$", "tee"]
    assert fitting([INFO, UNKNOWN], read_demands("")) == [INFO, UNKNOWN]
    assert unmet([INFO, UNKNOWN], read_demands("video")) == "No model meets all of this: video (0 of 2)."


def test_demands_of_options() -> None:
    """A part of the name and a bound can be asked for without writing them."""
    assert named("CODER")(INFO) is True
    assert limited("out", "<=", 0.2)(INFO) is False
