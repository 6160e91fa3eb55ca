"""The catalogue: what it finds, how it renews itself, and that nothing it is given makes it fail."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog import cache as catalog_cache
from chutes_core.catalog.catalog import Catalog, ModelInfo, Traits
from chutes_core.errors import ChutesWarning, ConfigurationError, UnknownModelError

ROOT = Path(__file__).resolve().parents[3]
EMBEDDING = "Qwen/Qwen3-Embedding-8B-TEE"
SNAPSHOT_TIME = 1787356800.0  # 2026-08-22T00:00:00Z
LATER = SNAPSHOT_TIME + 10 * 86400


def catalog_of(*models: ModelInfo, now: float = LATER, fetched_at: float = LATER) -> Catalog:
    return Catalog(models, "live", fetched_at, "2026-08-22", now=lambda: now)


def chat(name: str, **facts: object) -> ModelInfo:
    return ModelInfo(id=name, **facts)  # type: ignore[arg-type]


def ids(models: object) -> list[str]:
    return [info.id for info in models]  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------ the snapshot


def test_snapshot_has_the_models_of_its_day() -> None:
    """The snapshot holds fourteen chat models and one embedding model, and says from when."""
    catalog = Catalog.bundled()
    assert (catalog.source, catalog.snapshot_date, catalog.fetched_at) == (
        "bundled",
        "2026-08-22",
        SNAPSHOT_TIME,
    )
    kinds = [info.kind for info in catalog]
    assert (kinds.count("chat"), kinds.count("embedding"), len(catalog)) == (14, 1, 15)
    assert all(info.chute_id and info.context_length for info in catalog)


def test_snapshot_carries_facts_and_not_guesses() -> None:
    """Full rows have every fact; rows that missed fields have None for them."""
    catalog = Catalog.bundled()
    full = catalog.model("google/gemma-4-31B-turbo-TEE")
    assert (full.context_length, full.max_output, full.quantization) == (131072, 65536, "fp4")
    assert (full.price_in, full.price_out, full.price_cached) == (0.12, 0.37, 0.012)
    assert full.takes("image") is True
    bare = catalog.model("Nemotron-3-Nano-Omni-30B-TEE")
    assert (bare.max_output, bare.features, bare.input_modalities, bare.quantization) == (None,) * 4
    assert (bare.context_length, bare.price_out, bare.owner) == (131072, 0.0978, None)


def test_snapshot_knows_where_embeddings_are() -> None:
    """The embedding model has its own host, its dimensions, and no price."""
    info = Catalog.bundled().model("Qwen/Qwen3-Embedding-8B")
    assert info.host == "https://chutes-qwen-qwen3-embedding-8b-tee.chutes.ai/v1"
    assert (info.id, info.dimensions, info.context_length, info.price_in) == (EMBEDDING, 4096, 40960, None)
    assert info.traits.query_instruction == "Instruct: {task}\nQuery: {query}"


def test_import_brings_nothing_heavy() -> None:
    """Importing the catalogue imports no HTTP library, no framework, and nothing only mistakes need."""
    code = "import sys, chutes_core.catalog; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"httpx", "openai", "pydantic", "numpy", "langchain_core", "llama_index", "difflib", "platformdirs"}
    assert heavy.isdisjoint(loaded.stdout.split())


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("acme/One-TEE", "acme/One-TEE"),
        ("acme/One", "acme/One-TEE"),
        ("ACME/one-tee", "acme/One-TEE"),
        ("acme/two", "acme/Two"),
        ("acme/Two-TEE", "acme/Two-TEE"),
        ("11-22", "acme/Two"),
        ("acme/One-TEE-TEE", None),
        ("one", None),
        ("", None),
    ],
)
def test_a_name_is_found_as_people_write_it(asked: str, found: str | None) -> None:
    """Case, a missing ``-TEE`` and a chute's id lead to the model; an exact name wins over a likeness."""
    catalog = catalog_of(chat("acme/One-TEE"), chat("acme/Two-TEE"), chat("acme/Two", chute_id="11-22"))
    info = catalog.get(asked)
    assert (info and info.id) == found
    assert (asked in catalog) is (found is not None)


def test_membership_of_models_and_of_anything_else() -> None:
    """A model is in the catalogue if it is one of its own; what is no name and no model never is."""
    catalog = catalog_of(chat("a"))
    assert chat("a") in catalog
    assert chat("a", hot=True) not in catalog
    assert None not in catalog


