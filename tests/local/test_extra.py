"""The package without what its extra brings."""

from __future__ import annotations

import sys

import pytest

import chutes_local


def test_a_missing_part_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package of the extra is missing, the error is the command that brings it."""
    for name in [name for name in sys.modules if name.startswith(("starlette", "chutes_local.server"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "chutes_local.server", None)
    with pytest.raises(ImportError, match=r"pip install 'chutes-connect\[local\]'"):
        _ = chutes_local.serve


def test_an_unknown_name_is_no_missing_part() -> None:
    """A misspelt name is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'serv'"):
        _ = chutes_local.serv  # type: ignore[attr-defined]
