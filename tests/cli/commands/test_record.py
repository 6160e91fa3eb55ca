"""``chutes-connect record`` and ``replay``: a program's exchanges, there and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, SAID, Run

ASKS = (
    "from chutes_core import ChutesClient\n"
    f"print(ChutesClient(max_retries=0).chat([{{'role': 'user', 'content': 'Rosebud'}}], model='{MODEL}').content)"
)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "own.jsonl")


def test_a_program_is_recorded_and_replayed(run: Run, service: LocalChutes, file: str, tmp_path: Path) -> None:
    """The program runs as it would alone; then its exchanges are shown, as text, as JSON and as a test."""
    ran = run("record", "-o", file, "--", sys.executable, "-W", "ignore", "-c", ASKS)
    assert ran.status == 0
    assert ran.err.splitlines() == [
        f"note: every exchange with the service is recorded in {file}, WITH PROMPTS AND ANSWERS, without keys.",
        f"1 recorded; see them with: chutes-connect replay {file}",
    ]
    shown = run("replay", file)
    assert shown.lines[1].startswith(f"1  chat {MODEL}     200  whole  '{SAID}")
    (exchange,) = run("replay", file, "--json").json["exchanges"]
    assert exchange["ours"]["text"] == f"{SAID}Rosebud"
    wrote = run("replay", file, "-o", str(tmp_path / "test.jsonl"))
    assert (wrote.out, wrote.err) == ("", f"1 of 1 written to {tmp_path / 'test.jsonl'}.\n")
    assert json.loads((tmp_path / "test.jsonl").read_text()) == exchange


def test_without_content(run: Run, service: LocalChutes, file: str) -> None:
    """--no-content is said, and kept."""
    ran = run("record", "--no-content", "-o", file, "--", sys.executable, "-W", "ignore", "-c", ASKS)
    assert "without keys, prompts and answers." in ran.err
    assert "Rosebud" not in Path(file).read_text()
    assert "'xxxx xx xxx" in run("replay", file).out


def test_how_the_program_ends(run: Run, file: str) -> None:
    """The status is the program's, of a signal as a shell has it; one that asks nothing, or is none, is told of."""
    ended = run("record", "-o", file, "--", sys.executable, "-c", "raise SystemExit(3)")
    assert (ended.status, ended.err.splitlines()[-1].partition(":")[0]) == (3, "No exchange was recorded")
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert run("record", "-o", file, "--", sys.executable, "-c", killed).status == 143
    missing = run("record", "-o", file, "--", "no-such-program")
    assert (missing.status, missing.err.splitlines()[-1]) == (2, "error: no-such-program: No such file or directory.")


def test_a_file_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """Nothing is run if its exchanges could not be kept."""
    ran = run("record", "-o", str(tmp_path), "--", sys.executable, "-c", "print('ran')")
    assert (ran.status, ran.out) == (2, "")
    assert run("record").status == 2


def test_an_encrypted_call_is_an_envelope(run: Run, service: LocalChutes, file: str) -> None:
    """Of a call that is encrypted end to end no word is in the file, plain or encrypted."""
    pytest.importorskip("cryptography")
    asks = ASKS.replace("max_retries=0", "max_retries=0, e2ee=True")
    ran = subprocess.run(
        [sys.executable, "-c", "from chutes_core.e2ee.seal import require_crypto as r; r()"], check=False
    )
    if ran.returncode:
        pytest.skip("needs cryptography 48")
    run("record", "-o", file, "--", sys.executable, "-W", "ignore", "-c", asks)
    assert "Rosebud" not in Path(file).read_text()
    assert "encrypted end to end: only its envelope was recorded" in run("replay", file).lines[-1]
