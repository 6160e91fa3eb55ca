"""The command as a user runs it: its words, its input, its two streams and its status."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chutes_cli import main
from chutes_cli.out import Out
from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local

__all__ = ["Ran", "Run", "chutes_faults", "chutes_local"]

MODEL = "Qwen/Qwen3-32B-TEE"
OTHER = "google/gemma-4-31B-turbo-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
SAID = "This is the echo backend, not a model. You said: "
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Ran:
    """What a run of the command came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def error(self) -> Any:
        """The failure that --json reports."""
        return json.loads(self.err.splitlines()[-1])["error"]


class Stream(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command: ``run("chat", MODEL, stdin="Hi", terminal=True, width=80, env={…})``."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *args, **kwargs: str(tmp_path / "cache"))
    monkeypatch.setattr("platformdirs.user_state_dir", lambda *args, **kwargs: str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def running(
        *words: str,
        stdin: str = "",
        terminal: bool = False,
        together: bool = False,
        width: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Ran:
        out, err = Stream(terminal=terminal), Stream(terminal=terminal)
        err = out if together else err
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdin", Stream(stdin, terminal=terminal and not stdin))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                status = main(words, out=Out(width=width))
            except SystemExit as ended:
                status = int(ended.code or 0)
        return Ran(status, out.getvalue(), err.getvalue())

    return running


@pytest.fixture
def service(chutes_local: LocalChutes, chutes_faults: object, monkeypatch: pytest.MonkeyPatch) -> LocalChutes:
    """The embedded Chutes, as new, and the variables that lead to it."""
    for name, value in chutes_local.env.items():
        monkeypatch.setenv(name, value)
    return chutes_local
