"""The demo, as the README's first command runs it, with an echo behind it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_shows_everything_it_promises() -> None:
    """Each step comes to its end, the error is an honest one, and three models are asked for one answer."""
    words = [sys.executable, "examples/demo.py", "--backend", "echo"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in ("get_weather(", "[source: ", "StreamFailedError", "GLM-5.2-TEE: capacity", "answered", "All of it"):
        assert shown in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="there Ctrl-C is no signal that one process sends another")
def test_ctrl_c_ends_the_demo_quietly() -> None:
    """In the middle of it there is no traceback, and the status is the one of Ctrl-C."""
    words = [sys.executable, "examples/demo.py", "--backend", "echo"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while "Starting" not in demo.stdout.readline():
            pass
        demo.send_signal(signal.SIGINT)
        assert (demo.communicate(timeout=120)[1], demo.returncode) == ("", 130)
