"""``chutes-connect doctor``: is everything in order, and what to do where it is not."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chutes_cli.exits import Stop, described, exit_of
from chutes_cli.out import Out
from chutes_core.errors import (
    APIError,
    AuthenticationError,
    CapacityError,
    ChutesError,
    ColdModelError,
    Kind,
    PermissionDeniedError,
)
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.checks import Finding
    from chutes_cli.exchange import Answer
    from chutes_cli.options import Commands
    from chutes_core.client import ChutesClient
    from chutes_core.secrets.secret import Secret

__all__ = ["add", "call_one"]

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "dim"}
_INDENT = 17
_TRIED = 3
_OF_THE_MODEL = (Kind.TEE_PAYMENT, Kind.NOT_INCLUDED, Kind.ACCOUNT_LIMIT)  # the account may yet ask another


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "doctor",
        "check key, hosts, clock, versions and account, and make a small call",
        usage="[OPTIONS]",
        run=_run,
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="for the call (default: the default model, or the cheapest hot one)"
    )
    parser.add_argument("--no-call", action="store_true", help="make no call (it costs a fraction of a cent)")
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.checks import exit_of_all
    from chutes_cli.options import client

    found: list[Finding] = []
    with client(options, max_retries=0, listed=True) as service:
        for finding in _findings(service, options):
            found.append(finding)
            if not out.as_json:
                _show(finding, out)
    if out.as_json:
        out.data({"ok": all(each.state != "fail" for each in found), "checks": [each.to_dict() for each in found]})
    return exit_of_all(found)


def _show(finding: Finding, out: Out) -> None:
    from textwrap import wrap

    room = max((out.width or 10_000) - _INDENT, 20)
    said = wrap(finding.said, room, break_long_words=False, break_on_hyphens=False)
    remedy = wrap(finding.remedy, room, break_long_words=False, break_on_hyphens=False)
    state = Cell(f"{finding.state:<5}", _COLOURS[finding.state])
    out.line(state, f"{finding.check:<11} {said[0]}")
    for line in said[1:]:
        out.line(f"{'':{_INDENT}}{line}")
    for line in remedy:
        out.line(f"{'':{_INDENT}}", Cell(line, "bold"))


def _findings(service: ChutesClient, options: argparse.Namespace) -> Iterator[Finding]:
    from chutes_cli import checks

    secret, finding = _key(options)
    yield finding
    if secret is not None:
        finding = checks.destination(secret, _addresses(service, options))
        yield finding
        secret = secret if finding.state == "ok" else None
    chat = yield from _host("chat", f"{service.settings.base_url}/models", service.settings.base_url)
    yield from _host("embeddings", *_embedding_host(service))
    yield from _host("management", f"{service.settings.management_url}/ping", service.settings.management_url)
    if chat is not None:
        yield checks.clock(chat.headers.get("date"), time.time())
    yield checks.versions({name: _version(name) for name in ("chutes-connect", *checks.PACKAGES)})
    default, finding = _default(service, options)
    yield finding
    if secret is not None and chat is not None:
        yield _account(service)
        if not options.no_call:
            yield _call(service, options.model or default)


def _key(options: argparse.Namespace) -> tuple[Secret | None, Finding]:
    from chutes_cli import checks
    from chutes_cli import options as given
    from chutes_core.secrets.secret import ENVIRONMENT

    source = next((name for name in ENVIRONMENT if os.environ.get(name, "").strip()), "the login")
    if options.api_key_stdin:
        source = "standard input"
    try:
        secret = given.key(options)
    except (ChutesError, Stop) as error:
        return None, checks.key(None, source, described(error))
    return secret, checks.key(secret, source)


def _default(service: ChutesClient, options: argparse.Namespace) -> tuple[str | None, Finding]:
    """Look at the default model; for the call too, where it can be asked."""
    from chutes_cli import checks
    from chutes_cli.commands.aliases import is_alias
    from chutes_core.default_model import find

    try:
        found = find()
    except ChutesError as error:
        return None, checks.default_model(None, str(error))

    def known(name: str) -> bool:
        return name in service.catalog or is_alias(name, options)

    return None if found is None else found.names[0], checks.default_model(found, known=known)


def _addresses(service: ChutesClient, options: argparse.Namespace) -> list[tuple[str, str]]:
    """The addresses that get the key, and what named each."""
    found = {
        "base_url": service.settings.base_url,
        "embedding_base_url": _embedding_host(service)[1],
        "management_url": service.settings.management_url,
    }
    return [(url, _named_by(name, options)) for name, url in found.items()]


def _named_by(name: str, options: argparse.Namespace) -> str:
    if getattr(options, name):
        return f"--{name.replace('_', '-')}"
    variable = f"CHUTES_{name.upper()}"
    return variable if os.environ.get(variable) else "default"


def _embedding_host(service: ChutesClient) -> tuple[str, str]:
    """The address to ask, and the one to show: of the first embedding model, where nothing else was chosen."""
    from chutes_core.settings import EMBEDDING_BASE_URL

    chosen = service.settings.embedding_base_url
    if chosen is None and service.settings.foreign:
        chosen = service.settings.base_url
    hosts = (info.host for info in service.catalog.select(kind="embedding") if info.host)
    url = chosen or next(hosts, EMBEDDING_BASE_URL)
    return f"{url}/models", url


def _host(name: str, url: str, shown: str) -> Generator[Finding, None, Answer | None]:
    from chutes_cli import checks
    from chutes_cli.exchange import exchange

    try:
        answer = exchange("GET", url, timeout=15.0)
    except APIError as error:
        yield checks.host(name, shown, None, None, _why(name, error))
        return None
    yield checks.host(name, shown, answer.status, answer.seconds)
    return answer


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _account(service: ChutesClient) -> Finding:
    from chutes_cli import checks
    from chutes_cli.commands.account import fetched

    try:
        return checks.money(fetched(service), datetime.now(UTC))
    except (AuthenticationError, PermissionDeniedError):
        told = "Either it was rejected, or it is limited to model calls, which is fine."
        return checks.Finding("account", "warn", "this key may not read the account", told)
    except ChutesError as error:
        return checks.Finding("account", "warn", "the account cannot be read", described(error))


def _call(service: ChutesClient, model: str | None) -> Finding:
    """Ask for a word or two; a model that is busy or cold gives way to the next."""
    finding = _no_model()
    for name in [model] if model else _cheapest(service):
        finding, over = call_one(service, name)
        if over:
            return finding
    return finding


def call_one(service: ChutesClient, name: str) -> tuple[Finding, bool]:
    """Ask one model for a word or two; False where another one should be asked."""
    from chutes_cli import checks
    from chutes_cli.answers import rate, summed_up, told_of
    from chutes_cli.asking import Question
    from chutes_core.calls.clock import SystemClock

    hello = [{"role": "user", "content": "Say OK."}]
    asked = Question(service, [name], hello, {"max_tokens": 16}, clock=SystemClock())
    try:
        for _ in asked:
            pass
    except (CapacityError, ColdModelError) as error:
        return checks.Finding(
            "call", "warn", f"{name} cannot answer now", _why(name, error), facts={"model": name}
        ), False
    except ChutesError as error:
        finding = checks.Finding(
            "call", "fail", f"{name} did not answer", _why(name, error), exit_of(error), {"model": name}
        )
        return finding, not (isinstance(error, APIError) and error.kind in _OF_THE_MODEL)
    answer = asked.answered
    meta = answer.reply.meta
    facts = {"model": answer.reply.model, "ttft": asked.meter.ttft, "cost": answer.cost, **told_of(meta)}
    said = [*summed_up(answer), *filter(None, [rate(meta.rate_limit_user)])]
    return checks.Finding("call", "ok", " · ".join(said), facts=facts), True


def _why(name: str, error: Exception) -> str:
    """Say what happened, without the model's name: it was just said."""
    told = described(error).removeprefix(f"{name}: ")
    return f"{told[:1].upper()}{told[1:]}"


def _no_model() -> Finding:
    from chutes_cli import checks

    return checks.Finding("call", "warn", "no chat model is listed", "Give one with --model.")


def _cheapest(service: ChutesClient) -> list[str]:
    """The models to try: the cheapest that are not known to be cold."""
    from chutes_cli.commands.models import chosen

    with suppress(ChutesError):  # what is known from before will do
        service.refresh_catalog()
    models = service.catalog.select(kind="chat")
    return [info.id for info in chosen(models, [], "price", _TRIED)]