def test_a_mistaken_name_is_answered_with_the_nearest() -> None:
    """The error names the nearest models, the age of the list, and how to renew it."""
    catalog = dataclasses.replace(Catalog.bundled(), now=lambda: SNAPSHOT_TIME + 2 * 86400)
    with pytest.raises(UnknownModelError) as caught:
        catalog.model("moonshotai/Kimi-K-3")
    assert caught.value.model == "moonshotai/Kimi-K-3"
    assert caught.value.suggestions[0] == "moonshotai/Kimi-K3-TEE"
    message = str(caught.value)
    assert "Did you mean 'moonshotai/Kimi-K3-TEE' or" in message
    assert "is the snapshot of 2026-08-22 that ships with this library, 2 days old" in message
    assert "client.models()" in message


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("kimi", "moonshotai/Kimi-K2.6-TEE"),
        ("deepseek-v3.2", "deepseek-ai/DeepSeek-V3.2-TEE"),
        ("Qwen3-Embeding-8B", EMBEDDING),
        ("nvidia/Gemma-4-31B-IT-NVFP4", "google/gemma-4-31B-turbo-TEE"),
    ],
)
def test_suggestions_look_at_parts_of_names_and_at_roots(asked: str, first: str) -> None:
    """A part of a name, a name without its owner, a misspelt one and a root each lead somewhere."""
    with pytest.raises(UnknownModelError) as caught:
        Catalog.bundled().model(asked)
    assert caught.value.suggestions[0] == first
    assert len(set(caught.value.suggestions)) == len(caught.value.suggestions) <= 3


@pytest.mark.parametrize("asked", ["", "zz", "!" * 5000])
def test_a_name_like_no_other_gets_no_suggestion(asked: str) -> None:
    """The error makes nothing up."""
    with pytest.raises(UnknownModelError) as caught:
        Catalog.bundled().model(asked)
    assert caught.value.suggestions == ()
    assert "Did you mean" not in str(caught.value)


def test_a_key_given_for_a_name_is_not_repeated() -> None:
    """A key that landed in the wrong argument appears in no error."""
    key = "cpk_" + "0" * 32
    with pytest.raises(UnknownModelError) as caught:
        Catalog.bundled().model(key)
    assert key not in f"{caught.value} {caught.value.model}"


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0 minutes"), (60, "1 minute"), (3599, "59 minutes"), (7200, "2 hours"), (86400, "1 day"), (-5, "0 minutes")],
)
def test_repr_says_how_old_the_list_is(seconds: float, age: str) -> None:
    """The repr counts the models and says when they were fetched."""
    catalog = catalog_of(chat("a"), now=LATER + seconds)
    assert repr(catalog) == f"<Catalog of 1 model, which was fetched {age} ago>"


# ------------------------------------------------------------------------------------------ select


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
    chat("C", price_out=0.0, features=frozenset()),
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


# ------------------------------------------------------------------------------------------ live rows


def test_live_rows_decide_which_chat_models_exist() -> None:
    """A chat model that is no longer listed is gone, a new one is there, and embedding models stay."""
    old = Catalog.bundled()
    new = old.updated([{"id": "acme/new"}, {"id": "Qwen/Qwen3-32B-TEE"}], fetched_at=LATER)
    assert ids(new) == ["acme/new", "Qwen/Qwen3-32B-TEE", EMBEDDING]
    assert (new.source, new.fetched_at, new.snapshot_date) == ("live", LATER, "2026-08-22")
    assert old == Catalog.bundled()


def test_a_field_missing_from_a_live_row_is_unknown() -> None:
    """A price of last week is no price of today."""
    new = Catalog.bundled().updated([{"id": "Qwen/Qwen3-32B-TEE"}], fetched_at=LATER)
    info = new.model("Qwen/Qwen3-32B-TEE")
    assert (info.price_in, info.context_length, info.features, info.confidential) == (None,) * 4


def test_what_the_list_never_reports_is_kept() -> None:
    """Host, dimensions, kind, traits, tags and speeds outlive a refresh; being hot does not."""
    before = chat(
        "acme/e",
        kind="embedding",
        chute_id="1",
        host="https://e.example/v1",
        dimensions=8,
        hot=True,
        ttft=0.5,
        tps=9.0,
        tags=frozenset({"mine"}),
        traits=Traits(query_instruction="Q: {query}"),
    )
    (after,) = catalog_of(before).updated([{"id": "acme/e", "chute_id": "1", "tags": ["new"]}], fetched_at=LATER)
    assert after == dataclasses.replace(before, hot=None, tags=frozenset({"mine", "new"}))


