"""``chutes-connect init``: a key, a model, a call and the code, asked for or told beforehand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from chutes_cli.commands.init import code
from chutes_core.default_model import kept_in
from chutes_core.login.store import LoginStore
from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, OTHER, SAID, Run
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent.parent


def test_with_a_key_at_hand_nothing_need_be_asked(run: Run, service: LocalChutes) -> None:
    """--yes takes the key that is there and proposes a model; again, it changes nothing."""
    ran = run("init", "--yes", width=80)
    assert (ran.status, ran.err) == (0, "")
    assert ran.lines[0] == "key    from CHUTES_API_KEY"
    assert ran.lines[1].startswith("model  deepseek-ai/DeepSeek-V4-Flash-0731-TEE, stored in ")
    assert ran.lines[2].startswith("call   deepseek-ai/DeepSeek-V4-Flash-0731-TEE · 2 in + 12 out tokens")
    assert all(len(line) <= 80 for line in ran.lines[2:])
    before = kept_in().stat().st_mtime_ns
    assert run("init", "--yes", width=80).lines[:2] == ran.lines[:2]
    assert kept_in().stat().st_mtime_ns == before


def test_answers_as_options(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from standard input is stored and found again; a list of models is a fallback in the code."""
    monkeypatch.delenv("CHUTES_API_KEY")
    words = ("init", "--auth-choice", "apikey", "--yes")
    assert run(*words).status == 3
    ran = run(*words, "--api-key-stdin", "--model", f"{MODEL},{OTHER}", "--json", stdin=f"{service.api_key}\n")
    assert (ran.status, ran.json["models"], ran.json["call"]["state"]) == (0, [MODEL, OTHER], "ok")
    assert "ChutesFallback()" in ran.json["code"]["With LangChain:"]
    assert service.api_key not in ran.out + ran.err
    login = LoginStore(service.management_url).load()
    assert login is not None
    assert login.access.get_secret_value() == service.api_key
    assert run("init", "--yes").status == run(*words).status == 0
    assert run("init", "--api-key-stdin", "--yes", stdin="cpk_a b\n").status == 2
    assert LoginStore(service.management_url).load() == login


def test_numbers_answer_where_there_is_no_terminal(run: Run, service: LocalChutes) -> None:
    """What is stored is proposed the next time."""
    assert run("init", "--no-call", stdin="3\n").status == 0
    ran = run("init", "--no-call", stdin="\n")
    assert f"model  {MODEL}, stored in " in ran.out
    assert "Number [3]: " in ran.err
    assert run("init").status == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--yes"], 3, "say --auth-choice apikey, login, env or local"),
        (["--json"], 3, "say --auth-choice"),
        (["--yes", "--auth-choice", "env"], 3, "CHUTES_API_KEY is not set"),
        (["--yes", "--auth-choice", "login"], 3, "No login is stored"),
        (["--auth-choice", "apikye"], 2, "Did you mean apikey?"),
        (["--yes", "--api-key", "cpk_fake"], 2, "visible in the process list"),
    ],
    ids=["nothing", "json", "env", "login", "a typo", "a key"],
)
def test_what_is_missing_is_said(
    run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch, words: list[str], status: int, said: str
) -> None:
    """In a line, and nothing is stored."""
    monkeypatch.delenv("CHUTES_API_KEY")
    ran = run("init", *words)
    assert (ran.status, kept_in().exists()) == (status, False)
    assert said in ran.err


def test_a_wrong_model_and_a_failed_call_have_their_statuses(run: Run, service: LocalChutes) -> None:
    """A name that nothing has is not stored; a call that fails is the end, after what was chosen was kept."""
    assert (run("init", "--yes", "--model", "Qwen/Qwen3-33B").status, kept_in().exists()) == (8, False)
    service.faults.parse(f"{MODEL}=quota")
    assert (run("init", "--yes", "--model", MODEL).status, kept_in().exists()) == (6, True)


def test_a_key_that_is_rejected(run: Run, service: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """How to store another is said instead of code, and that asks for one although one is stored."""
    monkeypatch.delenv("CHUTES_API_KEY")
    words = ("init", "--yes", "--model", MODEL)
    for ran in (run(*words, "--api-key-stdin", stdin="cpk_bad\n"), run(*words)):
        assert (ran.status, len(ran.lines)) == (3, 3)
        assert f"call   {MODEL} did not answer. The key was rejected" in ran.out
        assert ran.out.endswith(" `chutes-connect init --auth-choice apikey` stores another key.\n")
    assert run("init", "--auth-choice", "apikey", "--model", MODEL, stdin=f"{service.api_key}\n1\n").status == 0


def test_the_variable_that_wins_is_mentioned(run: Run, service: LocalChutes) -> None:
    """Who chooses another model than that of the variable is told which one is asked."""
    ran = run("init", "--yes", "--no-call", "--model", MODEL, env={"CHUTES_MODEL": OTHER})
    assert "; but CHUTES_MODEL is set, and wins\n" in ran.out


def test_without_a_key_the_embedded_chutes_is_set_up(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked, nothing is stored, and how to run a program against it is said."""
    monkeypatch.setattr("chutes_local.server.serve", lambda: LocalChutes(backend="echo").start())
    before = dict(os.environ)
    ran = run("init", "--auth-choice", "local", "--yes", "--model", MODEL)
    assert ran.status == 0
    assert f"call   {MODEL} · " in ran.out
    assert "chutes-connect local -- python app.py" in ran.out
    assert (kept_in().exists(), dict(os.environ)) == (False, before)


@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_the_code_runs(
    several: bool, service: LocalChutes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block prints an answer of the default model."""
    monkeypatch.setenv("CHUTES_MODEL", f"{MODEL},{OTHER}")
    for block in code(several=several).values():
        assert len(block.splitlines()) <= 5
        exec(block, {})
        assert capsys.readouterr().out.strip() == f"{SAID}Why is the sky blue?"


def test_arrows_choose_the_model(service: LocalChutes, tmp_path: Path) -> None:
    """On a terminal the list of models is a menu, and the chosen one is stored and asked."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "XDG_CACHE_HOME": str(tmp_path), "NO_COLOR": "1"}
    with Terminal([sys.executable, "-m", "chutes_cli", "init"], env) as terminal:
        terminal.until(" of 10\n")
        terminal.type("\x1b[B\r")
        terminal.until(f"model  {OTHER}, stored in ")
        terminal.until(f"call   {OTHER} · ")
        assert terminal.end() == 0
    assert OTHER in kept_in().read_text()
