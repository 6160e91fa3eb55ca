"""``chutes-connect local``: the embedded Chutes, which is an extra and reads its own options."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit
from chutes_cli.out import Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["add", "run_local"]


def add(commands: Commands) -> None:
    """Register the command, for the list of commands; its words go to the embedded Chutes unread."""
    from chutes_cli.options import command

    command(commands, "local", "run the embedded Chutes, to try things without a key", usage="[OPTIONS]", run=_unread)


def _unread(options: argparse.Namespace, out: Out) -> int:
    return run_local([])


def run_local(words: Sequence[str]) -> int:
    """Run the embedded Chutes."""
    # While modules are imported, Ctrl-C as an exception can get lost in the import system: be ended by it instead.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from chutes_local.__main__ import main as run
    except ImportError as error:
        remedy = f"the embedded Chutes is an optional extra ({error}): pip install 'chutes-connect[local]'"
        Out().note(Cell("error: ", "red"), remedy)
        return Exit.FAILURE
    finally:
        signal.signal(signal.SIGINT, before)
    return run(words, prog="chutes-connect local")
