"""The command: what it prints and with which status it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress

import pytest

from chutes_core.cli import main

from .raw_server import json_reply, raw_server
from .test_client import answering


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path))


def test_models_as_json_has_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the catalogue's own form."""
    assert main(["models", "--json", "--offline", "--min-context", "1000000"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row["context_length"] >= 1_000_000 for row in rows)


def test_models_asks_the_service(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --offline today's list is fetched, and what a row does not say is a question mark."""
    with raw_server(answering(json_reply({"data": [{"id": "acme/new"}]}))) as server:
        monkeypatch.setenv("CHUTES_BASE_URL", server.base_url)
        assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["acme/new", "?", "?", "?", "?"]


def test_a_failure_is_one_line_and_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that cannot be reached is said on stderr, without a traceback."""
    monkeypatch.setenv("CHUTES_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["models"]) == 1
    assert "no connection" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_failure_to_speak_of() -> None:
    """Piped into a program that stops reading, the command ends without a traceback."""
    reader = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reader.wait()
    words = [sys.executable, "-m", "chutes_core.cli", "models", "--offline"]
    assert reader.stdin is not None
    done = subprocess.run(words, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False)
    with suppress(BrokenPipeError):
        reader.stdin.close()
    assert (done.returncode, done.stderr) == (1, "")


def test_a_missing_extra_names_its_remedy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, local says what to install."""
    monkeypatch.setitem(sys.modules, "chutes_local.__main__", None)
    assert main(["local"]) == 1
    assert "pip install 'chutes-connect[local]'" in capsys.readouterr().err


def test_local_hands_its_words_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded Chutes reads its own options."""
    assert main(["local", "--list-faults"]) == 0
    assert "capacity" in capsys.readouterr().out


def test_no_command_is_a_mistake() -> None:
    """Without a command the usage is shown and the status is 2."""
    with pytest.raises(SystemExit, match="2"):
        main([])
