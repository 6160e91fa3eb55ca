"""The embedded Chutes for other programs: one that runs against a server of its own, and a shell's variables."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from urllib.request import ProxyHandler, build_opener

from chutes_local.backends.backend import BackendError
from chutes_local.server import LocalChutes, environment, site

__all__ = ["exports", "for_program", "run_program", "running"]

MODEL = "CHUTES_MODEL"
TOKEN = "CHUTES_LOCAL_TOKEN"
_TOKEN = "CHUTES_OAUTH_TOKEN"  # it would win over the key
_FORWARDED = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
_TYPED = {getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)}
"""What a terminal sends to every program in the foreground by itself."""


def for_program(url: str, models: Sequence[str], env: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that lead a program to the server at ``url``; None for one that it may not have.

    Without a model of the user's own, the server's first is the default one.

    >>> for_program("http://127.0.0.1:8765", ["acme/one"], {})["CHUTES_MODEL"]
    'acme/one'
    """
    told: dict[str, str | None] = {**environment(url)}
    if models and not env.get(MODEL, "").strip():
        told[MODEL] = models[0]
    if env.get(_TOKEN):
        told[_TOKEN] = None
    return told


def exports(told: Mapping[str, str | None]) -> str:
    r"""Write the variables as a shell reads them, fish too, which has no ``unset``: an empty one is as good as none.

    >>> exports({"CHUTES_MODEL": "acme/one", "CHUTES_OAUTH_TOKEN": None})
    'export CHUTES_MODEL=acme/one\nexport CHUTES_OAUTH_TOKEN='
    """
    return "\n".join(f"export {name}={shlex.quote(value) if value else ''}" for name, value in told.items())


def running(host: str, port: int) -> tuple[str, list[str]] | None:
    """Return the address of the server that runs there, and its models; None if there is none."""
    url = site(host, port)
    with suppress(OSError, ValueError):
        with build_opener(ProxyHandler({})).open(f"{url}/local", timeout=10) as reply:
            told = json.loads(reply.read(1_000_000))
        if isinstance(told, dict) and str(told.get("what", "")).startswith("the embedded Chutes"):
            return url, [str(name) for name in told.get("models", [])]
    return None


def run_program(server: LocalChutes, words: Sequence[str], prog: str) -> int:
    """Run a program against ``server``, which is stopped when the program has ended; returns the program's status.

    Signals are passed on, as are the standard streams. A program that a signal ended has 128 and its number for status,
    as in a shell.

    Raises:
        BackendError: The server cannot start.
        OSError: The server cannot listen.
    """
    with _passing_on(server) as child:
        try:
            with server:
                status = _run(child, server, words, prog)
        except (BackendError, OSError):
            if child.asked is None:
                raise
            status = -child.asked  # the server was stopped while it started
    return status if status >= 0 else 128 - status


def _run(child: _Child, server: LocalChutes, words: Sequence[str], prog: str) -> int:
    if child.asked is not None:
        return -child.asked
    told = for_program(server.url, [chute.name for chute in server.fleet], os.environ)
    env = {name: value for name, value in {**os.environ, **told, TOKEN: server.token}.items() if value is not None}
    print(f"{prog}: this is the embedded Chutes on {server.world.backend.name}", file=sys.stderr, flush=True)
    try:
        return child.run(words, env)
    except OSError as error:
        print(f"error: {words[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


class _Child:
    """The program, and what it was sent before it had begun."""

    def __init__(self, server: LocalChutes) -> None:
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self.asked: int | None = None

    def run(self, words: Sequence[str], env: Mapping[str, str]) -> int:
        self._process = subprocess.Popen(list(words), env=env)
        if self.asked is not None:  # it came while the program was being started
            self._process.send_signal(self.asked)
        return self._process.wait()

    def signalled(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            self.asked = number
            self._server.interrupt()
        elif number not in _TYPED or not _in_foreground():
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


@contextmanager
def _passing_on(server: LocalChutes) -> Iterator[_Child]:
    child = _Child(server)
    before = {number: signal.signal(number, child.signalled) for number in _FORWARDED}
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether Ctrl-C at the terminal reaches the program without us."""
    for stream in (0, 1, 2):
        with suppress(OSError, AttributeError):
            return os.tcgetpgrp(stream) == os.getpgrp()
    return False
