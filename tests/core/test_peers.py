"""The table of other packages' arguments, and what reads it."""

from __future__ import annotations

import pytest

from chutes_core import ConfigurationError
from chutes_core.peers import CALLS, FIELDS, PEERS, Word, known_arguments, with_parameters

FIELDS_OF_ONE = ["model", "seed", "stop"]
TABLE = {
    "model_name": Word("model"),
    "verbose_answer": Word(free=(False, 2), say="Say so in the prompt."),
    "seed": Word("stop"),
}


@pytest.mark.parametrize("table", [CALLS, *FIELDS.values()], ids=["calls", *FIELDS])
def test_every_row_decides(table: dict[str, Word]) -> None:
    """Each row has a name here, or says what to do, in whole sentences without a gap."""
    for name, word in table.items():
        assert bool(word.to) != bool(word.say), name
        assert word.say == "" or (word.say[0].isupper() and word.say[-1] in "."), name
        assert "{" not in word.to + word.say.replace("{'", ""), name


def test_what_takes_a_classs_place_is_named() -> None:
    """By framework."""
    assert {(peer.ours, peer.home) for peer in PEERS} == {
        ("ChatChutes", "langchain_chutes"),
        ("Chutes", "llama_index_chutes"),
    }


def test_names_values_and_fields() -> None:
    """Another name is read, what changes nothing is dropped, and a field of one's own goes before the table."""
    given = {"model_name": "acme/one", "verbose_answer": False, "seed": 4}
    assert known_arguments("It", given, FIELDS_OF_ONE, TABLE) == {"model": "acme/one", "seed": 4}


@pytest.mark.parametrize("value", [True, 0, 2.0, "x", [], object()], ids=lambda value: type(value).__name__)
def test_a_value_that_is_no_wish_of_here_is_refused(value: object) -> None:
    """It is compared by type too, and the sentence of the table goes before any guess."""
    with pytest.raises(ConfigurationError, match=r"^It has no argument 'verbose_answer'\. Say so in the prompt\.$"):
        known_arguments("It", {"verbose_answer": value}, [*FIELDS_OF_ONE, "verbose_answers"], TABLE)


def test_none() -> None:
    """It is no wish for what has no field, and the default of a field that has no place for it."""
    given = {"verbose_answer": None, "seed": None, "stop": None}
    assert known_arguments("It", given, FIELDS_OF_ONE, TABLE, unset=["seed"]) == {"stop": None}


def test_twice() -> None:
    """A name and its other name."""
    with pytest.raises(ConfigurationError, match="given 'model' twice"):
        known_arguments("It", {"model": "a", "model_name": "b"}, FIELDS_OF_ONE, TABLE)


@pytest.mark.parametrize(
    ("name", "words"),
    [("modle_name", "Did you mean 'model_name'\\? Look it up\\.$"), ("zzz", "'zzz'\\. Look it up\\.$")],
)
def test_the_table_is_silent(name: str, words: str) -> None:
    """Then the nearest name is, if there is one, and general advice."""
    with pytest.raises(ConfigurationError, match=words):
        known_arguments("It", {name: 1}, FIELDS_OF_ONE, TABLE, advice="Look it up.")


def test_parameters_without_a_field() -> None:
    """They join the others, and are passed once."""
    given = {"model": "a", "min_tokens": 3, "more": {"seed": 1}}
    assert with_parameters(given, {"min_tokens", "seed"}, "more") == {
        "model": "a",
        "more": {"seed": 1, "min_tokens": 3},
    }
    assert with_parameters({"model": "a"}, {"seed"}, "more") == {"model": "a"}
    with pytest.raises(ConfigurationError, match="pass it once, by itself or in more"):
        with_parameters({"seed": 2, "more": {"seed": 1}}, {"seed"}, "more")
