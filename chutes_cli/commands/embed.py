"""``chutes-connect embed``: texts to vectors."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out, as_json
from chutes_core.shown.numbers import plural, priced
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.options import Commands
    from chutes_core.calls.embeddings import Embeddings
    from chutes_core.catalog.catalog import Catalog

__all__ = ["add", "as_query", "rows", "texts_of"]

_SHOWN = 4


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.numbers import count
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "embed",
        "turn texts into vectors",
        usage="MODEL [TEXT… | -] [OPTIONS]",
        run=_run,
        rest="texts",
        examples=[
            "embed Qwen/Qwen3-Embedding-8B-TEE 'a text' 'another'",
            "embed Qwen/Qwen3-Embedding-8B-TEE --file lines.txt --output vectors.npy",
            "embed Qwen/Qwen3-Embedding-8B-TEE --query 'when was the bridge built?' > query.jsonl",
        ],
    )
    parser.add_argument("model", metavar="MODEL", help="an embedding model")
    parser.add_argument("texts", nargs="*", default=(), metavar="TEXT", help="texts; - reads stdin, one text per line")
    parser.add_argument("--file", action="append", default=[], metavar="FILE", help="texts, one per line")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this .npy (a matrix) or .jsonl file")
    parser.add_argument("--query", action="store_true", help="texts are queries: add the model's instruction")
    parser.add_argument("--dimensions", type=count, metavar="N", help="length of a vector")
    parser.add_argument("--batch-size", type=count, default=32, metavar="N", help="texts per request (32)")
    parser.add_argument("--concurrency", type=count, default=3, metavar="N", help="parallel requests (3)")
    add_service_options(parser)


def texts_of(words: Sequence[str], lines: Iterable[str], more: Iterable[str]) -> list[str]:
    r"""Collect the texts: the words, with the lines of standard input where ``-`` stands, and those of files.

    >>> texts_of(["a", "-", "b"], ["x\n", "\n", "y\n"], ["z\n"])
    ['a', 'x', 'y', 'b', 'z']
    """
    found: list[str] = []
    for word in words:
        found += _filled(lines) if word == "-" else [word]
    return found + _filled(more)


def _filled(lines: Iterable[str]) -> list[str]:
    return [text for line in lines if (text := line.rstrip("\r\n")).strip()]


def as_query(texts: Sequence[str], model: str, catalog: Catalog) -> list[str]:
    r"""Put what the model's template expects around queries.

    >>> from chutes_core.catalog.catalog import Catalog
    >>> as_query(["When?"], "Qwen/Qwen3-Embedding-8B-TEE", Catalog.bundled())
    ['Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: When?']
    """
    from chutes_core.catalog.traits import traits_for

    info = catalog.get(model)
    template = (info.traits if info is not None else traits_for(model)).query_instruction
    if template is None:
        raise Stop(f"{model} has no known instruction for queries: leave out --query.", Exit.USAGE)
    task = "Given a web search query, retrieve relevant passages that answer the query"
    return [template.replace("{task}", task).replace("{query}", text) for text in texts]


def rows(texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> list[dict[str, object]]:
    """Give each vector with its text, as plain data."""
    return [
        {"index": index, "text": text, "embedding": list(vector)}
        for index, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.options import client, stdin_key

    stdin_key(options)  # the first line, before the rest is texts
    piped = sys.stdin is not None and not sys.stdin.isatty()
    words = options.texts or (["-"] if piped and not options.file else [])
    more = [line for name in options.file for line in Path(name).read_text("utf-8").splitlines()]
    texts = texts_of(words, sys.stdin if "-" in words else [], more)
    if not texts:
        raise Stop("There is no text: give some, or - to read standard input, or --file.", Exit.USAGE)
    if options.output:
        _check_output(options.output)
    long = len(texts) > options.batch_size
    with client(options) as service, out.bar(len(texts) if long else 0, "texts") as bar:
        sent = as_query(texts, options.model, service.catalog) if options.query else texts
        found = service.embed(
            sent,
            model=options.model,
            dimensions=options.dimensions,
            batch_size=options.batch_size,
            concurrency=options.concurrency,
            on_batch=bar.advance,
        )
        totals = service.ledger.totals()
    cost = None if totals.unpriced_calls else totals.cost
    _write(texts, found, cost, options, out)
    return Exit.OK


def _check_output(name: str) -> None:
    """Object before anything is paid for."""
    if not name.endswith((".npy", ".jsonl")):
        raise Stop("--output must end in .npy or .jsonl.", Exit.USAGE)
    if not Path(name).parent.is_dir():
        raise Stop(f"There is no folder {Path(name).parent} for --output.", Exit.USAGE)


def _write(texts: Sequence[str], found: Embeddings, cost: float | None, options: argparse.Namespace, out: Out) -> None:
    from chutes_cli.answers import usage_json
    from chutes_cli.npy import npy

    size = len(found.vectors[0])
    listed = rows(texts, found.vectors)
    if options.output and options.output.endswith(".npy"):
        Path(options.output).write_bytes(npy(found.vectors))
    elif options.output:
        Path(options.output).write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in listed), "utf-8")
    if out.as_json:
        told = {"model": found.model, "dimensions": size, "texts": len(texts), "usage": usage_json(found.usage)}
        kept = {"output": options.output} if options.output else {"embeddings": listed}
        out.data({**told, "cost": cost, **kept})
        return
    if not options.output:
        for row, vector in zip(listed, found.vectors, strict=True):
            if out.is_terminal("out"):  # not four thousand numbers
                first = ", ".join(f"{number:.3g}" for number in vector[:_SHOWN])
                out.line(f"[{first}, … {size:,} numbers]  ", Cell(texts[int(str(row["index"]))], "dim"))
            else:
                out.line(as_json(row))
    used = "? tokens" if found.usage is None else plural(found.usage.prompt_tokens, "token")
    where = f" in {options.output}" if options.output else ""
    parts = [
        found.model or options.model,
        plural(len(texts), "text"),
        f"{size:,} dimensions{where}",
        used,
        priced(cost),
    ]
    out.facts(parts)
