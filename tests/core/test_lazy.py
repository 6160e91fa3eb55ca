"""Names that are loaded when they are first asked for."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from chutes_core import usage
from chutes_core.lazy import lazily


def test_a_name_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its home, and kept; what has no home is no attribute; all that are announced are listed."""
    package = ModuleType("acme")
    package.__all__ = ["Usage"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme", package)
    monkeypatch.setitem(sys.modules, "acme.usage", usage)
    load, names = lazily("acme", {"Usage": "usage"})
    assert "Usage" in names()
    assert not hasattr(package, "Usage")
    assert load("Usage") is usage.Usage is package.Usage
    with pytest.raises(AttributeError, match="module 'acme' has no attribute 'Usages'"):
        load("Usages")
