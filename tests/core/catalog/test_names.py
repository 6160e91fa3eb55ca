"""What a model string names, and what is known of each model that it names."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import ModelRef, model_infos
from chutes_core.catalog.traits import traits_for
from chutes_core.errors import RequestRefusedError


@pytest.mark.parametrize(
    ("model", "names", "strategy", "thinking", "wire"),
    [
        ("acme/one", ("acme/one",), None, False, "acme/one"),
        (" acme/one ", ("acme/one",), None, False, "acme/one"),
        ("ac059e33-eb27-541c-b9a9-24b214036475", ("ac059e33-eb27-541c-b9a9-24b214036475",), None, False, None),
        ("a,b", ("a", "b"), None, False, "a,b"),
        ("a , b,,a", ("a", "b"), None, False, "a,b"),
        ("a,b:latency", ("a", "b"), "latency", False, "a,b:latency"),
        ("a,b:THROUGHPUT", ("a", "b"), "throughput", False, "a,b:throughput"),
        ("a:latency", ("a",), "latency", False, "a:latency"),
        ("a:THINKING", ("a",), None, True, "a"),
        ("a,b:THINKING", ("a", "b"), None, True, "a,b"),
        ("a:THINKING,b:THINKING", ("a", "b"), None, True, "a,b"),
        ("a:THINKING,", ("a",), None, True, "a"),
        ("a:THINKING,b:THINKING:latency", ("a", "b"), "latency", True, "a,b:latency"),
        ("a:THINKING:latency", ("a",), "latency", True, "a:latency"),
        ("a:latency:THINKING", ("a",), "latency", True, "a:latency"),
        ("a:thinking", ("a:thinking",), None, False, "a:thinking"),
        ("a:premium", ("a:premium",), None, False, "a:premium"),
        ("a:latency:throughput", ("a:latency",), "throughput", False, "a:latency:throughput"),
        ("default", ("default",), None, False, "default"),
    ],
)
def test_model_strings(
    model: str, names: tuple[str, ...], strategy: str | None, thinking: bool, wire: str | None
) -> None:
    """Names, routing lists, strategies and the thinking suffix are told apart, in any combination."""
    ref = ModelRef.parse(model)
    assert (ref.names, ref.strategy, ref.thinking) == (names, strategy, thinking)
    assert ref.wire == (wire or model)
    assert ref.routed == (len(names) > 1 or strategy is not None)
    assert ModelRef.parse(ref.wire).wire == ref.wire


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("", "must be the name of a model"),
        ("  ", "must be the name of a model"),
        (None, "must be the name of a model"),
        (",", "names no model"),
        (":latency", "names no model"),
        ("a:THINKING,b", "applies to the whole request"),
    ],
)
def test_model_strings_that_name_nothing(model: Any, words: str) -> None:
    """A string without a model, or with thinking for a part of a list, is refused."""
    with pytest.raises(RequestRefusedError, match=words):
        ModelRef.parse(model)


def test_every_model_of_a_list_is_known_or_at_least_its_family() -> None:
    """One that looks like a list is the model of that name; one that is not listed has the traits of its family."""
    odd = ModelInfo(id="acme/a,b")
    catalog = Catalog((odd, *Catalog.bundled()), "live", 0.0, "2026-08-22")
    assert model_infos(catalog, "acme/a,b") == [odd]
    known, unlisted = model_infos(catalog, "qwen/qwen3-32b, zai-org/GLM-9:latency")
    assert (known.id, unlisted.id) == ("Qwen/Qwen3-32B-TEE", "zai-org/GLM-9")
    assert unlisted.traits == traits_for("zai-org/GLM-9")
    assert unlisted.price_in is None