def test_a_row_that_says_its_kind_is_believed() -> None:
    """What a row gives as output decides the kind over what was known before."""
    (after,) = catalog_of(chat("a", kind="other")).updated(
        [{"id": "a", "output_modalities": ["text"]}], fetched_at=LATER
    )
    assert after.kind == "chat"


def test_speeds_of_another_chute_are_not_kept() -> None:
    """A model that is served by a new chute has new machines, and its speed is unknown."""
    (after,) = catalog_of(chat("a", chute_id="1", ttft=0.5, tps=9.0)).updated(
        [{"id": "a", "chute_id": "2"}], fetched_at=LATER
    )
    assert (after.ttft, after.tps) == (None, None)


def test_malformed_live_rows_are_skipped_with_one_warning() -> None:
    """Rows that are no models are left out, and said to be; of two with one name the first counts."""
    rows: list[object] = [{"id": "a", "max_model_len": 5}, None, {"id": 3}, "b", {"id": "a"}]
    with pytest.warns(ChutesWarning, match="3 of 5 rows of the list of models could not be read") as caught:
        new = catalog_of(chat("old")).updated(rows, fetched_at=LATER)  # type: ignore[arg-type]
    assert len(caught) == 1
    assert [(info.id, info.context_length) for info in new] == [("a", 5)]


@pytest.mark.parametrize("rows", [[], [{"id": None}], {"object": "list", "data": []}])
def test_a_list_without_a_usable_row_changes_nothing(rows: object) -> None:
    """An empty or unreadable reply does not wipe the catalogue out."""
    catalog = Catalog.bundled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert catalog.updated(rows, fetched_at=LATER) is catalog  # type: ignore[arg-type]
    assert "no usable row" in str(caught[-1].message)
    assert {warning.category for warning in caught} == {ChutesWarning}


# ------------------------------------------------------------------------------------------ speeds and heat


def day(date: str, **facts: object) -> dict[str, object]:
    return {"chute_id": "1", "name": "[private]", "date": date, **facts}


def test_speeds_are_those_of_the_newest_measured_day() -> None:
    """Of a chute's days the newest counts in any order; one on which nothing was measured does not."""
    rows = [
        day("2026-08-20", average_ttft=9.0, average_tps=1.0),
        day("2026-08-22", average_ttft=0, average_tps=0),
        day("2026-08-21", average_ttft=0.5, average_tps=0),
        day("2026-08-19", average_ttft=8.0, average_tps=2.0),
    ]
    (info,) = catalog_of(chat("a", chute_id="1", tps=7.0)).with_stats(rows)
    assert (info.ttft, info.tps) == (0.5, None)


def test_speeds_are_matched_by_chute_or_else_by_name() -> None:
    """A model whose chute is unknown is matched by its name; one without statistics keeps what it had."""
    rows = [
        {"chute_id": "9", "name": "b", "date": "2026-08-22", "average_ttft": 1.5, "average_tps": 30},
        {"chute_id": None, "name": "a", "date": "2026-08-22", "average_ttft": 7.0, "average_tps": 70},
    ]
    catalog = catalog_of(chat("a", chute_id="1", ttft=0.1), chat("b"), chat("c")).with_stats(rows)
    assert [(info.ttft, info.tps) for info in catalog] == [(0.1, None), (1.5, 30.0), (None, None)]


@pytest.mark.parametrize(
    "row", [None, {}, {"chute_id": "1"}, {"date": "2026-08-22"}, day("2026-08-22") | {"date": 20260822}]
)
def test_statistics_that_cannot_be_read_are_skipped(row: Mapping[str, object]) -> None:
    """A row without a day or a chute is left out with a warning; a measure of the wrong type is none."""
    rows = [row, day("2026-08-21", average_ttft=0.5, average_tps="fast")]
    with pytest.warns(ChutesWarning, match="1 of 2 rows of the statistics"):
        (info,) = catalog_of(chat("a", chute_id="1")).with_stats(rows)
    assert (info.ttft, info.tps) == (0.5, None)


def test_heat_is_taken_from_the_chute_of_the_same_id() -> None:
    """Hot or cold is read by the chute's id, since anybody may give a chute any name."""
    rows: list[dict[str, object]] = [
        {"chute_id": "1", "name": "x", "hot": True},
        {"chute_id": "2", "name": "y", "hot": "yes"},
        {"chute_id": "3", "name": "c", "hot": False},
    ]
    catalog = catalog_of(chat("a", chute_id="1"), chat("b", chute_id="2", hot=False), chat("c"))
    assert [info.hot for info in catalog.with_chutes(rows)] == [True, False, None]


