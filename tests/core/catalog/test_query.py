"""Models are chosen by what they must be able to do; a wish that can mean nothing is refused."""

from __future__ import annotations

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import ChutesWarning, ConfigurationError

from .catalogs import EMBEDDING, catalog_of, chat, ids


def test_select_takes_chat_models_in_the_services_order() -> None:
    """Without a demand all chat models are given, and only they, as the service ranks them."""
    catalog = Catalog.bundled()
    assert catalog.select() == [info for info in catalog if info.kind == "chat"]
    assert ids(catalog.select(kind="embedding")) == [EMBEDDING]
    assert catalog.select(kind=None) == list(catalog)


SEVERAL = catalog_of(
    chat(
        "acme/A",
        features=frozenset({"tools", "json_mode"}),
        input_modalities=frozenset({"text", "image"}),
        context_length=1000,
        price_in=2.0,
        price_out=5.0,
        confidential=True,
        quantization="fp8",
        tags=frozenset({"small", "new"}),
        ttft=0.5,
        tps=50.0,
    ),
    chat(
        "other/B",
        features=frozenset({"tools"}),
        input_modalities=frozenset({"text"}),
        context_length=2000,
        price_in=1.0,
        price_out=5.0,
        confidential=False,
        quantization="bf16",
        tags=frozenset({"new"}),
        ttft=0.25,
        tps=20.0,
    ),
    chat("C", price_out=0.0, features=frozenset(), hot=True),
)


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        ({"features": "tools"}, ["acme/A", "other/B"]),
        ({"features": ["tools", "json_mode"]}, ["acme/A"]),
        ({"modalities": "text"}, ["acme/A", "other/B"]),
        ({"modalities": {"text", "image"}}, ["acme/A"]),
        ({"min_context": 2000}, ["other/B"]),
        ({"min_context": 0}, ["acme/A", "other/B"]),
        ({"max_price": 5}, ["acme/A", "other/B", "C"]),
        ({"max_price": 4.9}, ["C"]),
        ({"confidential": True}, ["acme/A"]),
        ({"confidential": False}, ["other/B"]),
        ({"owner": "ACME"}, ["acme/A"]),
        ({"owner": ""}, ["C"]),
        ({"tags": "new"}, ["acme/A", "other/B"]),
        ({"tags": ["new", "small"]}, ["acme/A"]),
        ({"quantizations": "bf16"}, ["other/B"]),
        ({"hot": True}, ["C"]),
        ({"hot": False}, []),
        ({"quantizations": ["bf16", "fp8"]}, ["acme/A", "other/B"]),
        ({"features": "tools", "min_context": 1500}, ["other/B"]),
        ({"order_by": "price"}, ["C", "other/B", "acme/A"]),
        ({"order_by": "context"}, ["other/B", "acme/A", "C"]),
        ({"order_by": "ttft"}, ["other/B", "acme/A", "C"]),
        ({"order_by": "tps"}, ["acme/A", "other/B", "C"]),
        ({"order_by": "context", "limit": 1}, ["other/B"]),
        ({"limit": 0}, []),
    ],
)
def test_select_meets_every_demand(demand: dict[str, object], expected: list[str]) -> None:
    """Each demand is met by what is known; the unknown meets none and is sorted last."""
    assert ids(SEVERAL.select(**demand)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("demand", "what"),
    [
        ({"features": "tool"}, "feature 'tool'; known are json_mode, tools"),
        ({"features": "vision"}, "For models that take pictures say modalities='image'."),
        ({"modalities": "images"}, "input modality 'images'"),
    ],
)
def test_select_warns_of_a_word_that_no_model_has(demand: dict[str, object], what: str) -> None:
    """A slip of the pen is an empty answer with a warning that lists the right words."""
    with pytest.warns(ChutesWarning, match=what):
        assert SEVERAL.select(**demand) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order_by": "cost"}, "order_by must be one of 'price', 'context', 'ttft', 'tps' or None, not 'cost'"),
        ({"kind": "llm"}, "kind must be one of 'chat'"),
        ({"limit": -1}, "limit must be 0 or more"),
    ],
)
def test_select_refuses_what_can_mean_nothing(wrong: dict[str, object], message: str) -> None:
    """A choice that does not exist is refused with the ones that do."""
    with pytest.raises(ConfigurationError, match=message):
        SEVERAL.select(**wrong)  # type: ignore[arg-type]


def test_openrouter_export_has_every_model() -> None:
    """The export lists all models in order."""
    catalog = Catalog.bundled()
    exported = catalog.to_openrouter()
    assert [entry["id"] for entry in exported] == ids(catalog)
    assert exported[0]["pricing"] == {
        "prompt": "0.000000104",
        "completion": "0.000000416",
        "input_cache_read": "0.0000000104",
    }
