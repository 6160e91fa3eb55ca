"""The examples run as they stand, without a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("langchain_quickstart", ["A tool call: add", "An honest error:"], marks=pytest.mark.local),
        pytest.param("langchain_rag", ["Embedded 3 texts", "source: bridge.txt"], marks=pytest.mark.local),
        ("langchain_agent", ["tool: 42", "Notes: ['The result is 50.']", "4 calls"]),
    ],
)
def test_an_example_runs(name: str, said: list[str]) -> None:
    """It ends well and shows what it promises."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for each in said:
        assert each in done.stdout