EMBEDDER: dict[str, object] = {
    "chute_id": "5",
    "name": "acme/Qwen3-Embedding-1B",
    "slug": "chutes-acme-embedding",
    "standard_template": "embedding",
    "user": {"username": "chutes"},
    "tee": True,
    "hot": True,
}


def test_a_new_embedding_model_of_the_service_is_added_with_its_host() -> None:
    """An official embedding chute becomes a model with its own host and its family's traits."""
    catalog = Catalog.bundled().with_chutes([EMBEDDER])
    info = catalog.model("acme/Qwen3-Embedding-1B")
    assert info.host == "https://chutes-acme-embedding.chutes.ai/v1"
    assert (info.kind, info.chute_id, info.confidential, info.hot) == ("embedding", "5", True, True)
    assert info.traits.query_instruction is not None
    assert len(catalog) == 16
    assert len(catalog.with_chutes([EMBEDDER])) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"user": {"username": "stranger"}},
        {"user": None},
        {"standard_template": "vllm"},
        {"slug": "evil.example/x"},
        {"slug": None},
        {"name": ""},
        {"name": EMBEDDING},
    ],
)
def test_no_other_chute_becomes_a_model(change: dict[str, object]) -> None:
    """Chutes of strangers, other templates, slugs that are no host name and known names add nothing."""
    catalog = Catalog.bundled()
    assert catalog.with_chutes([{**EMBEDDER, **change}]) == catalog


def test_chutes_that_cannot_be_read_are_skipped() -> None:
    """An item without an id is left out with a warning."""
    with pytest.warns(ChutesWarning, match="2 of 2 rows of the list of chutes"):
        catalog_of(chat("a")).with_chutes([{"hot": True}, 5])  # type: ignore[list-item]


def test_new_embedding_models_outlive_a_refresh() -> None:
    """An embedding model that was found stays when the list of chat models is fetched again."""
    catalog = Catalog.bundled().with_chutes([EMBEDDER]).updated([{"id": "a"}], fetched_at=LATER)
    assert ids(catalog) == ["a", EMBEDDING, "acme/Qwen3-Embedding-1B"]


# ------------------------------------------------------------------------------------------ age


@pytest.mark.parametrize(("age", "stale"), [(0, False), (3599, False), (3600, True), (86400, True), (-1, True)])
def test_a_list_is_stale_after_its_time(age: float, stale: bool) -> None:
    """A list is good for its time to live; one from the future has no known age, and is stale."""
    catalog = catalog_of(chat("a"), now=LATER + age)
    assert catalog.is_stale is stale
    assert dataclasses.replace(catalog, offline=True).is_stale is False


def test_time_to_live_and_clock_are_the_callers(tmp_path: Path) -> None:
    """A catalogue keeps the time to live and the clock it was loaded with."""
    catalog = Catalog.load(cache_dir=tmp_path, ttl=10, now=lambda: SNAPSHOT_TIME + 9)
    assert (catalog.ttl, catalog.is_stale) == (10, False)
    later = catalog.updated([{"id": "a"}], fetched_at=SNAPSHOT_TIME - 1)
    assert later.is_stale is True
    assert Catalog.load(cache_dir=tmp_path, ttl=0, offline=True).is_stale is False


# ------------------------------------------------------------------------------------------ the cache


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """A saved catalogue comes back as it was, from the cache, without which models were hot."""
    live = Catalog.bundled().updated([{"id": "acme/new", "max_model_len": 5}], fetched_at=LATER)
    warm = dataclasses.replace(live, models=tuple(dataclasses.replace(info, hot=True) for info in live))
    folder = tmp_path / "not" / "there" / "yet"
    assert warm.save(folder) == folder / "models.json"
    loaded = Catalog.load(cache_dir=folder)
    assert loaded.models == live.models
    assert (loaded.source, loaded.fetched_at) == ("cache", LATER)
    assert os.listdir(folder) == ["models.json"]


stored = st.builds(
    lambda name, window, price, features: chat(name, context_length=window, price_out=price, features=features),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    st.none() | st.integers(1, 10**7),
    st.none() | st.integers(0, 10**6).map(lambda cents: cents / 100),
    st.none() | st.frozensets(st.sampled_from(["tools", "reasoning"])),
)


