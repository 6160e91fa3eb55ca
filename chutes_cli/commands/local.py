"""``chutes-connect local``: the embedded Chutes, which is an extra and reads its own options."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["add", "described", "embedded", "run_local"]


def add(commands: Commands) -> None:
    """Register the command, for the list of commands; its words go to the embedded Chutes unread."""
    from chutes_cli.options import command

    command(commands, "local", "run the embedded Chutes, to try things without a key", usage="[OPTIONS]", run=_unread)


def _unread(options: argparse.Namespace, out: Out) -> int:
    return run_local([])


@contextmanager
def embedded() -> Iterator[dict[str, str]]:
    """Run an embedded Chutes, and give the variables that lead to it.

    Raises:
        Stop: It is not installed, or cannot start.
    """
    try:
        from chutes_local.backends.backend import BackendError
        from chutes_local.server import serve
    except ImportError as error:
        raise Stop(_remedy(error)) from None
    try:
        server = serve()
    except BackendError as error:
        raise Stop(f"The embedded Chutes cannot start: {error}") from None
    with server:
        yield server.env


def described() -> argparse.ArgumentParser | None:
    """Return the embedded Chutes' own options; None where it is not installed."""
    try:
        from chutes_local.__main__ import parser
    except ImportError:
        return None
    return parser("chutes-connect local")


def _remedy(error: ImportError) -> str:
    return f"the embedded Chutes is an optional extra ({error}): pip install 'chutes-connect[local]'"


def run_local(words: Sequence[str]) -> int:
    """Run the embedded Chutes."""
    # While modules are imported, Ctrl-C as an exception can get lost in the import system: be ended by it instead.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from chutes_local.__main__ import main as run
    except ImportError as error:
        Out().note(Cell("error: ", "red"), _remedy(error))
        return Exit.FAILURE
    finally:
        signal.signal(signal.SIGINT, before)
    return run(words, prog="chutes-connect local")
