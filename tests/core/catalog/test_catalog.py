"""The catalogue: what ships with it, what it finds, how old it is, and that it is a value."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import UnknownModelError

from .catalogs import EMBEDDING, LATER, SNAPSHOT_TIME, catalog_of, chat

ROOT = Path(__file__).resolve().parents[3]


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


def test_elsewhere_what_models_can_do_stays_and_what_the_service_does_with_them_does_not() -> None:
    """Another gateway has its own prices, chutes and machines; its list says which, and it is then listed."""
    name, known, there = "Qwen/Qwen3-32B-TEE", Catalog.bundled(), Catalog.load(base_url="http://127.0.0.1:9/v1")
    assert not there.listed
    for info, same in zip(there, known, strict=True):
        assert (info.id, info.context_length, info.features, info.traits) == (
            (same.id, same.context_length, same.features, same.traits)
        )
        its_own = (info.price_in, info.price_out, info.price_cached, info.chute_id, info.version, info.hot)
        assert (*its_own, info.ttft, info.tps) == (None,) * 8
    assert known.listed
    rows = [{"id": name, "chute_id": "b" * 8, "pricing": {"prompt": 7, "completion": 9}}]
    asked = there.updated(rows, fetched_at=1.0)
    assert asked.listed
    assert (asked.model(name).price_in, asked.model(name).context_length) == (7.0, None)
