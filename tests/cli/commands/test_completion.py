"""``chutes-connect completion``: a shell really finishes the words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run

FINISHES = """\
source {script}
finish() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_chutes_connect; echo "${{COMPREPLY[@]}}"; }}
finish chutes-connect mod
finish chutes-connect models --re
finish chutes-connect models --sort t
finish chutes-connect aliases cr
finish chutes-connect local --ba
finish chutes-connect local --backend e
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_finishes_commands_options_and_choices(run: Run, tmp_path: Path) -> None:
    """The script works in bash: commands, options, and the choices of an option."""
    script = tmp_path / "completion.bash"
    script.write_text(run("completion", "bash").out)
    words = ["bash", "-c", FINISHES.format(script=script)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = [sorted(line.split()) for line in done.stdout.splitlines()]
    assert found == [["models"], ["--reasoning"], ["tps", "ttft"], ["create"], ["--backend"], ["echo"]]


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_the_other_shells_get_a_script_of_their_own(run: Run, shell: str) -> None:
    """zsh, fish and tcsh get a script that names the command."""
    shtab = pytest.importorskip("shtab")
    if shell not in shtab.SUPPORTED_SHELLS:
        pytest.skip("this version of shtab does not know the shell")
    ran = run("completion", shell)
    assert ran.status == 0
    assert "chutes-connect" in ran.out
    assert ran.out != run("completion", "bash").out


def test_without_shtab_the_remedy_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra brings shtab."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    ran = run("completion", "bash")
    assert ran.status == 1
    assert "pip install 'chutes-connect[cli]'" in ran.err


def test_a_shell_that_shtab_does_not_know_yet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old version of shtab is to be replaced."""
    monkeypatch.setattr("shtab.SUPPORTED_SHELLS", ["bash"])
    ran = run("completion", "fish")
    assert (ran.status, ran.out) == (1, "")
    assert "pip install -U shtab" in ran.err
