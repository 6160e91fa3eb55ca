"""Somebody who has the README and nothing else: the embedded Chutes by its command, and the blocks as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CONSOLE = "\n".join(re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
FACT = "1931"  # what the README's own document says


PRINTED = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def exported() -> Iterator[dict[str, str]]:
    """Start the embedded Chutes, and set what it prints; any port, and no model to fetch."""
    assert "chutes-connect local" in CONSOLE
    yield from embedded("--backend", "echo")


@pytest.fixture(scope="module")
def with_its_model() -> Iterator[dict[str, str]]:
    """Start the embedded Chutes as it is, with its small model."""
    yield from embedded()


def embedded(*options: str) -> Iterator[dict[str, str]]:
    command = [sys.executable, "-u", "-m", "chutes_cli", "local", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            variables: dict[str, str] = {}
            for line in process.stdout:
                if line.startswith("export "):
                    name, _, value = line.removeprefix("export ").strip().partition("=")
                    variables[name] = value
                if line.startswith("stop"):
                    break
            assert "CHUTES_API_KEY" in variables
            yield variables
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def printed(exported: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Run a block as a file of its own, once, and return what it prints."""
    return cache(lambda block: output(block, exported, tmp_path_factory.mktemp("reader")))


def output(block: str, variables: dict[str, str], folder: Path) -> str:
    """Save a block as a file, run it, and return what it prints."""
    script = folder / "reader.py"
    script.write_text(block, "utf-8")
    environment = {**os.environ, **variables}
    process = subprocess.run(
        [sys.executable, script.name], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"block-{BLOCKS.index(block) + 1}")
def test_each_block_runs_as_it_stands(block: str, printed: Callable[[str], str]) -> None:
    """Copied into a file beside nothing else, a block ends well; what it prints is more than an empty line."""
    assert printed(block).strip() or "print" not in block


@pytest.mark.parametrize("package", ["langchain_chutes", "llama_index_chutes"])
def test_answer_from_a_document_in_either_framework(package: str, printed: Callable[[str], str]) -> None:
    """The README's retrieval ends in an answer that its document found its way into (an echo repeats its question)."""
    block = next(block for block in BLOCKS if f"from {package} import" in block and FACT in block)
    assert FACT in printed(block)


@pytest.mark.local
def test_it_prints_what_the_readme_says(with_its_model: dict[str, str], tmp_path: Path) -> None:
    """The output below a block is what the embedded model really answers."""
    assert len(PRINTED) == 2
    for block, said in PRINTED:
        assert output(block, with_its_model, tmp_path).strip() == said.strip()


def test_extras_exist() -> None:
    """Every extra that the README tells to install is one of the distribution's."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {extra for group in re.findall(r"\.\[([a-z0-9,-]+)\]", README) for extra in group.split(",")}
    assert named
    assert named <= set(extras)
