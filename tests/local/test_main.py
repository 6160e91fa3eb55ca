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
from chutes_local.kinds import KINDS

ROOT = Path(chutes_local.__file__).parent.parent


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """--list-faults names every kind and ends."""
    assert main(["--list-faults"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{kind} ", printed, re.MULTILINE) for kind in KINDS)


def test_a_wrong_rule_ends_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that cannot be read is an error with a hint, and status 2."""
    assert main(["--model-fault", "*=capacty", "--backend", "echo"]) == 2
    assert "Did you mean: capacity" in capsys.readouterr().err


def test_a_taken_port_is_an_error(capsys: pytest.CaptureFixture[str], chutes_local: chutes_local.LocalChutes) -> None:
    """Where the server cannot listen, it says so, and the status is 1."""
    port = chutes_local.url.rpartition(":")[2]
    assert main(["--port", port, "--backend", "echo"]) == 1
    assert "cannot start" in capsys.readouterr().err


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
        assert process.wait(10) == 0
    assert statuses == [503, 200]
