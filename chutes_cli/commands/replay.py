"""``chutes-connect replay``: what this package makes of recorded exchanges."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.shown.table import Column, Table

if TYPE_CHECKING:
    from chutes_cli.options import Commands
    from chutes_core.exchanges.replaying import Exchange

__all__ = ["add", "said_of"]

_WIDTH = 60


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import command

    parser = command(
        commands,
        "replay",
        "show what this package makes of recorded exchanges",
        usage="FILE [OPTIONS]",
        run=_run,
        examples=["replay chutes-exchanges.jsonl", "replay bug.jsonl -o tests/gateway/recorded/bug.jsonl"],
    )
    parser.add_argument("file", metavar="FILE", help="what `chutes-connect record` has written")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the exchanges with what comes of them, as a test")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_core.exchanges.replaying import made_of, read_exchanges

    exchanges = read_exchanges(options.file)
    if not exchanges:
        raise Stop(f"{options.file} has no exchange in it: nothing of this package asked the service.")
    results = [None if exchange.sealed else made_of(exchange) for exchange in exchanges]
    rows = [{**each.facts, "ours": ours} for each, ours in zip(exchanges, results, strict=True) if ours is not None]
    if options.output:
        # Like the recording, it has prompts and answers in it.
        with open(options.output, "w", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        out.note(f"{len(rows)} of {len(exchanges)} written to {options.output}.")
    if out.as_json:
        out.data({"exchanges": rows})
    elif not options.output:
        _show(exchanges, results, out)
    return Exit.OK


def _show(exchanges: Sequence[Exchange], results: Sequence[Mapping[str, object] | None], out: Out) -> None:
    rows = [
        [str(number), _asked(exchange), str(exchange.status or ""), exchange.end, said_of(result)]
        for number, (exchange, result) in enumerate(zip(exchanges, results, strict=True), 1)
    ]
    columns = [
        Column("", right=True), Column("asked"), Column("status", right=True), Column("end", drop=1), Column("is"),
    ]  # fmt: skip
    out.table(Table.of(columns, rows))


def _asked(exchange: Exchange) -> str:
    model = exchange.body.get("model")
    if exchange.reader is None or not isinstance(model, str):
        return f"{exchange.send['method']} {exchange.send['path']}"
    return f"{exchange.reader} {model}"


def said_of(result: Mapping[str, object] | None) -> str:
    """Say in a line what a reply is.

    >>> said_of({"error": "capacity", "scope": "target", "retry": "here"})
    'error capacity: scope target, retry here'
    >>> said_of({"text": "Hi", "finish": "stop", "usage": [3, 1, 4], "model": "acme/one"})
    "'Hi', stop, 3 in + 1 out tokens"
    """
    if result is None:
        return "encrypted end to end: only its envelope was recorded"
    if "error" in result:
        after = f", after {_short(result['partial'])}" if "partial" in result else ""
        return f"error {result['error']}: scope {result['scope']}, retry {result['retry']}{after}"
    if "count" in result:
        return f"{result['count']} vectors of {result['width']} dimensions"
    if "value" in result:
        return f"{_short(result['value'])}"
    usage = result["usage"]
    tokens = f"{usage[0]} in + {usage[1]} out tokens" if isinstance(usage, list) else "tokens unknown"
    calls = result.get("calls")
    called = [f"calls {name}" for name, _ in calls] if isinstance(calls, list) else []
    return ", ".join([_short(result["text"]), *called, str(result["finish"]), tokens])


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
