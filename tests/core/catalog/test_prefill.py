"""What was measured of models: kept beside the catalogue, for one gateway and one deployment."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo, Traits
from chutes_core.catalog.prefill import Measured, applied, measured_now, prefill_file, read, record
from chutes_core.errors import ChutesWarning

MODEL = "Qwen/Qwen3-32B-TEE"
OTHER = "google/gemma-4-31B-turbo-TEE"
ELSEWHERE = "http://127.0.0.1:9/v1"
LATER = 1787356800.0 + 10 * 86400


def listed(name: str = MODEL) -> ModelInfo:
    return Catalog.bundled().model(name)


def prefill(catalog: Catalog, name: str = MODEL) -> str | None:
    return catalog.model(name).traits.prefill


def test_what_was_measured_is_a_trait(tmp_path: Path) -> None:
    """After a record the catalogue has the result, and of the other models nothing."""
    assert prefill(Catalog.load(cache_dir=tmp_path)) is None
    kept = record([measured_now(listed(), "thinking_off", now=5.0)], tmp_path)
    assert kept == prefill_file(tmp_path) == tmp_path / "prefill.json"
    catalog = Catalog.load(cache_dir=tmp_path)
    assert (prefill(catalog), prefill(catalog, OTHER)) == ("thinking_off", None)
    assert catalog.model(MODEL).traits.thinking_default is True
    assert os.listdir(tmp_path) == ["prefill.json"]


def test_the_newest_measurement_of_a_model_counts(tmp_path: Path) -> None:
    """It takes the place of the one before, and those of other models stay."""
    record(
        [measured_now(listed(), "no", "the text came back", now=1.0), measured_now(listed(OTHER), "as_is")], tmp_path
    )
    assert read(tmp_path)[0].why == "the text came back"
    record([measured_now(listed(), "as_is", now=2.0)], tmp_path)
    assert [(each.model, each.prefill) for each in read(tmp_path)] == [(MODEL, "as_is"), (OTHER, "as_is")]
    assert (read(tmp_path)[0].why, read(tmp_path)[0].measured_at) == ("", 2.0)


def test_gateways_are_kept_apart(tmp_path: Path) -> None:
    """What another gateway's models do says nothing of the service's."""
    record([measured_now(listed(), "as_is")], tmp_path, base_url=ELSEWHERE)
    record([measured_now(listed(OTHER), "no")], tmp_path)
    assert prefill(Catalog.load(cache_dir=tmp_path)) is None
    there = Catalog.load(cache_dir=tmp_path, base_url=f"{ELSEWHERE}/")
    assert (prefill(there), prefill(there, OTHER)) == ("as_is", None)


@pytest.mark.parametrize("changed", [{"engine": "vllm"}, {"chute_id": "other"}, {"version": "2"}])
def test_another_deployment_is_unknown_again(changed: dict[str, str]) -> None:
    """A result holds for the engine, the chute and the version it was measured on."""
    info = replace(listed(), version="1", engine="sglang")
    found = measured_now(info, "as_is")
    assert applied((info,), (found,))[0].traits.prefill == "as_is"
    now = replace(info, **changed, traits=replace(info.traits, prefill="as_is"))  # type: ignore[arg-type]
    assert found.holds_for(now) is False
    assert applied((now,), (found,))[0].traits.prefill is None


def test_what_is_unknown_of_a_deployment_counts_as_unchanged() -> None:
    """A list that does not name the version leaves the result valid."""
    found = measured_now(replace(listed(), version="1"), "as_is")
    assert found.holds_for(listed())
    assert Measured(model=MODEL, prefill="no", measured_at=0).holds_for(replace(listed(), version="2"))


def test_a_list_from_the_service_keeps_it_while_the_deployment_is_the_same(tmp_path: Path) -> None:
    """New rows, a new version and models that are new in the list are held against what was measured."""
    new = ModelInfo(id="acme/new", chute_id="c2")
    chute = {"chute_id": "c1", "version": "1", "hot": True}
    record([measured_now(ModelInfo(id="acme/one", chute_id="c1", version="1"), "as_is")], tmp_path)
    record([measured_now(new, "no")], tmp_path)
    rows = [{"id": "acme/one", "chute_id": "c1"}, {"id": "acme/new", "chute_id": "c2"}]
    catalog = Catalog.load(cache_dir=tmp_path).updated(rows, fetched_at=LATER).with_chutes([chute])
    assert (prefill(catalog, "acme/one"), prefill(catalog, "acme/new")) == ("as_is", "no")
    assert prefill(catalog.with_chutes([{**chute, "version": "2"}]), "acme/one") is None
    moved = catalog.updated([{"id": "acme/one", "chute_id": "c9"}], fetched_at=LATER)
    assert prefill(moved, "acme/one") is None


def test_the_cached_list_does_not_repeat_it(tmp_path: Path) -> None:
    """A saved catalogue has the version and not the result, which would outlive the deployment there."""
    record([measured_now(ModelInfo(id="acme/one", version="1"), "as_is")], tmp_path)
    catalog = Catalog.load(cache_dir=tmp_path).updated([{"id": "acme/one", "chute_id": "c1"}], fetched_at=LATER)
    catalog = catalog.with_chutes([{"chute_id": "c1", "version": "1"}])
    catalog.save(tmp_path)
    assert prefill(Catalog.load(cache_dir=tmp_path), "acme/one") == "as_is"
    prefill_file(tmp_path).unlink()
    loaded = Catalog.load(cache_dir=tmp_path)
    assert (prefill(loaded, "acme/one"), loaded.model("acme/one").version) == (None, "1")


def test_traits_that_were_given_by_hand_stay() -> None:
    """A catalogue of a program's own keeps its traits when a list arrives."""
    own = replace(Catalog.bundled(), models=(ModelInfo(id="acme/one", traits=Traits(prefill="as_is")),))
    assert prefill(own.updated([{"id": "acme/one"}], fetched_at=LATER), "acme/one") == "as_is"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b'{"schema": 1, "gateways": []}'])
