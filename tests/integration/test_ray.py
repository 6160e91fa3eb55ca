"""A corpus on a Ray cluster of two workers: faults, a run that ends early and a killed worker cost no text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest

from chutes_core.scale import Parts

from .canned_embeddings import vector_of

HERE = Path(__file__).parent
TEXTS = 10_000
PATIENCE = 60.0  # a limit that only guards against hanging

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None or find_spec("pyarrow") is None, reason="needs Ray Data: pip install 'chutes-connect[ray]'"
)


@pytest.fixture
def service() -> Iterator[str]:
    """The address of a service in a process of its own, which fails by turns."""
    command = [sys.executable, str(HERE / "canned_embeddings.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.stdin.close()


def processes_with(mark: str) -> list[str]:
    """The processes whose environment has a mark."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (each / "environ").read_bytes():
                found.append((each / "comm").read_text().strip())
        except OSError:  # it has ended meanwhile, or is not ours
            continue
    return found


def test_no_text_is_lost(service: str, tmp_path: Path) -> None:
    """Every text has its own vector once, what was finished is not done again, and no process is left."""
    root, mark = str(HERE.parents[1]), f"TEST_OF_RAY={os.getpid()}-{tmp_path.name}"
    name, _, value = mark.partition("=")
    environment = {**os.environ, "CHUTES_API_KEY": "cpk_test", "PYTHONPATH": root, name: value}
    job = subprocess.run(
        [sys.executable, str(HERE / "ray_job.py"), service, str(tmp_path), str(TEXTS)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert job.returncode == 0, job.stderr[-4_000:]
    seen = json.loads(job.stdout.splitlines()[-1])

    finished = Parts(tmp_path / "parts").read()
    assert finished is not None
    assert finished.column("id").to_pylist() == list(range(TEXTS + 3))
    for number, text, vector in zip(
        *(finished.column(name).to_pylist() for name in ("id", "text", "vector")), strict=True
    ):
        assert text == ("changed" if number == TEXTS - 1 else f"text {number}")
        assert vector == pytest.approx(vector_of(str(text)))

    ended, lines = seen["example"]
    assert ended == 0, lines
    assert any(
        line.startswith(
            f"Embedded 3 of 3 new, {TEXTS - 101:,} were there already, 1 of 1 changed, 100 in the folder are"
        )
        for line in lines
    ), lines
    ended, lines = seen["example again"]
    assert ended == 0, lines
    assert any(line.startswith(f"Embedded 0 of 0 new, {TEXTS - 97:,} were there") for line in lines), lines
    assert "model is 'acme/embed' there and 'acme/other' here" in seen["another model"][0]

    stats = json.load(urlopen(f"{service}/stats"))
    assert all(stats["faults"].values()), "each fault happened"
    assert seen["failed"] == 0
    assert TEXTS // 4 <= seen["after the first run"] < TEXTS
    assert seen["rows of the second run"] <= TEXTS - seen["after the first run"] + 4 * 512  # what was under way
    assert stats["served"] <= TEXTS + 8 * 512
    assert seen["workers of the second run"] == 3, "a third one took the place of the one that was killed"
    assert seen["tokens"] > 0
    assert seen["travelled"]
    until = time.monotonic() + PATIENCE  # workers go after the program that told them to
    while (left := processes_with(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []
