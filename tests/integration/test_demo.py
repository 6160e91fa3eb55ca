"""The demo, as the README's first command runs it, with an echo behind it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_demo_shows_everything_it_promises() -> None:
    """Each step comes to its end, the error is an honest one, and three models are asked for one answer."""
    words = [sys.executable, "examples/demo.py", "--backend", "echo"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    for shown in ("get_weather(", "[source: ", "StreamFailedError", "GLM-5.2-TEE: capacity", "answered", "All of it"):
        assert shown in done.stdout
