"""Recordings are read whole, or refused with the line that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chutes_core import ConfigurationError
from chutes_core.exchanges.replaying import Exchange, made_of, read_exchanges


@pytest.mark.parametrize(
    "line", ["", "[]", "{}", '{"send": 1}', '{"send": {"method": "GET", "path": "/"}, "blocks": 7}']
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    """The number of the line says where it is."""
    good = json.dumps({"send": {"method": "GET", "path": "/"}})
    (tmp_path / "x").write_text(f"{good}\n\n{line or '{'}\n")
    with pytest.raises(ConfigurationError, match="line 3 is no recorded exchange"):
        read_exchanges(tmp_path / "x")


@pytest.mark.parametrize(
    ("end", "kind"), [("connect", "connect"), ("timeout", "first_token_timeout"), ("left", "connect")]
)
def test_no_reply(end: str, kind: str) -> None:
    """A request to which nothing came is a connection that failed, or a wait that was too long."""
    send = {"method": "POST", "path": "/v1/chat/completions", "body": {"model": "acme/one", "stream": True}}
    assert made_of(Exchange({"send": send, "status": None, "end": end, "reader": "stream"}))["error"] == kind
