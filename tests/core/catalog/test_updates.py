"""What the service lists, measures and heats changes the catalogue, and nothing it sends makes it fail."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import pytest

from chutes_core.catalog.catalog import Catalog, Traits
from chutes_core.errors import ChutesWarning

from .catalogs import EMBEDDING, LATER, catalog_of, chat, ids

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
        {"user": None},
        {"standard_template": "vllm"},
        {"slug": "evil.example/x"},
        {"slug": None},
        {"name": ""},
        {"name": EMBEDDING},
    ],
)
def test_no_other_chute_becomes_a_model(change: dict[str, object]) -> None:
    """Chutes of nobody, for chat, with slugs that are no host name and with known names add nothing."""
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


PAINTER: dict[str, object] = {
    "chute_id": "6",
    "name": "FLUX.1-schnell",
    "slug": "chutes-flux-1-schnell",
    "standard_template": "diffusion",
    "user": {"username": "chutes"},
    "cords": [{"public_api_path": "/generate", "output_content_type": "image/jpeg"}],
    "version": "v1",
    "hot": False,
}


def test_a_public_chute_of_any_kind_is_added_as_what_it_is() -> None:
    """Kind, host, paths, publisher and template are kept; nothing else is made up."""
    (info,) = catalog_of().with_chutes([PAINTER]).select(kind="image")
    assert info.to_dict() == {
        "id": "FLUX.1-schnell",
        "kind": "image",
        "owner": "chutes",
        "user": "chutes",
        "chute_id": "6",
        "version": "v1",
        "host": "https://chutes-flux-1-schnell.chutes.ai",
        "paths": ["/generate"],
        "hot": False,
        "tags": ["diffusion"],
    }


def test_no_chute_is_ever_chosen_for_chat_that_the_list_of_models_lacks() -> None:
    """What is added from the list of chutes is of another kind, whatever it says of itself."""
    rows = [
        {**PAINTER, "chute_id": str(number), "name": f"x/{number}", "standard_template": template, "cords": cords}
        for number, (template, cords) in enumerate(
            [("vllm", None), (None, [{"public_api_path": "/v1/chat/completions"}]), (None, None), ("chat", 5)]
        )
    ]
    catalog = catalog_of(chat("a")).with_chutes(rows)
    assert ids(catalog.select()) == ["a"]
    assert ids(catalog.select(kind="other")) == ["x/2", "x/3"]


def test_what_a_whole_list_lacks_is_removed() -> None:
    """A chute that is gone goes; from part of a list, or an empty one, nothing follows."""
    catalog = catalog_of(chat("a", chute_id="1")).with_chutes([PAINTER])
    assert ids(catalog.with_chutes([EMBEDDER])) == ["a", "FLUX.1-schnell", "acme/Qwen3-Embedding-1B"]
    assert ids(catalog.with_chutes([EMBEDDER], whole=True)) == ["a", "acme/Qwen3-Embedding-1B"]
    assert ids(catalog.with_chutes([], whole=True)) == ["a", "FLUX.1-schnell"]


def test_a_strangers_name_never_stands_for_a_model_of_the_service() -> None:
    """A name still means Chutes' own chute where a stranger's has that name without the suffix, or the same one."""
    stranger = {"username": "stranger"}
    rows = [
        {**EMBEDDER, "chute_id": "7", "name": EMBEDDING.removesuffix("-TEE"), "user": stranger},
        {**EMBEDDER, "chute_id": "8", "name": "stranger/painter", "user": stranger},
    ]
    catalog = Catalog.bundled().with_chutes(rows)
    assert catalog.model(EMBEDDING.removesuffix("-TEE")).id == EMBEDDING
    assert catalog.model("7").user == "stranger"
    assert catalog.model("stranger/painter").user == "stranger"
    twice = catalog.with_chutes([{**PAINTER, "chute_id": "9", "user": stranger}, PAINTER])
    assert twice.model("FLUX.1-schnell").chute_id == "6"


def test_a_refresh_of_the_chat_models_keeps_the_other_kinds() -> None:
    """They are saved, and still there when the list of chat models is fetched again."""
    catalog = catalog_of(chat("a")).with_chutes([PAINTER]).updated([{"id": "b"}], fetched_at=LATER)
    assert ids(catalog) == ["b", "FLUX.1-schnell"]
