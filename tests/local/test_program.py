"""A program against a server of its own, and the variables of one that runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import chutes_local
from chutes_local.__main__ import main
from chutes_local.program import exports, for_program
from tests.terminal import Terminal

ROOT = Path(chutes_local.__file__).parent.parent
HERE = [sys.executable, "-m", "chutes_local", "--backend", "echo", "--"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}
ASKS = """\
import json, os, sys, urllib.request
body = json.dumps({"model": os.environ["CHUTES_MODEL"], "messages": [{"role": "user", "content": sys.stdin.read()}]})
headers = {"Authorization": "Bearer " + os.environ["CHUTES_API_KEY"], "Content-Type": "application/json"}
url = os.environ["CHUTES_BASE_URL"] + "/chat/completions"
with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as reply:
    print(json.loads(reply.read())["choices"][0]["message"]["content"])
print(os.environ["CHUTES_BASE_URL"], os.environ.get("CHUTES_OAUTH_TOKEN"))
sys.exit(7)
"""
SIGNALLED = """\
import signal, sys
count = 0
def take(number, frame):
    global count
    count += 1
    print("got", signal.Signals(number).name, count, flush=True)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), take)
print("ready", flush=True)
sys.stdin.readline()
sys.exit(41 + count)
"""


def test_a_program_runs_against_a_server_of_its_own() -> None:
    """Its streams and its status are its own, a token of the user's does not travel, and the server ends with it."""
    env = {**ENV, "CHUTES_OAUTH_TOKEN": "cak_fake"}
    done = subprocess.run([*HERE, sys.executable, "-c", ASKS], input="Hello?", capture_output=True, text=True, env=env)
    answer, told = done.stdout.splitlines()
    assert (done.returncode, answer) == (7, "This is the echo backend, not a model. You said: Hello?")
    assert done.stderr == "python -m chutes_local: this is the embedded Chutes on echo (not a model)\n"
    url, token = told.split()
    assert token == "None"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["there/is/none"], 127, "error: there/is/none: No such file or directory\n"),
        ([str(ROOT)], 126, f"error: {ROOT}: Permission denied\n"),
        ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], 137, ""),
    ],
    ids=["no program", "a folder", "killed"],
)
def test_the_status_is_that_of_a_shell(
    words: list[str], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program that cannot be run, and one that a signal ended, have the statuses that a shell gives them."""
    assert main(["--backend", "echo", "--", *words], prog="chutes-connect local") == status
    assert capfd.readouterr().err.endswith(f"on echo (not a model)\n{said}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    """Without a terminal each signal reaches the program, which decides what becomes of it."""
    words = [*HERE, sys.executable, "-c", SIGNALLED]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENV) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"got {number.name} 1\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 42


def test_a_key_at_the_terminal_reaches_the_program_once() -> None:
    """Ctrl-C goes to everything in the foreground by itself, and is not sent a second time."""
    with Terminal([*HERE, sys.executable, "-c", SIGNALLED], ENV) as terminal:
        terminal.until("ready\n")
        terminal.type("\x03")
        terminal.until("got SIGINT 1\n")
        terminal.type("\r")
        assert terminal.end() == 42
        assert "SIGINT 2" not in terminal.shown


def test_the_variables_of_one_that_runs(
    chutes_local: chutes_local.LocalChutes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell can read them; a token that would win over the key is taken away, a model of the user's own stays."""
    port = chutes_local.url.rpartition(":")[2]
    assert main(["--env", "--port", port]) == 0
    assert capsys.readouterr().out == "".join(
        f"export {name}={shlex.quote(value)}\n"
        for name, value in {**chutes_local.env, "CHUTES_MODEL": next(iter(chutes_local.fleet)).name}.items()
    )
    monkeypatch.setenv("CHUTES_MODEL", "acme/mine")
    monkeypatch.setenv("CHUTES_OAUTH_TOKEN", "cak_fake")
    assert main(["--env", "--port", port]) == 0
    said = capsys.readouterr().out
    assert "CHUTES_MODEL" not in said
    assert said.endswith("\nexport CHUTES_OAUTH_TOKEN=\n")


def test_without_one_that_runs_nothing_is_printed_for_the_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and on standard error how to start one."""
    assert main(["--env", "--port", "9"], prog="chutes-connect local") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "start it with `chutes-connect local --port 9`" in said.err


def test_a_program_without_its_mark(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it goes is said."""
    with pytest.raises(SystemExit, match="2"):
        main(["python", "my app.py"], prog="chutes-connect local")
    assert "a program stands behind --: chutes-connect local -- python 'my app.py'\n" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--prot", "0"])
    assert capsys.readouterr().err.endswith("unrecognized arguments: --prot 0\n")


@pytest.mark.parametrize("words", [["--"], ["--env", "--", "true"], ["--env", "--port", "0"]], ids=" ".join)
def test_words_that_do_not_go_together(words: list[str]) -> None:
    """They are wrong usage."""
    with pytest.raises(SystemExit, match="2"):
        main(words)


def test_what_a_shell_would_read_otherwise_is_quoted() -> None:
    """A value with a space, or worse, is one word."""
    assert exports({"A": "b c; rm"}) == "export A='b c; rm'"
    assert "CHUTES_MODEL" not in for_program("http://127.0.0.1:1", [], {})