def test_a_corrupt_file_is_left_out_with_a_warning_and_replaced(tmp_path: Path, content: bytes) -> None:
    """It costs a warning; the next record is whole again."""
    prefill_file(tmp_path).write_bytes(content)
    with pytest.warns(ChutesWarning, match="is ignored"):
        assert Catalog.load(cache_dir=tmp_path) == Catalog.bundled()
    with pytest.warns(ChutesWarning, match="is ignored"):
        record([measured_now(listed(), "as_is")], tmp_path)
    assert prefill(Catalog.load(cache_dir=tmp_path)) == "as_is"


def test_rows_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    """The good ones count; a file of another version is passed over in silence."""
    good = {"model": MODEL, "prefill": "as_is", "measured_at": 1.0, "why": 3, "version": 7}
    rows = [None, {}, {**good, "prefill": "maybe"}, {**good, "measured_at": "now"}, {**good, "model": " "}, good]
    text = {"schema": 1, "gateways": {ELSEWHERE: rows, "other": {}}}
    prefill_file(tmp_path).write_text(json.dumps(text))
    assert read(tmp_path, base_url=ELSEWHERE) == (Measured(model=MODEL, prefill="as_is", measured_at=1.0),)
    assert read(tmp_path, base_url="other") == ()
    prefill_file(tmp_path).write_text(json.dumps({"schema": 2, "gateways": 5}))
    assert read(tmp_path) == ()


def test_a_record_that_cannot_be_kept_is_a_warning(tmp_path: Path) -> None:
    """A file in the way of the folder costs a warning, and no file stays behind."""
    (tmp_path / "file").write_text("")
    with pytest.warns(ChutesWarning) as told:
        assert record([measured_now(listed(), "as_is")], tmp_path / "file" / "folder") is None
    assert "cannot be kept at" in str(told[-1].message)
