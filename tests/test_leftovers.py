"""The check for what tests leave behind finds it, at the test that did it, and nowhere else."""

from __future__ import annotations

import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
ROOT = Path(__file__).resolve().parent.parent

BAD = {
    "process": "kept.append(subprocess.Popen(['cat'], stdin=subprocess.PIPE))",
    "forgotten_process": "a = [subprocess.Popen(['cat'], stdin=subprocess.PIPE)]; a.append(a)",
    "orphan": "subprocess.run(['sh', '-c', 'sleep 600 >/dev/null 2>&1 &'], check=True)",
    "thread": "threading.Thread(target=over.wait, name='straggler').start()",
    "daemon": "threading.Thread(target=over.wait, name='demon', daemon=True).start()",
    "socket": "kept.append(socket.create_server(('127.0.0.1', 0)))",
    "pipe": "os.pipe()",
    "file": "kept.append(open(__file__))",
    "forgotten_file": "a = [open(__file__)]; a.append(a)",
    "coroutine": "a = [asyncio.sleep(0)]; a.append(a)",
    "task": "asyncio.run(leave())",
    "temporary_file": "os.close(tempfile.mkstemp()[0])",
    "variable": "os.environ['LEFT_BEHIND'] = 'yes'",
    "lost_variable": "del os.environ['FOUND']",
    "folder": "os.chdir('/')",
    "handler": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "logging": "logging.getLogger().setLevel(1)",
    "path": "sys.path.append('/nowhere')",
    "clock": "time.sleep = print",
}
SAID = {
    "process": "the process *: cat",
    "forgotten_process": "*subprocess * is still running*",
    "orphan": "the process *: s*",  # sleep, or still the shell that becomes it
    "thread": "the thread 'straggler'",
    "daemon": "the thread 'demon'",
    "socket": "descriptor *, open on socket:*",
    "pipe": "descriptor *, open on pipe:*",
    "file": "descriptor *, open on *.py",
    "forgotten_file": "ResourceWarning*unclosed file*",
    "coroutine": "RuntimeWarning*was never awaited*",
    "task": "a task that was not done when its loop closed: *leave*",
    "temporary_file": "the temporary file tmp*",
    "variable": "$LEFT_BEHIND: was None, is 'yes'",
    "lost_variable": "$FOUND: was 'yes', is None",
    "folder": "the current folder: was *, is '/'",
    "handler": "the handler of SIGUSR1: was *, is *",
    "logging": "the root logger: was (30*, is (1*",
    "path": "sys.path: was *, is *nowhere*",
    "clock": "time.sleep: was *, is *print*",
    "last_of_class": "descriptor *, open on socket:*",
}
REST = """
class TestCareless:
    def test_first_of_class(self, careless): pass
    def test_last_of_class(self, careless): pass

def test_over():
    over.set()
"""
HEAD = """\
import asyncio, logging, os, pytest, signal, socket, subprocess, sys, tempfile, threading, time
import hypothesis  # before the collector's work begins, as in the real conftest.py
import tests.leftovers

kept, over = [], threading.Event()

@pytest.fixture(scope="class")
def careless():
    kept.append(socket.create_server(("127.0.0.1", 0)))
    yield

async def leave():
    kept.append(asyncio.create_task(asyncio.Event().wait(), name="leave"))
    await asyncio.sleep(0)
"""


def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tests: str, patience: float) -> pytest.RunResult:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("FOUND", "yes")
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makeconftest("pytest_plugins = ['tests.leftovers']")
    pytester.makepyfile(HEAD + f"\ntests.leftovers.PATIENCE = {patience}\n" + tests)
    options = ("-p", "no:cacheprovider", "-p", "no:xdist", "-rA", "--tb=short")
    return pytester.runpytest_subprocess(*options, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell as much")
def test_what_is_left_behind_fails_the_test_that_left_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sort of thing is found, is named, and concerns no test that runs after it."""
    tests = "".join(
        f"\ndef test_{name}():\n    {bad}\n\ndef test_after_{name}():\n    pass\n" for name, bad in BAD.items()
    )
    result = run(pytester, monkeypatch, tests + REST, patience=0.0)
    result.assert_outcomes(passed=2 * len(BAD) + 3, errors=len(BAD) + 1)
    blocks = {
        block.partition(" _")[0]: block
        for block in result.stdout.str().replace("TestCareless.", "").split("ERROR at teardown of test_")[1:]
    }
    assert blocks.keys() == {*BAD, "last_of_class"}
    for name, block in blocks.items():
        assert "it left behind:" in block
        assert any(fnmatch(line, f"- {SAID[name]}*") for line in block.splitlines()), block


GOOD = """
@pytest.fixture(scope="module")
def wide():
    os.environ["WIDE"] = "yes"
    server, process = socket.create_server(("127.0.0.1", 0)), subprocess.Popen(["sleep", "600"])
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield server
    del os.environ["WIDE"]
    over.set()
    thread.join()
    process.kill()
    process.wait()
    server.close()

def test_first(wide): pass
def test_second(wide, tmp_path): (tmp_path / "file").write_text("mine")

def test_third(wide): pass

def test_about_to_go(wide):
    subprocess.run(["sh", "-c", "sleep 0.2 >/dev/null 2>&1 &"], check=True)
    threading.Thread(target=over.wait, args=(0.2,)).start()

def test_failed():
    mine = open(__file__), subprocess.Popen(["sleep", "600"])
    assert not mine

def test_after_failed(): pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell as much")
def test_what_may_be_there_is_no_failure(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wider fixtures live until their end, what is about to go is waited for, and a failure is reported once."""
    result = run(pytester, monkeypatch, GOOD, patience=60.0)
    result.assert_outcomes(passed=5, failed=1)
