"""``chutes-connect models set``: the default model, checked, kept, shown and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chutes_core.default_model import kept_in
from chutes_local import LocalChutes
from tests.cli.conftest import EMBEDDER, MODEL, NOWHERE, OTHER, Run


def kept() -> object:
    return json.loads(kept_in().read_text())["models"] if kept_in().exists() else None


@pytest.mark.parametrize("words", [[f"{MODEL},{OTHER}"], [MODEL, OTHER], [f"{MODEL},", f"{OTHER},{MODEL}"]])
def test_a_model_and_its_fallbacks_are_stored(run: Run, service: LocalChutes, words: list[str]) -> None:
    """In either spelling, in order, each once; where it is stored is said."""
    ran = run("models", "set", *words)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"The default model is {MODEL}, then {OTHER}.\nIt is stored in {kept_in()}.\n"
    assert kept() == f"{MODEL},{OTHER}"
    assert run("models", "set").out == f"The default model is {MODEL}, then {OTHER}, stored in {kept_in()}.\n"


def test_a_name_is_stored_as_the_list_writes_it(run: Run, service: LocalChutes) -> None:
    """A name without its ending is completed, and a suffix for thinking stays."""
    run("models", "set", "qwen/qwen3-32b:THINKING")
    assert kept() == f"{MODEL}:THINKING"


def test_a_name_that_nothing_has_is_refused_with_the_nearest(run: Run, service: LocalChutes) -> None:
    """An unknown name and a model of another kind change nothing."""
    run("models", "set", MODEL)
    ran = run("models", "set", f"{OTHER},Qwen/Qwen3-33B")
    assert (ran.status, ran.out) == (8, "")
    assert f"Did you mean '{MODEL}'" in ran.err
    assert run("models", "set", EMBEDDER).err == (
        f"error: {EMBEDDER} is not a chat model, which the default model is.\n"
    )
    assert run("models", "set", ",").status == 2
    assert kept() == MODEL


def test_an_alias_of_the_account_is_a_model_too(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the list does not know is looked for among the aliases; without a key there are none."""
    run("aliases", "create", "fast", MODEL)
    assert run("models", "set", "fast").status == 0
    assert "ok   model       fast, stored in " in run("doctor", "--no-call").out
    monkeypatch.delenv("CHUTES_API_KEY")
    assert run("models", "set", "fast").status == 8
    assert kept() == "fast"


@pytest.mark.parametrize("words", [["unset"], ["set", "--clear"]], ids=" ".join)
def test_the_stored_one_can_be_forgotten(run: Run, service: LocalChutes, words: list[str]) -> None:
    """Twice does no harm."""
    run("models", "set", MODEL)
    assert run("models", *words).out == "The stored default model is deleted.\n"
    assert run("models", *words).out == "There was no stored default model.\n"
    ran = run("models", "set")
    assert (ran.status, kept()) == (1, None)
    assert "set CHUTES_MODEL, or use `chutes-connect models set MODEL`" in ran.out


def test_the_variable_that_wins_is_mentioned(run: Run, service: LocalChutes) -> None:
    """Who stores another model than that of the variable is told which one is asked."""
    ran = run("models", "set", MODEL, env={"CHUTES_MODEL": OTHER})
    assert (kept(), ran.err) == (MODEL, f"CHUTES_MODEL is set, and wins: {OTHER}.\n")
    told = run("models", "set", "--json", env={"CHUTES_MODEL": OTHER}).json
    assert told == {"models": [OTHER], "source": "CHUTES_MODEL", "kept": str(kept_in())}
    assert run("models", "unset", "--json").json == {"models": [], "source": None, "kept": None}


def test_offline_the_cached_list_is_asked(run: Run, service: LocalChutes) -> None:
    """Where nothing answers, nothing is stored, except with --offline."""
    away = ("--base-url", f"{NOWHERE}/v1", "--management-url", NOWHERE)
    assert (run("models", "set", MODEL, *away).status, kept()) == (4, None)
    assert (run("models", "set", MODEL, "--offline", *away).status, kept()) == (0, MODEL)


@pytest.mark.parametrize("words", [["unset", MODEL], ["set", MODEL, "--clear"], ["qwen", "--clear"], ["st", MODEL]])
def test_words_that_do_not_go_together_are_refused(run: Run, words: list[str]) -> None:
    """With status 2, and nothing is stored."""
    assert (run("models", *words).status, kept()) == (2, None)


def test_a_folder_that_cannot_be_written_is_said(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """In one line, with its path."""
    (tmp_path / "file").write_text("")
    ran = run("models", "set", MODEL, env={"CHUTES_CONFIG_DIR": str(tmp_path / "file")})
    assert ran.status == 1
    assert ran.err.startswith(f"error: {tmp_path / 'file'}: ")


def test_doctor_says_where_the_default_comes_from_and_asks_it(run: Run, service: LocalChutes) -> None:
    """Its call is to the default model; one that nothing has is a warning, a damaged file a failure."""
    assert "skip model       no default model is set" in run("doctor", "--no-call").out
    run("models", "set", MODEL)
    found = {each["check"]: each for each in run("doctor", "--json").json["checks"]}
    assert (found["model"]["state"], found["model"]["source"]) == ("ok", str(kept_in()))
    assert found["call"]["model"] == MODEL
    ran = run("doctor", "--no-call", env={"CHUTES_MODEL": f"{OTHER},acme/none"})
    assert f"warn model       {OTHER}, then acme/none, from CHUTES_MODEL\n" in ran.out
    kept_in().write_text("{")
    assert "fail model       the default model cannot be read\n" in run("doctor", "--no-call").out
