"""The command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import chutes_local
from chutes_local.__main__ import main
from chutes_local.faults.kinds import KINDS

ROOT = Path(chutes_local.__file__).parent.parent


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """--list-faults names every kind and ends."""
    assert main(["--list-faults"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{kind} ", printed, re.MULTILINE) for kind in KINDS)


def test_a_wrong_rule_ends_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that cannot be read is an error with a hint, and status 2."""
    assert main(["--model-fault", "*=capacty", "--backend", "echo"]) == 2
    assert "Did you mean capacity, " in capsys.readouterr().err


def test_a_kind_that_resembles_none_is_answered_with_three(capsys: pytest.CaptureFixture[str]) -> None:
    """Not with all of them: the option that lists them is named."""
    assert main(["--model-fault", "x=bogus", "--backend", "echo"]) == 2
    said = capsys.readouterr().err
    assert sum(kind in said.split() or f"{kind}," in said or f"{kind}?" in said for kind in KINDS) == 3
    assert said.endswith("`chutes-connect local --list-faults` lists them all.\n")


def test_a_taken_port_is_an_error(capsys: pytest.CaptureFixture[str], chutes_local: chutes_local.LocalChutes) -> None:
    """Where another program has the port, it says so and what to do, and the status is 1."""
    port = chutes_local.url.rpartition(":")[2]
    assert main(["--port", port, "--backend", "echo"]) == 1
    assert capsys.readouterr().err == (
        f"error: Port {port} is in use, perhaps by another `chutes-connect local`: stop it, or use --port 0.\n"
    )


def test_an_address_of_another_machine_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the server cannot listen for another reason, that reason is said."""
    assert main(["--port", "0", "--host", "192.0.2.1", "--backend", "echo"]) == 1
    assert capsys.readouterr().err.startswith("error: The embedded Chutes cannot listen at 192.0.2.1 port 0: ")


@pytest.mark.parametrize("port", ["99999", "-1", "many"])
def test_a_port_that_cannot_be_is_a_mistake_in_the_words(capsys: pytest.CaptureFixture[str], port: str) -> None:
    """A number that is no port is refused at once, in the name under which the program was started."""
    with pytest.raises(SystemExit, match="2"):
        main(["--port", port], prog="chutes-connect local")
    said = capsys.readouterr().err
    assert "usage: chutes-connect local " in said
    assert f"{port!r} is not a port: use a number from 0 to 65535" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_runs_until_it_is_told_to_stop(number: signal.Signals) -> None:
    """It prints how to reach it, fails as told, and ends cleanly on Ctrl-C and SIGTERM."""
    command = [sys.executable, "-m", "chutes_local", "--port", "0", "--backend", "echo", "--model-fault", "*=cold x1"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout
    with process, process.stdout:
        said = ""
        while "Ctrl-C" not in said:
            said += process.stdout.readline()
        found = re.search(r"CHUTES_BASE_URL=(\S+)", said)
        assert found
        assert "It is not the service." in said
        assert "*=cold (1 left)" in said
        body = {"model": "Qwen/Qwen3-32B-TEE", "messages": [{"role": "user", "content": "hi"}]}
        statuses = [
            httpx.post(f"{found[1]}/chat/completions", json=body, headers={"Authorization": "x"}).status_code
            for _ in range(2)
        ]
        process.send_signal(number)
        assert process.wait(60) == 0
    assert statuses == [503, 200]
