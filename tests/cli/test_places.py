"""Paths in a person's words."""

from __future__ import annotations

from pathlib import Path

import pytest

from chutes_cli.places import tilde


def test_the_home_folder_is_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is in it begins with one, what is beside it does not."""
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "anna"))
    beside = tmp_path / "annabel" / "x"
    assert (tilde(tmp_path / "anna" / "a" / "x"), tilde(beside)) == ("~/a/x", str(beside))
