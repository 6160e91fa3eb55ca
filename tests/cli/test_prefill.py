"""What models make of the beginning of an answer: asked, told apart, and kept for the catalogue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chutes_cli.prefill import PROBES, Finding, Heard, Probe, findings_table, objection
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_local import LocalChutes, serve
from chutes_local.backends.choose import choose_backend
from chutes_local.backends.echo import EchoBackend
from tests.cli.conftest import EMBEDDER, MODEL, OTHER, Run

NUMBERS, LETTERS = PROBES
ANSWERS = {
    NUMBERS.question: ", ".join(map(str, range(41, 61))),
    LETTERS.question: ", ".join("klmnopqrstuvwxyz"),
}


@pytest.fixture(scope="module")
def reciting() -> Iterator[LocalChutes]:
    """A server whose models know both answers by heart, and say each digit by itself, as real ones do."""

    def script(request: Any) -> str:
        asked = [message["content"] for message in request.messages if message["role"] == "user"][-1]
        return ANSWERS.get(asked, "How may I help you today?")

    with pytest.MonkeyPatch.context() as patch, serve(backend=EchoBackend(script)) as server:
        patch.setattr("chutes_local.backends.echo._WORD", re.compile(r"\s?\w|\W"))
        yield server


@pytest.fixture
def service(reciting: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> LocalChutes:
    """The server as new, and the variables that lead to it."""
    reciting.reset()
    for name, value in reciting.env.items():
        monkeypatch.setenv(name, value)
    return reciting


def learnt(service: LocalChutes, folder: Path, model: str = MODEL) -> str | None:
    """What a catalogue that is loaded now says."""
    return Catalog.load(cache_dir=folder / "cache", base_url=service.base_url).model(model).traits.prefill


@pytest.mark.parametrize(
    ("way", "prefill", "why"),
    [
        ("honoured", "as_is", None),
        ("stripped", "as_is", None),
        ("in_think", "thinking_off", None),
        ("closed", "no", "it answered anew: '41, 42, 43'"),
        ("as_user", "no", "it answered anew: 'How may I h'"),
        ("echo", "no", "the beginning came back before its continuation"),
        ("crash", "no", "it fails when it is to continue (exhausted)"),
    ],
)
def test_every_way_of_a_model_is_told(
    run: Run, service: LocalChutes, tmp_path: Path, way: str, prefill: str, why: str | None
) -> None:
    """The verdict is what a call needs to know, with what happened otherwise; the catalogue has it from then on."""
    service.change(MODEL, prefill=way)
    ran = run("models", "check", "--prefill", MODEL, "--json")
    (row,) = ran.json["checked"]
    assert (ran.status, row["prefill"], row["why"]) == (0, prefill, why)
    assert (row["model"], row["engine"], row["version"]) == (MODEL, "sglang", "local")
    assert ran.json["kept"] == str(tmp_path / "cache" / "prefill.json")
    assert (learnt(service, tmp_path), learnt(service, tmp_path, OTHER)) == (prefill, None)


def test_a_model_that_cannot_stop_thinking_does_not_continue(run: Run, service: LocalChutes) -> None:
    """Where the switch changes nothing, the continuation stays reasoning."""
    service.change(MODEL, prefill="in_think", reasoning="reasoning_content")
    (row,) = run("models", "check", "--prefill", MODEL, "--json").json["checked"]
    assert (row["prefill"], row["why"]) == ("no", "the continuation came as reasoning")


def test_what_is_sent(run: Run, service: LocalChutes) -> None:
    """Two short streams at temperature 0, with the beginning last and both flags; nothing else for a good model."""
    run("models", "check", "--prefill", MODEL)
    bodies = [entry.body for entry in service.journal if entry.path.endswith("/chat/completions")]
    assert [body["messages"] for body in bodies] == [
        [{"role": "user", "content": probe.question}, {"role": "assistant", "content": probe.begun}] for probe in PROBES
    ]
    for body in bodies:
        assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
        assert (body["temperature"], body["max_tokens"], body["stream"]) == (0, 8, True)
        assert "chat_template_kwargs" not in body


def test_thinking_is_switched_off_in_both_spellings(run: Run, service: LocalChutes) -> None:
    """The second try says so under either name."""
    service.change(MODEL, prefill="in_think")
    run("models", "check", "--prefill", MODEL)
    bodies = [entry.body for entry in service.journal if entry.path.endswith("/chat/completions")]
    switches = [body.get("chat_template_kwargs") for body in bodies]
    assert switches == [None, *[{"enable_thinking": False, "thinking": False}] * 2]


def test_the_table_names_models_and_verdicts(run: Run, service: LocalChutes) -> None:
    """Without names every chat model that is not cold is asked, once, whatever it is called by."""
    service.change(OTHER, prefill="closed")
    service.change("zai-org/GLM-5.2-TEE", machines=0)
    ran = run("models", "check", "--prefill")
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in ran.lines[1:]}
    assert rows[MODEL] == "sglang honoured as is"
    assert rows[OTHER] == "sglang not honoured it answered anew: '41, 42, 43'"
    assert "zai-org/GLM-5.2-TEE" not in rows
    assert EMBEDDER not in rows
    good = sum(" not " not in row for row in rows.values())
    assert f"{good} of {len(rows)} models continue an answer" in ran.err
    named = run("models", "check", "--prefill", MODEL, MODEL.removesuffix("-TEE"), "--json").json
    assert len(named["checked"]) == 1


@pytest.mark.parametrize(("fault", "status"), [("capacity", 5), ("cold", 5), ("tee_balance", 6), ("exhausted", 5)])
def test_a_model_that_does_not_answer_is_not_measured(
    run: Run, service: LocalChutes, tmp_path: Path, fault: str, status: int
) -> None:
    """One that is busy, or fails without a beginning too, keeps what was known of it; the others are asked."""
    run("models", "check", "--prefill", MODEL)
    service.faults.add(MODEL, fault)
    ran = run("models", "check", "--prefill", MODEL, OTHER, "--json")
    first, second = ran.json["checked"]
    assert (ran.status, first["prefill"], second["prefill"]) == (status, None, "as_is")
    assert first["why"].startswith("it could not be asked: ")
    assert (learnt(service, tmp_path), learnt(service, tmp_path, OTHER)) == ("as_is", "as_is")


def test_an_account_that_cannot_ask_ends_it(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """No other model would answer; what was measured before is kept."""
    service.faults.add(OTHER, "quota")
    ran = run("models", "check", "--prefill", MODEL, OTHER, MODEL, "--json")
    assert (ran.status, ran.out) == (6, "")
    assert ran.error["kind"] == "payment"
    assert (learnt(service, tmp_path), learnt(service, tmp_path, OTHER)) == ("as_is", None)


def test_nothing_is_kept_of_nothing(run: Run, service: LocalChutes, tmp_path: Path) -> None:
    """Where no model could be measured there is no file."""
    service.faults.add("*", "capacity")
    ran = run("models", "check", "--prefill", MODEL)
    assert ran.err.splitlines()[-1] == "0 of 1 models continue an answer · nothing was kept"
    assert not (tmp_path / "cache" / "prefill.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check"], "Use `models check --prefill`"),
        (["qwen", "--prefill"], "Use `models check --prefill`"),
        (["qwen", "gemma"], "unrecognized arguments: gemma"),
        (["check", "--prefill", EMBEDDER], "not a chat model"),
        (["check", "--prefill", "Qwen/Qwen3-33B"], "Did you mean"),
    ],
)
def test_words_that_do_not_go_together(run: Run, service: LocalChutes, words: list[str], said: str) -> None:
    """Each is wrong usage, and nothing is asked."""
    ran = run("models", *words)
    assert (ran.status, ran.out) == (8 if said == "Did you mean" else 2, "")
    assert said in ran.err


@pytest.mark.parametrize(
    ("probe", "heard", "said"),
    [
        (NUMBERS, Heard("46"), ""),
        (NUMBERS, Heard("\n 46,47"), ""),
        (NUMBERS, Heard("461"), "it answered anew: '461'"),
        (LETTERS, Heard(" p, q", failure=failure(Kind.RESET)), ""),
        (LETTERS, Heard("p, q", thought=True), "the continuation came as reasoning"),
        (LETTERS, Heard("", failure=failure(Kind.EMPTY)), "nothing came"),
        (LETTERS, Heard(" "), "nothing came"),
        (LETTERS, Heard("", failure=failure(Kind.EXHAUSTED)), "it fails when it is to continue (exhausted)"),
    ],
)
def test_objections(probe: Probe, heard: Heard, said: str) -> None:
    """Only what was to follow, as a word of its own and as text, is a continuation."""
    assert objection(probe, heard) == said


def test_reasons_that_do_not_fit_are_lines(run: Run, service: LocalChutes) -> None:
    """A narrow terminal has the verdicts in its table and the reasons below."""
    service.change(MODEL, prefill="echo")
    ran = run("models", "check", "--prefill", MODEL, width=60)
    assert max(map(len, ran.lines)) <= 60
    assert f"{MODEL}: the beginning came back before its continuation" in ran.err
    table, reasons = findings_table([Finding(ModelInfo(id="acme/one"), "as_is")], 60)
    assert (len(table.columns), reasons) == (4, [])


def test_one_probe_passed_is_not_enough(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that goes on with numbers alone is one that guessed."""
    monkeypatch.setitem(ANSWERS, LETTERS.question, "Letters:")
    (row,) = run("models", "check", "--prefill", MODEL, "--json").json["checked"]
    assert (row["prefill"], row["why"]) == ("no", "it answered anew: 'Letters:'")


@pytest.mark.local
def test_the_small_model_continues(run: Run, tmp_path: Path) -> None:
    """The real model behind the embedded Chutes passes both questions, and neither with its turn closed."""
    if not choose_backend("auto").is_model:
        pytest.skip("no wheel of the engine for this machine")
    with serve(backend="auto") as server:
        for way, prefill in (("honoured", "as_is"), ("closed", "no"), ("as_user", "no"), ("in_think", "thinking_off")):
            server.change(MODEL, prefill=way)
            (row,) = run("models", "check", "--prefill", MODEL, "--json", env=server.env).json["checked"]
            assert row["prefill"] == prefill
    kept = json.loads((tmp_path / "cache" / "prefill.json").read_text())
    assert kept["gateways"][server.base_url][0]["prefill"] == "thinking_off"
