"""``chutes-connect record``: run a program, and keep what it and the service say to each other."""

from __future__ import annotations

import argparse
import os
import subprocess
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["add"]

_DEFAULT = "chutes-exchanges.jsonl"


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import command

    parser = command(
        commands,
        "record",
        "run a program and record its exchanges with the service",
        usage="[OPTIONS] -- PROGRAM [ARGUMENTS…]",
        run=_run,
        examples=["record -- python app.py", "record -o bug.jsonl --no-content -- pytest -m live"],
    )
    parser.add_argument("program", nargs="+", metavar="PROGRAM", help="what to run; it uses this package")
    parser.add_argument(
        "-o", "--output", default=_DEFAULT, metavar="FILE", help=f"where to; lines are added (default: {_DEFAULT})"
    )
    parser.add_argument(
        "--no-content", action="store_true", help="leave out prompts and answers: as many letters take their place"
    )


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_core.exchanges.asked import CONTENT, FILE
    from chutes_core.exchanges.recorder import Recorder, told
    from chutes_core.exchanges.replaying import read_exchanges

    path, content = os.path.abspath(options.output), not options.no_content
    Recorder(path, content)  # refuses a file that cannot be written before anything is run
    before = len(read_exchanges(path))
    out.note(Cell("note: ", "yellow"), told(options.output, content))
    environment = {**os.environ, FILE: path, CONTENT: "1" if content else "0"}
    try:
        child = subprocess.Popen(options.program, env=environment)
    except OSError as error:
        raise Stop(f"{options.program[0]}: {error.strerror}.", Exit.USAGE) from None
    while True:
        try:
            status = child.wait()
            break
        except KeyboardInterrupt:  # which the program got too; it ends when it wants to
            continue
    made = len(read_exchanges(path)) - before
    if not made:
        out.note("No exchange was recorded: only the clients of this package record theirs.")
    else:
        out.note(f"{made} recorded; see them with: chutes-connect replay {options.output}")
    return status if status >= 0 else 128 - status
