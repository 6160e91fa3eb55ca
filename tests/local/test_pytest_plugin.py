"""The plugin as a user has it: in a project of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import chutes_local

ROOT = Path(chutes_local.__file__).parent.parent

CONFTEST = 'pytest_plugins = ["chutes_local.pytest_plugin"]\n'
TESTS = """
import httpx

def ask(server):
    body = {"model": "Qwen/Qwen3-32B-TEE", "messages": [{"role": "user", "content": "hi"}]}
    return httpx.post(server.base_url + "/chat/completions", json=body, headers={"Authorization": "x"}).status_code

def test_two_failures_then_an_answer(chutes_local, chutes_faults):
    chutes_faults.add("Qwen/Qwen3-32B-TEE", "capacity", times=2)
    assert [ask(chutes_local) for _ in range(3)] == [429, 429, 200]
    chutes_faults.add("*", "auth")

def test_the_next_test_starts_clean(chutes_local, chutes_faults):
    assert len(chutes_local.world.journal) == 0
    assert ask(chutes_local) == 200
    assert len(chutes_local.world.journal.wait(1)) == 1

def test_the_echo_answers(chutes_local):
    assert not chutes_local.world.backend.is_model
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    # Without the other plugins that are installed here, which take seconds to load.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_it_works_in_a_project_of_ones_own(tmp_path: Path) -> None:
    """One line in conftest.py brings the server and its fault plan; tests do not see each other's faults."""
    result = run(tmp_path)
    assert "3 passed" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("option", ["--fixtures", "--help"])
def test_it_is_documented_where_one_looks(tmp_path: Path, option: str) -> None:
    """pytest's own help knows the fixtures and the option."""
    printed = run(tmp_path, option).stdout
    expected = ("chutes_local", "chutes_faults") if option == "--fixtures" else ("--chutes-backend",)
    assert all(name in printed for name in expected)
