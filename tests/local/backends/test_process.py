"""A child never outlives its parent, whichever way that one ends.

Every child here holds the writing end of a pipe as its log. When the pipe ends, both processes are gone: no test
needs to look, wait a while and look again.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chutes_local.backends import process as module
from chutes_local.backends.process import end, spawn, start

ROOT = Path(module.__file__).parents[2]
DEADLINE = 60.0

# A job without models answers at once and then stays, as one with models does.
IDLE: dict[str, object] = {"job": "models", "models": {}}

PARENT = """
import os, signal, sys
from chutes_local.backends.process import spawn

with spawn({"job": "models", "models": {}}, os.fdopen(int(sys.argv[1]), "wb")) as child:
    child.stdout.readline()
    print("ready", flush=True)
    sys.stdin.readline()
    exec(sys.argv[2])
"""


def wait_for_end(descriptor: int) -> bool:
    """Return whether every process that holds the other end is gone before the deadline."""
    readable, _, _ = select.select([descriptor], [], [], DEADLINE)
    return bool(readable) and os.read(descriptor, 1) == b""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: reading end, writing end."""
    reading, writing = os.pipe()
    try:
        yield reading, writing
    finally:
        os.close(reading)


@pytest.mark.skipif(sys.platform == "win32", reason="signals and inherited descriptors of POSIX")
@pytest.mark.parametrize(
    "ending",
    [
        "pass",
        "sys.exit(3)",
        "raise RuntimeError",
        "os._exit(1)",
        "os.abort()",
        "os.kill(os.getpid(), signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.killpg(0, signal.SIGINT)",
    ],
)
def test_the_child_ends_with_its_parent(ending: str, pipe: tuple[int, int]) -> None:
    """Normal end, exception, crash, kill or Ctrl-C: the child is gone."""
    reading, writing = pipe
    command = [sys.executable, "-c", PARENT, str(writing), ending]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        pass_fds=[writing],
        start_new_session=True,
    ) as parent:
        os.close(writing)
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.communicate("\n", timeout=DEADLINE)
    assert wait_for_end(reading)


def test_the_child_ends_when_stdin_does() -> None:
    """The rope that works on every system: the parent's end of stdin."""
    with tempfile.TemporaryFile() as log, spawn(IDLE, log) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"{}\n"
        child.stdin.close()
        assert child.wait(DEADLINE) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_is_the_parents_to_handle() -> None:
    """The child ignores an interrupt; it would otherwise die under an answer that is to be ended in order."""
    with tempfile.TemporaryFile() as log, spawn(IDLE, log) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        end(child)
        assert child.returncode == -signal.SIGTERM


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace period the end is not a question any more."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.05)
    command = [
        sys.executable,
        "-c",
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        end(child)
        assert child.returncode == -signal.SIGKILL


def test_ending_twice_is_harmless() -> None:
    """A child that has ended can be ended again."""
    with tempfile.TemporaryFile() as log:
        child = start(IDLE, log)
        end(child)
        first = child.returncode
        end(child)
        assert child.returncode == first


def test_the_childs_complaints_are_in_the_log() -> None:
    """What a child says before it fails can be read afterwards."""
    with tempfile.TemporaryFile() as log:
        with spawn({"job": "pip", "arguments": ["no-such-command"]}, log) as child:
            assert child.wait(DEADLINE) != 0
        log.seek(0)
        assert b"no-such-command" in log.read()
