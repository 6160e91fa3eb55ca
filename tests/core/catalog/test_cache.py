"""The catalogue on disk: whole or not at all, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog import cache as catalog_cache
from chutes_core.catalog.catalog import Catalog, ModelInfo
from chutes_core.errors import ChutesWarning

from .catalogs import EMBEDDING, LATER, SNAPSHOT_TIME, catalog_of, chat, ids


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