@given(
    st.lists(stored, min_size=1, max_size=5, unique_by=lambda info: info.id),
    st.floats(SNAPSHOT_TIME + 1, SNAPSHOT_TIME * 2),
)
def test_any_catalogue_survives_the_cache(models: list[ModelInfo], fetched_at: float) -> None:
    """Whatever is known of a model is the same after a save and a load."""
    with tempfile.TemporaryDirectory() as folder:
        catalog_of(*models, fetched_at=fetched_at).save(folder)
        loaded = Catalog.load(cache_dir=folder)
    assert loaded.models[: len(models)] == tuple(models)
    assert ids(loaded.models[len(models) :]) == [EMBEDDING]
    assert loaded.fetched_at == fetched_at


def test_without_a_cache_the_snapshot_is_loaded(tmp_path: Path) -> None:
    """Where nothing was saved the snapshot is at hand, without a warning."""
    assert Catalog.load(cache_dir=tmp_path) == Catalog.bundled()


def test_a_cache_older_than_the_snapshot_is_not_used(tmp_path: Path) -> None:
    """A newer library's snapshot wins over a cache from before it."""
    catalog_of(chat("old"), fetched_at=SNAPSHOT_TIME - 1).save(tmp_path)
    assert Catalog.load(cache_dir=tmp_path).source == "bundled"


def test_a_stale_cache_is_loaded_and_says_so(tmp_path: Path) -> None:
    """An old list is better than none, and is marked for renewal."""
    catalog_of(chat("a")).save(tmp_path)
    loaded = Catalog.load(cache_dir=tmp_path, now=lambda: LATER + 7200)
    assert (loaded.source, loaded.is_stale) == ("cache", True)
    assert repr(loaded) == "<Catalog of 2 models, which was fetched 2 hours ago>"


def test_the_platforms_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder the cache is where the platform keeps such things, under the product's name."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    assert catalog_of(chat("a")).save() == tmp_path / "chutes-connect" / "models.json"
    assert Catalog.load().source == "cache"


GOOD = {"id": "a", "kind": "chat"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot be read"),
        (b'{"schema": 1, "fetched_at": 17', "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "not a catalogue"),
        (b"{}", "not a catalogue"),
        (json.dumps({"schema": 1, "models": [GOOD]}).encode(), "not a catalogue"),
        (json.dumps({"schema": 1, "fetched_at": True, "models": [GOOD]}).encode(), "not a catalogue"),
        (json.dumps({"schema": 1, "fetched_at": float("nan"), "models": [GOOD]}).encode(), "not a catalogue"),
        (json.dumps({"schema": 1, "fetched_at": 2e9, "models": {"a": GOOD}}).encode(), "not a catalogue"),
        (json.dumps({"schema": 1, "fetched_at": 2e9, "models": []}).encode(), "no model"),
    ],
)
def test_a_corrupt_cache_is_left_out_with_a_warning(tmp_path: Path, content: bytes, why: str) -> None:
    """A cache that is cut, binary, or of another shape costs a warning, and the snapshot serves."""
    catalog_cache.cache_file(tmp_path).write_bytes(content)
    with pytest.warns(ChutesWarning, match=why):
        catalog = Catalog.load(cache_dir=tmp_path)
    assert catalog == Catalog.bundled()


def test_a_malformed_row_of_the_cache_is_skipped(tmp_path: Path) -> None:
    """The good rows of a damaged cache are used, and the warning counts the others."""
    rows = [GOOD, None, {"kind": "chat"}, {"id": "b", "context_length": "many"}]
    content = {"schema": 1, "fetched_at": LATER, "models": rows}
    catalog_cache.cache_file(tmp_path).write_text(json.dumps(content))
    with pytest.warns(ChutesWarning, match="2 of 4 rows of the cache"):
        catalog = Catalog.load(cache_dir=tmp_path)
    assert ids(catalog) == ["a", "b", EMBEDDING]


def test_the_cache_of_another_version_is_passed_over_in_silence(tmp_path: Path) -> None:
    """Two versions that share a folder do not warn of each other for ever."""
    content = {"schema": catalog_cache.SCHEMA + 1, "something": "else"}
    catalog_cache.cache_file(tmp_path).write_text(json.dumps(content))
    assert Catalog.load(cache_dir=tmp_path) == Catalog.bundled()


