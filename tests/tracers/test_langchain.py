"""Whatever traces LangChain counts each answer once, under the model that served, and logs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .play import plays

ROOT = Path(__file__).resolve().parents[2]
PLAYED = list(plays("langchain"))
NAMES = [f"{tool}-{face}-{scene.name}{'-async' if waits else ''}" for tool, face, scene, waits in PLAYED]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What every tracer has of every scene, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.tracers.play", "langchain"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


@pytest.mark.parametrize("number", range(len(PLAYED)), ids=NAMES)
def test_every_tracer_counts_once(number: int, report: dict[str, Any]) -> None:
    """The tokens of all calls are the service's, each call has the name of who served, and no tracer complains."""
    tool, face, scene, waits = PLAYED[number]
    assert report["plays"][number] == [tool, face, scene.name, waits, []]


def test_the_table_is_true(report: dict[str, Any]) -> None:
    """What the documentation says that each tool has of a call is what it has."""
    page = ROOT.joinpath("docs/observability.md").read_text()
    for tool, *facts in report["rows"]:
        row = " | ".join(["| LangChain", tool, *("yes" if fact else "no" for fact in facts)])
        assert f"{row} |" in page.splitlines()
