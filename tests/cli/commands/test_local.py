"""``chutes-connect local``: its words go to the embedded Chutes."""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import Run


def test_a_missing_extra_names_its_remedy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, local says what to install."""
    monkeypatch.setitem(sys.modules, "chutes_local.__main__", None)
    ran = run("local")
    assert ran.status == 1
    assert "pip install 'chutes-connect[local]'" in ran.err


def test_local_hands_its_words_on(run: Run) -> None:
    """The embedded Chutes reads its own options, and shows its own help."""
    ran = run("local", "--list-faults")
    assert ran.status == 0
    assert "capacity" in ran.out
    page = run("local", "--help").out
    assert page.startswith("usage: chutes-connect local ")
    assert "--model-fault" in page
