"""``chutes-connect aliases``: names of your own for lists of models, which the gateway works through."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.account import rows
from chutes_core.errors import ChutesError, Kind
from chutes_core.failures.reading import failure
from chutes_core.shown.table import Column, Table

if TYPE_CHECKING:
    from chutes_cli.exchange import Answer
    from chutes_cli.options import Commands
    from chutes_core.catalog.catalog import Catalog

__all__ = ["Alias", "add", "alias_table", "body_of", "is_alias", "parse_aliases"]

_NAME = re.compile(r"[!-9;-~]{1,64}")
_MOST = 20


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of your own, and the chute ids it stands for, in order."""

    name: str
    chute_ids: tuple[str, ...]
    updated_at: str | None = None


def parse_aliases(value: object) -> list[Alias]:
    """Read the service's list, or the one alias that it answers with.

    >>> parse_aliases([{"alias": "fast", "chute_ids": ["c1"], "updated_at": "2026-08-22T00:00:00+00:00"}])
    [Alias(name='fast', chute_ids=('c1',), updated_at='2026-08-22T00:00:00+00:00')]
    """
    try:
        listed = rows([value] if isinstance(value, Mapping) else value)
    except ValueError as problem:
        raise failure(Kind.MALFORMED, f"/model_aliases/: {problem}") from None
    named = ((row, _text(row, "alias")) for row in listed)
    return [Alias(name, _ids(row), _text(row, "updated_at")) for row, name in named if name is not None]


def _ids(row: Mapping[str, object]) -> tuple[str, ...]:
    ids = row.get("chute_ids")
    return tuple(map(str, ids)) if isinstance(ids, list) else ()


def _text(row: Mapping[str, object], name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) else None


def body_of(name: str, models: Sequence[str], catalog: Catalog) -> dict[str, object]:
    """Make the request for an alias: the service wants the ids of chutes, people know models by name.

    >>> from chutes_core.catalog.catalog import Catalog
    >>> body_of("fast", ["Qwen/Qwen3-32B"], Catalog.bundled())
    {'alias': 'fast', 'chute_ids': ['ac059e33-eb27-541c-b9a9-24b214036475']}
    """
    if not _NAME.fullmatch(name):
        raise Stop(f"{name!r} is not a valid alias: use 1 to 64 characters, no spaces or colons.", Exit.USAGE)
    ids = dict.fromkeys(_chute_id(model, catalog) for model in models)
    if not 1 <= len(ids) <= _MOST:
        raise Stop(f"An alias stands for 1 to {_MOST} models, not {len(ids)}.", Exit.USAGE)
    return {"alias": name.lower(), "chute_ids": list(ids)}


def _chute_id(model: str, catalog: Catalog) -> str:
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", model.lower()):
        return model.lower()
    info = catalog.model(model)
    if info.chute_id is None:
        raise Stop(f"The chute id of {info.id} is not in the catalogue: give the id itself.")
    return info.chute_id


def alias_table(found: Sequence[Alias], names: Mapping[str, str]) -> Table:
    """Make the table: an alias, and the models it stands for, one in a line."""
    lines = [
        [alias.name if place == 0 else "", names.get(chute_id, chute_id)]
        for alias in found
        for place, chute_id in enumerate(alias.chute_ids or ("nothing",))
    ]
    return Table.of([Column("alias"), Column("models, in order")], lines)


def _plain(alias: Alias, names: Mapping[str, str]) -> dict[str, object]:
    models = [names.get(chute_id) for chute_id in alias.chute_ids]
    return {"alias": alias.name, "models": models, "chute_ids": list(alias.chute_ids), "updated_at": alias.updated_at}


def is_alias(name: str, options: argparse.Namespace) -> bool:
    """Ask the service whether the account has an alias of this name; no, where it does not say."""
    with suppress(ChutesError, Stop):
        answer = _exchanged("GET", "", options)
        return any(alias.name == name.lower() for alias in parse_aliases(answer.value() or []))
    return False


def _exchanged(method: str, path: str, options: argparse.Namespace, body: dict[str, object] | None = None) -> Answer:
    from chutes_cli.exchange import exchange
    from chutes_cli.options import key, settings

    url = f"{settings(options).management_url}/model_aliases/{path}"
    return exchange(method, url, secret=key(options), body=body, timeout=options.timeout)


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "aliases",
        "list, create and delete aliases: names for lists of models",
        usage="[list | create NAME MODEL… | delete NAME] [OPTIONS]",
        run=_run,
        rest="models",
        examples=["aliases create fast Qwen/Qwen3-32B-TEE google/gemma-4-31B-turbo-TEE", "aliases delete fast"],
    )
    parser.add_argument("action", nargs="?", default="list", choices=("list", "create", "delete"), help="default: list")
    parser.add_argument("alias", nargs="?", metavar="NAME", help="the alias")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="names or chute ids, in order of preference")
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.commands.account import names_of
    from chutes_cli.options import catalog_at_hand

    _check(options)
    catalog, path, method, body = catalog_at_hand(options), "", "GET", None
    if options.action == "create":
        method, body = "POST", body_of(options.alias, options.models, catalog)
    elif options.action == "delete":
        method, path = "DELETE", quote(options.alias.lower(), safe="")
    answer = _exchanged(method, path, options, body)
    if answer.status == 404 and options.action == "delete":
        raise Stop(f"There is no alias {options.alias!r}.")
    found = parse_aliases(answer.value() or [])
    names = names_of(catalog)
    if out.as_json:
        shown = [_plain(each, names) for each in found]
        out.data({"action": options.action, "aliases": shown})
    elif options.action == "delete":
        out.line(f"Deleted {options.alias.lower()}.")
    elif not found:
        out.line("No aliases.")
    else:
        out.table(alias_table(found, names))
    if options.action != "list" and not out.as_json:
        out.note("The change can take up to two minutes to take effect.")
    return Exit.OK


def _check(options: argparse.Namespace) -> None:
    """Refuse words that do not go together."""
    needs = {"list": (0, 0), "create": (1, 1), "delete": (1, 0)}[options.action]
    has = (int(options.alias is not None), min(len(options.models), 1))
    if has != needs:
        raise Stop("Use `aliases list`, `aliases create NAME MODEL…` or `aliases delete NAME`.", Exit.USAGE)