def test_a_folder_in_the_files_place_is_a_warning(tmp_path: Path) -> None:
    """A cache that can be neither read nor written leaves the catalogue usable."""
    catalog_cache.cache_file(tmp_path).mkdir()
    with pytest.warns(ChutesWarning, match="cannot be read"):
        catalog = Catalog.load(cache_dir=tmp_path)
    with pytest.warns(ChutesWarning, match="cannot be cached at"):
        assert catalog.save(tmp_path) is None
    assert os.listdir(tmp_path) == ["models.json"], "no temporary file stays behind"


def test_a_folder_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    """A file in the way of the folder costs a warning."""
    (tmp_path / "file").write_text("")
    with pytest.warns(ChutesWarning, match="cannot be cached at"):
        assert catalog_of(chat("a")).save(tmp_path / "file" / "folder") is None


def test_a_failed_write_leaves_the_old_cache_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle costs the new cache, not the old one."""
    catalog_of(chat("old")).save(tmp_path)

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.warns(ChutesWarning, match="No space left on device"):
        assert catalog_of(chat("new")).save(tmp_path) is None
    assert ids(Catalog.load(cache_dir=tmp_path)) == ["old", EMBEDDING]
    assert os.listdir(tmp_path) == ["models.json"]


def test_readers_never_see_half_a_cache(tmp_path: Path) -> None:
    """While one thread saves again and again, another loads only whole catalogues."""
    small = catalog_of(chat("a"))
    large = catalog_of(*(chat(f"model-{number}") for number in range(300)))
    small.save(tmp_path)
    done = threading.Event()

    def write() -> None:
        for number in range(20):
            (small, large)[number % 2].save(tmp_path)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    sizes = set()
    while not done.is_set():
        sizes.add(len(Catalog.load(cache_dir=tmp_path)))
    writer.join()
    assert sizes <= {2, 301}


# ------------------------------------------------------------------------------------------ a value


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda catalog: pickle.loads(pickle.dumps(catalog))])
def test_a_catalogue_is_a_value(duplicate: object) -> None:
    """A copy equals the original and finds the same, and neither can be changed."""
    catalog = Catalog.bundled()
    twin = duplicate(catalog)  # type: ignore[operator]
    assert twin == catalog
    assert twin.get("qwen/qwen3-32b") == catalog.get("qwen/qwen3-32b") is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        twin.models = ()


# ------------------------------------------------------------------------------------------ the tool


def snapshot_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "snapshot_catalog.py", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def test_the_snapshot_is_made_from_a_reply(tmp_path: Path) -> None:
    """The tool takes listed models from a reply and keeps families and embedding models."""
    shipped = json.loads((ROOT / "chutes_core" / "data" / "catalog.json").read_text())
    reply, target = tmp_path / "reply.json", tmp_path / "catalog.json"
    reply.write_text(json.dumps({"data": [{"id": "b", "max_model_len": 7}, {"id": None}, {"id": "a"}]}))
    target.write_text(json.dumps(shipped))
    done = snapshot_tool(reply, "--date", "2026-09-01", "--target", target)
    assert (done.returncode, done.stdout) == (0, "catalog.json: 3 models of 2026-09-01\n")
    made = json.loads(target.read_text())
    assert [model["id"] for model in made["models"]] == ["b", "a", EMBEDDING]
    assert made == {**shipped, "snapshot_date": "2026-09-01", "models": made["models"]}


def test_the_tool_refuses_what_is_no_list(tmp_path: Path) -> None:
    """A reply that is an error leaves the snapshot as it is."""
    reply, target = tmp_path / "reply.json", tmp_path / "catalog.json"
    reply.write_text('{"detail": "slow down"}')
    target.write_text('{"models": []}')
    done = snapshot_tool(reply, "--target", target)
    assert done.returncode == 1
    assert "no list of models" in done.stderr
    assert target.read_text() == '{"models": []}'


def test_the_shipped_snapshot_is_as_the_tool_writes_it(tmp_path: Path) -> None:
    """The file in the package is in the tool's own form, so that the next difference is only of facts."""
    shipped = (ROOT / "chutes_core" / "data" / "catalog.json").read_text()
    target = tmp_path / "catalog.json"
    target.write_text(shipped)
    reply = tmp_path / "reply.json"
    reply.write_text(json.dumps({"data": [{"id": "a"}]}))
    assert snapshot_tool(reply, "--target", target).returncode == 0
    kept = [line for line in target.read_text().splitlines() if '"match"' in line or "mbedding" in line]
    assert kept == [line for line in shipped.splitlines() if '"match"' in line or "mbedding" in line]
