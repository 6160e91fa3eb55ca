"""``chutes-connect warmup``: wake a cold model, and say when it is hot."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit
from chutes_cli.out import Out
from chutes_core.shown.numbers import seconds
from chutes_core.shown.table import Cell, in_one_line

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "warmup",
        "wake a cold model and wait until it is hot",
        usage="MODEL [OPTIONS]",
        run=_run,
        examples=["warmup Qwen/Qwen3-32B-TEE --timeout 300"],
    )
    parser.add_argument("model", metavar="MODEL", help="its name or chute id")
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.options import client

    started = time.monotonic()
    told: list[dict[str, object]] = []
    with client(options) as service:
        info = service.catalog.get(options.model)
        name = info.id if info is not None else options.model
        for status in service.warm_up(name):
            new = not told or (status.status, status.log) != (told[-1]["status"], told[-1]["log"])
            if new:  # the service says the same again and again while it waits
                passed = time.monotonic() - started
                told.append({"status": status.status, "log": status.log, "seconds": round(passed, 3)})
                if not out.as_json:
                    shown = Cell(f"{in_one_line(status.status):<5}", "green" if status.hot else "yellow")
                    out.note(shown, f" {in_one_line(status.log)}")
    passed = time.monotonic() - started
    if out.as_json:
        out.data({"model": name, "hot": True, "seconds": round(passed, 3), "said": told})
    else:
        out.line(f"{name} is hot after {seconds(passed)}.")
    return Exit.OK
