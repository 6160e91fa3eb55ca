"""``chutes-connect aliases``: names in, chute ids to the service, names out."""

from __future__ import annotations

import pytest

from chutes_cli.commands.aliases import Alias, body_of, parse_aliases
from chutes_cli.exits import Exit, Stop
from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import APIError, Kind, UnknownModelError
from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, NOWHERE, OTHER, Run

ONE, TWO = "ac059e33-eb27-541c-b9a9-24b214036475", "42ee92ba-a537-5a73-8741-876067750db7"


def test_an_alias_is_made_listed_used_and_deleted(run: Run, service: LocalChutes) -> None:
    """Models are given and shown by name; the gateway takes the alias as a model."""
    made = run("aliases", "create", "Fast", "qwen/qwen3-32b", OTHER)
    assert made.lines == ["alias  models, in order", f"fast   {MODEL}", f"       {OTHER}"]
    assert run("aliases").lines == made.lines
    assert run("chat", "fast", "Hello", "--json").json["model"] == MODEL
    assert run("aliases", "delete", "FAST").out == "Deleted fast.\n"
    assert run("aliases", "list").out == "No aliases.\n"


def test_json_has_names_and_ids(run: Run, service: LocalChutes) -> None:
    """--json gives both, so that a program needs no catalogue."""
    found = run("aliases", "create", "fast", "--json", MODEL, TWO).json
    (alias,) = found["aliases"]
    assert (alias["alias"], alias["models"], alias["chute_ids"]) == ("fast", [MODEL, OTHER], [ONE, TWO])
    assert run("aliases", "delete", "fast", "--json").json == {"action": "delete", "aliases": []}


def test_deleting_what_is_not_there(run: Run, service: LocalChutes) -> None:
    """An alias that does not exist is status 1."""
    ran = run("aliases", "delete", "none")
    assert (ran.status, ran.err) == (1, "error: There is no alias 'none'.\n")


@pytest.mark.parametrize(
    "words",
    [
        ["create"],
        ["create", "fast"],
        ["delete"],
        ["delete", "fast", MODEL],
        ["list", "fast"],
        ["make", "fast", MODEL],
        ["create", "a b", MODEL],
        ["create", "a:b", MODEL],
        ["create", "fast", "Qwen/Qwen3-33B"],
        ["create", "fast", *(f"ac059e33-eb27-541c-b9a9-24b2140364{n:02d}" for n in range(21))],
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(run: Run, service: LocalChutes, words: list[str]) -> None:
    """Words that do not go together, a name that is none: status 2; a model that does not exist: 8."""
    assert run("aliases", *words).status == (8 if "Qwen/Qwen3-33B" in words else 2)
    assert {entry.method for entry in service.journal.entries} <= {"GET"}  # a gateway of one's own says its chutes


def test_the_service_s_own_refusal_is_said(run: Run, service: LocalChutes) -> None:
    """A chute that does not exist is the service's to refuse."""
    ran = run("aliases", "create", "fast", "ac059e33-eb27-541c-b9a9-000000000000")
    assert ran.status == 2
    assert "chute not found: ac059e33-eb27-541c-b9a9-000000000000" in ran.err


def test_keys_and_hosts_fail_as_everywhere(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is status 4, a refused key or none is 3."""
    assert run("aliases", "--management-url", NOWHERE).status == 4
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_bad")
    assert run("aliases").status == 3
    monkeypatch.delenv("CHUTES_API_KEY")
    assert run("aliases").status == 3


def test_reading_what_the_service_lists() -> None:
    """Rows without a name are left out, and what is no list is a malformed reply."""
    rows = [{"alias": "a", "chute_ids": ["c1"], "updated_at": "t"}, {"alias": 7}, {"alias": "b", "chute_ids": None}]
    assert parse_aliases(rows) == [Alias("a", ("c1",), "t"), Alias("b", ())]
    with pytest.raises(APIError) as caught:
        parse_aliases("none")
    assert caught.value.kind is Kind.MALFORMED


def test_a_model_whose_id_is_not_known_needs_it() -> None:
    """A model that the catalogue has without its chute's id cannot be sent by name."""
    catalog = Catalog.bundled().updated([{"id": "acme/one"}], fetched_at=0.0)
    with pytest.raises(Stop, match="give the id itself"):
        body_of("a", ["acme/one"], catalog)


def test_doubles_count_once_and_unknown_ids_go_through() -> None:
    """The service takes each chute once; an id that no catalogue has is taken at its word."""
    catalog = Catalog.bundled()
    assert body_of("A", [MODEL, "Qwen/Qwen3-32B", ONE], catalog) == {"alias": "a", "chute_ids": [ONE]}
    with pytest.raises(UnknownModelError):
        body_of("a", ["nope"], catalog)
    with pytest.raises(Stop) as caught:
        body_of("a", [], catalog)
    assert caught.value.status is Exit.USAGE
