"""``chutes-connect init``: a key, a model and a first call, and the lines of code to begin with."""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.checks import Finding
    from chutes_cli.options import Commands
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.client import ChutesClient

__all__ = ["add", "code"]

_WAYS = {
    "apikey": "an API key: it is stored for all your programs",
    "login": "sign in through the browser: this takes an app of your own",
    "env": "the key that CHUTES_API_KEY, or CHUTES_OAUTH_TOKEN, holds",
    "local": "no key: the embedded Chutes, a small model on this machine",
}
_ASKS = "Why is the sky blue?"


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "init",
        "begin: choose key and model, make a first call, see the code",
        usage="[OPTIONS]",
        run=_run,
        examples=[
            "init",
            "init --auth-choice apikey --api-key-stdin --model Qwen/Qwen3-32B-TEE < key.txt",
            "init --auth-choice local --yes",
        ],
    )
    parser.add_argument("--auth-choice", choices=_WAYS, help="where the key comes from (default: asks)")
    parser.add_argument("--model", metavar="A,B", help="the default model, and its fallbacks (default: asks)")
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing: take what is there, or proposed")
    parser.add_argument("--no-call", action="store_true", help="make no call (it costs a fraction of a cent)")
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    asks = not options.yes and not out.as_json
    way = options.auth_choice or _way(options, asks, out)
    if way == "local":
        from chutes_cli.commands.local import embedded

        out.note("Starting the embedded Chutes; the first time it fetches about 180 MB.")
        with embedded() as env, _environment(env):
            return _begin(options, way, "the embedded Chutes needs none", asks, out)
    return _begin(options, way, _key(options, way, asks, out), asks, out)


def _begin(options: argparse.Namespace, way: str, key: str, asks: bool, out: Out) -> int:
    from chutes_cli.commands.doctor import call_one
    from chutes_cli.defaults import in_words
    from chutes_cli.options import client

    with client(options, max_retries=0, listed=True) as service:
        names, kept = _model(service, options, way, asks, out)
        found = None if options.no_call else call_one(service, names[0])[0]
    lines = code(several=len(names) > 1)
    if out.as_json:
        call = None if found is None else found.to_dict()
        out.data({"auth": way, "models": names, "model_from": kept, "call": call, "code": lines})
    else:
        out.line(Cell("key    ", "bold"), key)
        out.line(Cell("model  ", "bold"), f"{in_words(names)}, {kept}")
        _show(found, way, out)
        for title, block in lines.items() if found is None or found.status is not Exit.KEY else ():
            out.line()
            out.line(Cell(title, "bold"))
            out.line(textwrap.indent(block, "    "))
        if way == "local":
            out.line("\nRun it against the embedded Chutes: chutes-connect local -- python app.py")
    return Exit.OK if found is None or found.state != "fail" else found.status


def _show(found: Finding | None, way: str, out: Out) -> None:
    if found is not None:
        other = found.status is Exit.KEY and way in ("apikey", "login")
        told = ". ".join(filter(None, [found.said, found.remedy]))
        told += " `chutes-connect init --auth-choice apikey` stores another key." if other else ""
        wrapped = textwrap.wrap(told, max((out.width or 10_000) - 7, 20))
        for place, line in enumerate(wrapped):
            out.line(Cell("call   " if place == 0 else "       ", "bold"), line)


def code(*, several: bool) -> dict[str, str]:
    """Return the lines to begin with, for each framework; of a fallback where there are several models.

    >>> print(code(several=False)["With LangChain:"])
    from langchain_chutes import ChatChutes
    <BLANKLINE>
    model = ChatChutes()
    for chunk in model.stream("Why is the sky blue?"):
        print(chunk.text, end="", flush=True)
    """
    langchain, llama, client = ("ChutesFallback", "ChutesFallback", "FallbackClient")
    if not several:
        langchain, llama, client = ("ChatChutes", "Chutes", "ChutesClient")
    return {
        "With LangChain:": f"from langchain_chutes import {langchain}\n\nmodel = {langchain}()\n"
        f'for chunk in model.stream("{_ASKS}"):\n    print(chunk.text, end="", flush=True)',
        "With LlamaIndex:": f"from llama_index_chutes import {llama}\n\nllm = {llama}()\n"
        f'for chunk in llm.stream_complete("{_ASKS}"):\n    print(chunk.delta, end="", flush=True)',
        "Without either:": f"from chutes_core import {client}\n\nclient = {client}()\n"
        f'reply = client.chat([{{"role": "user", "content": "{_ASKS}"}}])\nprint(reply.content)',
    }


