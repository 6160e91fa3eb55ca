"""``chutes-connect replay``: what is shown of an exchange; test_record.py has the way there."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.cli.conftest import Run

SEND = {"method": "POST", "path": "/v1/chat/completions", "body": {"model": "acme/one"}}


def test_what_is_shown(run: Run, tmp_path: Path) -> None:
    """An error has its kind, its scope and its retry; an encrypted call, a page and a lost one are told apart."""
    lines = [
        {"send": SEND, "status": 401, "blocks": ["{}"], "reader": "chat"},
        {"send": SEND, "status": 200, "sealed": [7]},
        {"send": {"method": "GET", "path": "/users/me"}, "status": 200, "blocks": ['{"balance": 1}']},
        {"send": SEND, "status": None, "end": "connect", "reader": "chat"},
    ]
    (tmp_path / "own").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [line.split("  ")[-1].strip() for line in run("replay", str(tmp_path / "own")).lines[1:]] == [
        "error authentication: scope account, retry elsewhere",
        "encrypted end to end: only its envelope was recorded",
        "{'balance': 1}",
        "error connect: scope target, retry here",
    ]


def test_what_is_written_is_for_its_owner(run: Run, tmp_path: Path) -> None:
    """It has prompts and answers, like the recording."""
    (tmp_path / "own").write_text(json.dumps({"send": SEND, "status": 401, "blocks": ["{}"], "reader": "chat"}))
    before = os.umask(0)
    try:
        assert run("replay", str(tmp_path / "own"), "-o", str(tmp_path / "made")).status == 0
    finally:
        os.umask(before)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


def test_what_is_no_recording(run: Run, tmp_path: Path) -> None:
    """Another file is refused, and an empty one has nothing to show."""
    (tmp_path / "other").write_text("a letter")
    (tmp_path / "empty").write_text("")
    assert run("replay", str(tmp_path / "other")).status == 2
    assert run("replay", str(tmp_path / "none")).status == 1
    empty = run("replay", str(tmp_path / "empty"))
    assert (empty.status, empty.out) == (1, "")
    assert "empty has no exchange in it" in empty.err
