"""``chutes-connect models``: which models there are, and which of them fit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop, described, exit_of
from chutes_cli.out import Out
from chutes_core.errors import ChutesError
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.demands import Demand
    from chutes_cli.options import Commands
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.catalog.model_info import ModelInfo
    from chutes_core.client import ChutesClient

__all__ = ["add", "asked", "chosen"]

_SORTS = ("service", "price", "context", "ttft", "tps", "name")
_FLAGS = {
    "tools": "that call tools",
    "vision": "that take images",
    "reasoning": "that reason",
    "structured": "that follow a JSON schema",
    "tee": "in confidential compute",
    "hot": "that are running now",
    "cold": "that are not running now",
}


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.numbers import count, tokens
    from chutes_cli.options import add_service_options, command
    from chutes_core.catalog.model_info import KINDS

    parser = command(
        commands,
        "models",
        "list models: prices, context window, features, hot or cold, speed",
        usage="[SEARCH|set|unset|refresh|check] [MODEL…] [OPTIONS]",
        run=_run,
        rest="models",
        examples=[
            "models qwen --tools --sort price",
            "models --pick 'tools, <=0.3$, ctx>=100k, tee'",
            "models --pick 'tools, <=2$' --fallback",
            "models --kind image --hot",
            "models set Qwen/Qwen3-32B-TEE,google/gemma-4-31B-turbo-TEE",
            "models refresh",
            "models check --prefill Qwen/Qwen3-32B-TEE",
        ],
    )
    parser.add_argument(
        "search",
        nargs="?",
        metavar="SEARCH",
        help="part of the name; `set` and `unset`: the default model; `refresh` updates the cache, `check` asks the "
        "models",
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="to set, and its fallbacks (without: say what is set); to check (default: every chat model not cold)",
    )
    parser.add_argument("--clear", action="store_true", help="with set: the same as unset")
    only = parser.add_argument_group("only models")
    for name, meaning in _FLAGS.items():
        only.add_argument(f"--{name}", action="store_true", help=meaning)
    only.add_argument("--max-price", type=float, metavar="USD", help="up to this price per million output tokens")
    only.add_argument("--min-context", type=tokens, metavar="TOKENS", help="with at least this context window (100k)")
    only.add_argument("--kind", default="chat", choices=[*KINDS, "all"], help="of this kind (default: chat)")
    only.add_argument("--owner", metavar="NAME", help="of this owner: the part of the name before the slash")
    only.add_argument("--tag", action="append", default=[], metavar="TAG", help="with this tag; may be repeated")
    shown = parser.add_argument_group("output")
    shown.add_argument("--sort", choices=_SORTS, help="order (default: the service's; with --pick: price)")
    shown.add_argument("--limit", type=count, metavar="N", help="show at most N")
    shown.add_argument(
        "--pick",
        metavar="DEMANDS",
        help="print the id of the best model for: tools, vision, !reasoning, tee, <=0.3$, ctx>=100k, ~name, …",
    )
    shown.add_argument(
        "--fallback",
        nargs="?",
        const="python",
        choices=("python", "list"),
        help="with --pick: the best three (or --limit) as a line of Python, or as a list for `chat`",
    )
    shown.add_argument("--offline", action="store_true", help="use the cached list instead of asking the service")
    shown.add_argument(
        "--prefill",
        action="store_true",
        help="with check: whether models continue an answer whose beginning is sent; costs a few short calls each",
    )
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.demands import unmet
    from chutes_cli.options import client

    checks, sets = options.search == "check", options.search in ("set", "unset")
    if options.models and not checks and (not sets or options.clear or options.search == "unset"):
        options.parser.refuse(options.models)
    if options.clear and not sets:
        raise Stop("--clear is for `models set`.", Exit.USAGE)
    if sets:
        return _default(options, out)
    if checks is not options.prefill:
        raise Stop("Use `models check --prefill`, with the names of models or without.", Exit.USAGE)
    if options.fallback and options.kind != "chat":
        raise Stop("A fallback is of chat models: leave out --kind.", Exit.USAGE)
    with client(options, max_retries=0) as service:
        if checks:
            return _check(options.models, service, out)
        if options.search == "refresh":
            return _refresh(service, out)
        catalog = service.catalog if options.offline else asked(service, out)
    kind = None if options.kind == "all" else options.kind
    models = [info for info in catalog if kind is None or info.kind == kind]
    if options.fallback and options.pick is None:
        options.pick = ""
    demands = _demands(options)
    limit = options.limit
    if options.pick is not None:
        limit = limit or (3 if options.fallback else 1)
    found = chosen(models, demands, options.sort or ("price" if options.pick is not None else "service"), limit)
    if not found and demands:
        raise Stop(unmet(models, demands))
    if options.pick is None:
        _print_table(found, catalog, out)
    else:
        _print_pick([info.id for info in found], options.fallback, out)
    return Exit.OK


def _default(options: argparse.Namespace, out: Out) -> int:
    """Store, show or forget the default model."""
    from chutes_cli.commands.aliases import is_alias
    from chutes_cli.defaults import checked, keep, show, unset
    from chutes_cli.options import client

    if options.clear or options.search == "unset":
        unset(out)
        return Exit.OK
    if not options.models:
        return show(out)
    with client(options, max_retries=0) as service:
        catalog = service.catalog if options.offline else asked(service, out)
    keep(checked(options.models, catalog, lambda name: is_alias(name, options)), out)
    return Exit.OK


def _demands(options: argparse.Namespace) -> list[Demand]:
    """Everything that is asked of a model, by options and by ``--pick``."""
    from chutes_cli.demands import WORDS, Demand, limited, named, owned, read_demands, tagged

    found = [Demand(f"--{name}", WORDS[name]) for name in _FLAGS if getattr(options, name)]
    if options.search:
        found.append(Demand(options.search, named(options.search)))
    if options.owner is not None:
        found.append(owned(f"--owner {options.owner}", options.owner))
    found += [Demand(f"--tag {tag}", tagged(tag)) for tag in options.tag]
    if options.max_price is not None:
        found.append(Demand(f"--max-price {options.max_price:g}", limited("out", "<=", options.max_price)))
    if options.min_context is not None:
        found.append(Demand(f"--min-context {options.min_context}", limited("ctx", ">=", options.min_context)))
    try:
        return found + read_demands(options.pick or "")
    except argparse.ArgumentTypeError as error:
        raise Stop(f"--pick: {error}.", Exit.USAGE) from None


def chosen(
    models: Sequence[ModelInfo], demands: Sequence[Demand], order: str, limit: int | None = None
) -> list[ModelInfo]:
    """Return the models that meet the demands, the best first. What is known to be cold comes last.

    >>> from chutes_core.catalog.catalog import Catalog
    >>> from chutes_cli.demands import read_demands
    >>> [info.id for info in chosen(list(Catalog.bundled()), read_demands("tools, vision"), "price", 1)]
    ['google/gemma-4-31B-turbo-TEE']
    """
    from chutes_cli.demands import fitting
    from chutes_core.catalog.query import ordered

    found = fitting(models, demands)
    if order == "name":
        found = sorted(found, key=lambda info: info.id.lower())
    elif order != "service":
        found = sorted(ordered(found, order), key=lambda info: info.hot is False)  # type: ignore[arg-type]
    return found[:limit]


def asked(service: ChutesClient, out: Out) -> Catalog:
    """Fetch the list of models, and what else the service says of them as far as it does."""
    try:
        service.refresh_catalog()
    except ChutesError as error:
        if service.catalog.source != "live":
            raise
        out.note(Cell("note: ", "yellow"), f"hot or cold and speed unknown: {described(error)}")
    return service.catalog


def _refresh(service: ChutesClient, out: Out) -> int:
    from chutes_cli.model_table import changes, models_json, summary
    from chutes_core.catalog.cache import cache_file

    before = service.catalog
    catalog = asked(service, out)
    told = changes(tuple(before), tuple(catalog))
    # The client keeps the list of the service, and not that of another gateway.
    kept = None if service.settings.foreign else cache_file()
    if out.as_json:
        out.data({**models_json(tuple(catalog), catalog), "changes": told, "kept": str(kept) if kept else None})
        return Exit.OK
    for line in told:
        out.line(line)
    where = f"cached in {kept}" if kept else "not cached: this is not the default gateway"
    out.line(f"{summary(tuple(catalog), catalog)}; {where}")
    return Exit.OK


def _check(names: Sequence[str], service: ChutesClient, out: Out) -> int:
    """Measure what models make of the beginning of an answer, and keep it for the catalogue."""
    from chutes_cli.prefill import Finding, findings_json, findings_table, measure
    from chutes_core.catalog.prefill import measured_now, record

    catalog, found = asked(service, out), list[Finding]()
    wanted = [catalog.model(name) for name in names] or [info for info in catalog if info.hot is not False]
    models = [info for info in dict.fromkeys(wanted) if names or info.kind == "chat"]
    if other := next((info for info in models if info.kind != "chat"), None):
        raise Stop(f"{other.id} is not a chat model: it has no answers to continue.", Exit.USAGE)
    kept = None
    try:
        with out.bar(len(models), "asking") as bar:
            for info in models:
                found.append(measure(service, info))
                bar.advance(1)
    finally:  # what was measured was paid for
        known = [measured_now(each.info, each.prefill, each.why) for each in found if each.prefill is not None]
        if known:
            kept = record(known, base_url=service.settings.base_url)
    if out.as_json:
        out.data({"checked": findings_json(found), "kept": str(kept) if kept else None})
    else:
        table, reasons = findings_table(found, out.width)
        out.table(table)
        for reason in reasons:
            out.note(Cell(reason, "dim"))
        good = sum(each.prefill in ("as_is", "thinking_off") for each in found)
        where = "kept beside the cached list" if kept else "nothing was kept"
        out.facts([f"{good} of {len(found)} models continue an answer", where])
    return next((exit_of(each.failure) for each in found if each.failure is not None), Exit.OK)


def _print_table(found: Sequence[ModelInfo], catalog: Catalog, out: Out) -> None:
    from chutes_cli.model_table import models_json, models_table, summary

    if out.as_json:
        out.data(models_json(found, catalog))
        return
    table, legend = models_table(found, out.width)
    out.table(table)
    if legend:
        out.note(Cell(legend, "dim"))
    out.facts(["US dollars per million tokens", *summary(found, catalog).split("; ")])


def _print_pick(ids: Sequence[str], form: str | None, out: Out) -> None:
    from chutes_cli.model_table import fallback_line

    if out.as_json:
        out.data({"models": list(ids), "python": fallback_line(ids), "list": ",".join(ids)})
    elif form == "python":
        out.line(fallback_line(ids))
    elif form == "list":
        out.line(",".join(ids))
    else:
        for name in ids:
            out.line(name)