@contextmanager
def _environment(env: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.pop("CHUTES_OAUTH_TOKEN", None)  # it would win over the key
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# ------------------------------------------------------------------------------------------- the key


def _way(options: argparse.Namespace, asks: bool, out: Out) -> str:
    """Take the key that is there; ask where there is none."""
    from chutes_cli.menu import choose
    from chutes_cli.options import settings
    from chutes_core.auth import Credential
    from chutes_core.errors import MissingKeyError

    if options.api_key_stdin:
        return "apikey"
    try:
        Credential(service=settings(options).management_url).secret()
    except MissingKeyError:
        if not asks:
            raise Stop("There is no key yet: say --auth-choice apikey, login, env or local.", Exit.KEY) from None
        flag = "--auth-choice"
        return list(_WAYS)[choose("Where does the key come from?", list(_WAYS.values()), 0, out, flag=flag)]
    return "env" if _variable() else "login"


def _variable() -> str | None:
    from chutes_core.secrets.secret import ENVIRONMENT

    return next((name for name in ENVIRONMENT if os.environ.get(name, "").strip()), None)


def _key(options: argparse.Namespace, way: str, asks: bool, out: Out) -> str:
    """Have a key, and say where it is."""
    from chutes_cli.commands.login import signed_in
    from chutes_cli.options import stdin_key

    if way == "env":
        if (name := _variable()) is None:
            raise Stop("CHUTES_API_KEY is not set: set it, or say another --auth-choice.", Exit.KEY)
        return f"from {name}"
    told = signed_in(options, way, stdin_key(options), out, asks=asks)
    name = _variable()
    return f"{told}; {name} is set, and wins" if name else told


# ----------------------------------------------------------------------------------------- the model


def _model(service: ChutesClient, options: argparse.Namespace, way: str, asks: bool, out: Out) -> tuple[list[str], str]:
    """Choose the default model, and keep it, except for the embedded Chutes; say where it comes from."""
    from chutes_cli.commands.aliases import is_alias
    from chutes_cli.commands.models import asked
    from chutes_cli.defaults import checked, source
    from chutes_core.default_model import VARIABLE, DefaultModel, find, store

    catalog, before = asked(service, out), find()
    if options.model is not None:
        names = checked([options.model], catalog, lambda name: is_alias(name, options))
    elif asks:
        names = _picked(catalog, before, out)
    elif before is not None:
        names = list(before.names)
    else:
        names = _ranked(catalog)[:1]
    if way == "local":
        return names, "chosen for this call alone"
    if before is not None and tuple(names) == before.names:
        return names, source(before)
    told = source(DefaultModel(tuple(names), str(store(names))))
    wins = before is not None and before.source == VARIABLE
    return names, f"{told}; but {VARIABLE} is set, and wins" if wins else told


def _ranked(catalog: Catalog) -> list[str]:
    """The chat models, those first that are hot and call tools, the cheapest first among them."""
    from chutes_cli.commands.models import chosen

    found = chosen(catalog.select(kind="chat"), [], "price")
    if not found:
        raise Stop("No chat model is listed: say --model.")
    return [info.id for info in sorted(found, key=lambda info: not (info.supports("tools") and info.hot))]


def _picked(catalog: Catalog, before: object, out: Out) -> list[str]:
    from chutes_cli.menu import choose
    from chutes_cli.model_table import models_table
    from chutes_core.default_model import DefaultModel
    from chutes_core.shown.table import laid_out

    ids = _ranked(catalog)
    names: Sequence[str] = before.names if isinstance(before, DefaultModel) else ()
    table, legend = models_table([catalog.model(name) for name in ids], (out.width or 80) - 6)
    title, *rows = ["".join(cell.text for cell in line).rstrip() for line in laid_out(table)]
    at = ids.index(names[0]) if names and names[0] in ids else 0
    if legend:
        out.note(Cell(legend, "dim"))
    place = choose("Which model is the default one?", rows, at, out, header=title, flag="--model")
    return list(names) if names and names[0] == ids[place] else [ids[place]]
