"""Where tests are looked for, and a list of exceptions that is held to be true."""

from __future__ import annotations

from pathlib import Path

import check_tests
import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with one module that has tests, and one that has none."""
    for name in ("chutes_core/reply/__init__.py", "chutes_core/reply/guard.py", "chutes_core/reply/sse.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tests/core/reply").mkdir(parents=True)
    (tmp_path / "tests/core/reply/test_guard.py").touch()
    return tmp_path


def told(tree: Path, through: dict[str, tuple[str, ...]], *data: str) -> list[str]:
    return list(check_tests.problems(tree, through, data))


def test_a_module_without_tests_is_named(tree: Path) -> None:
    """With the file that is missing, unless a list says where its tests are, or that it needs none."""
    missing = "chutes_core/reply/sse.py"
    assert told(tree, {}) == [f"{missing} has no tests/core/reply/test_sse.py"]
    assert told(tree, {"tests/core/reply/test_guard.py": (missing,)}) == []
    assert told(tree, {}, missing) == []


def test_a_line_that_is_no_longer_true_is_named(tree: Path) -> None:
    """A module that is gone, one that has its own tests by now, and tests that are gone."""
    (tree / "tests/core/reply/test_sse.py").touch()
    through = {"tests/core/test_gone.py": ("chutes_core/reply/guard.py", "chutes_core/gone.py")}
    assert told(tree, through) == [
        "chutes_core/reply/guard.py has tests/core/reply/test_guard.py, and is listed too",
        "chutes_core/gone.py is listed, and does not exist",
        "tests/core/test_gone.py is listed, and does not exist",
    ]
