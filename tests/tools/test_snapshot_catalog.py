"""The snapshot of the catalogue is made from what the service lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EMBEDDING = "Qwen/Qwen3-Embedding-8B-TEE"


def snapshot_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "tools" / "snapshot_catalog.py", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def test_the_snapshot_is_made_from_a_reply(tmp_path: Path) -> None:
    """The tool takes listed models from a reply and keeps families and embedding models."""
    shipped = json.loads((ROOT / "chutes_core" / "data" / "catalog.json").read_text())
    reply, target = tmp_path / "reply.json", tmp_path / "catalog.json"
    reply.write_text(json.dumps({"data": [{"id": "b", "max_model_len": 7}, {"id": None}, {"id": "a"}]}))
    target.write_text(json.dumps(shipped))
    done = snapshot_tool(reply, "--date", "2026-09-01", "--target", target)
    assert (done.returncode, done.stdout) == (0, "catalog.json: 3 models of 2026-09-01\n")
    made = json.loads(target.read_text())
    assert [model["id"] for model in made["models"]] == ["b", "a", EMBEDDING]
    assert made == {**shipped, "snapshot_date": "2026-09-01", "models": made["models"]}


def test_the_tool_refuses_what_is_no_list(tmp_path: Path) -> None:
    """A reply that is an error leaves the snapshot as it is."""
    reply, target = tmp_path / "reply.json", tmp_path / "catalog.json"
    reply.write_text('{"detail": "slow down"}')
    target.write_text('{"models": []}')
    done = snapshot_tool(reply, "--target", target)
    assert done.returncode == 1
    assert "no list of models" in done.stderr
    assert target.read_text() == '{"models": []}'


def test_the_shipped_snapshot_is_as_the_tool_writes_it(tmp_path: Path) -> None:
    """The file in the package is in the tool's own form, so that the next difference is only of facts."""
    shipped = (ROOT / "chutes_core" / "data" / "catalog.json").read_text()
    target = tmp_path / "catalog.json"
    target.write_text(shipped)
    reply = tmp_path / "reply.json"
    reply.write_text(json.dumps({"data": [{"id": "a"}]}))
    assert snapshot_tool(reply, "--target", target).returncode == 0
    kept = [line for line in target.read_text().splitlines() if '"match"' in line or "mbedding" in line]
    assert kept == [line for line in shipped.splitlines() if '"match"' in line or "mbedding" in line]
