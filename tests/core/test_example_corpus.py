"""What the example that embeds a corpus says of a run; the run itself needs a cluster, see tests/integration."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.core.corpus.test_parts import ONE, Parts, Service, run

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'chutes-connect[ray]'")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find their key where they are."""
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_test")


EXAMPLE = Path(__file__).parents[2] / "examples" / "embed_corpus_ray.py"


@pytest.fixture
def example() -> ModuleType:
    found = importlib.util.spec_from_file_location("embed_corpus_ray", EXAMPLE)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_run_is_summed_up_from_the_folder(example: ModuleType, tmp_path: Path) -> None:
    """Whatever else is in the folder: what of this corpus is new, there, changed and gone."""
    parts = Parts(tmp_path)
    run(parts, {**ONE, 3: "old"})
    texts = {**{key: text for key, text in ONE.items() if key != 5}, 20: "new", 21: "bad", 22: "newer"}
    before = run(parts, texts, Service(refuse=frozenset({"bad"})))
    assert example.summary(before, before.now()) == (
        "Embedded 2 of 3 new, 8 were there already, 1 of 1 changed, 1 in the folder are no longer in the corpus."
    )


def test_what_is_missing_is_said(example: ModuleType, tmp_path: Path) -> None:
    """By number and key, and whether the workers wrote somewhere else."""
    parts = Parts(tmp_path)
    after = run(parts, ONE, Service(refuse=frozenset({"text 3", "text 7"}))).now()
    assert example.shortfall(after, 8, 8) == "2 texts are missing; the same command tries them again: 3, 7."
    assert "do all machines see this folder?" in example.shortfall(after, 10, 8)
    many = run(Parts(tmp_path / "none"), dict.fromkeys(range(50), "bad"), Service(refuse=frozenset({"bad"}))).now()
    assert example.shortfall(many, 0, 0).startswith("50 texts are missing")
    assert example.shortfall(many, 0, 0).endswith(", ….")
    assert example.shortfall(run(parts, ONE).now(), 2, 2) == ""


def test_why_a_run_ended_is_one_line(example: ModuleType) -> None:
    """Ray's text has the whole traceback of the worker."""
    error = RuntimeError(
        "ray::Map\n  File x\nchutes_core.errors.PaymentRequiredError: 402.\n\nThe above exception\nray.Y"
    )
    assert example.reason(error) == "chutes_core.errors.PaymentRequiredError: 402."
    assert example.reason(ValueError("x")) == "ValueError: x"


def test_standard_output_is_for_what_the_program_says() -> None:
    """Not for what Ray's libraries and processes write to it, which is beneath Python."""
    program = (
        "import atexit, os, runpy, sys; atexit.register(os.write, 1, b'of a library'); "
        f"sys.argv[1:] = ['--help']; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("usage: ")
    assert "of a library" not in ended.stdout
    assert ended.stderr == "of a library"
