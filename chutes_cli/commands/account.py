"""``chutes-connect account``: balance, quota, the caps of a subscription, and when each resets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from chutes_cli.exits import Exit, Stop, described
from chutes_cli.out import Out
from chutes_cli.standing import Report, left, midnight, standing, windows
from chutes_core.account import Discount, Quota, QuotaUsage, Window
from chutes_core.errors import APIError, AuthenticationError, ConnectionFailedError, PermissionDeniedError
from chutes_core.shown.numbers import dollars, seconds
from chutes_core.shown.table import Cell, in_one_line

if TYPE_CHECKING:
    from chutes_cli.options import Commands
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.client import ChutesClient

__all__ = ["Report", "add", "fetched", "report_json", "report_lines"]

T = TypeVar("T")
_UNREADABLE = (
    "This key may not read the account: either it was rejected, or it is limited to model calls. `chutes-connect "
    "doctor` makes one, which tells; use a key that may read the account."
)


def fetched(service: ChutesClient) -> Report:
    """Ask the pages. The first must answer; what another does not tell is missing."""
    pages = service.account
    report = Report(pages.me())

    def ask(name: str, page: Callable[[], T]) -> T | None:
        try:
            return page()
        except ConnectionFailedError:
            raise
        except APIError as error:
            report.missing[name] = described(error)
            return None

    report.quotas = ask("quotas", pages.quotas)
    report.today = ask("today", pages.quota_usage)
    report.subscription = ask("subscription", pages.subscription)
    report.discounts = ask("discounts", pages.discounts)
    return report


def report_lines(report: Report, names: Mapping[str, str], now: datetime) -> list[tuple[str, Cell]]:
    """Say it for a person: what, and how much.

    >>> from chutes_core.account import Profile
    >>> report = Report(Profile("anna", "u1", -0.5), today=QuotaUsage(300.0, 12.0))
    >>> for name, cell in report_lines(report, {}, datetime(2026, 8, 22, 18, tzinfo=UTC)): print(name, "|", cell.text)
    account | anna
    balance | -$0.50
    requests | included, but -TEE models are refused (402): no plan, no balance
    to do | Add balance or subscribe; waiting does not help.
    today | 12 of 300 requests used, 288 left; resets in 6 h 0 min
    """
    me = report.profile
    stands = standing(report, now)
    lines = [
        ("account", Cell(me.username or "?")),
        ("balance", Cell(dollars(me.balance), "green" if me.balance is not None and me.balance > 0 else "")),
        ("requests", Cell(stands.said, "" if stands.state == "ok" else "yellow")),
        *([("to do", Cell(stands.remedy, "bold"))] if stands.remedy else []),
    ]
    if report.today is not None:
        lines.append(("today", _today(report.today, now)))
    for quota in report.quotas or []:
        if quota.model != "*":
            lines.append(("quota", Cell(f"{quota.requests:,.0f} a day of {names.get(quota.model, quota.model)}")))
    if (plan := report.subscription) is not None:
        lines.append(("plan", Cell(f"{dollars(plan.monthly_price)} a month" if plan.active else "no subscription")))
        lines += [(name, _window(window, now)) for name, window in windows(plan)]
    for discount in report.discounts or []:
        model = "all models" if discount.model == "*" else names.get(discount.model, discount.model)
        lines.append(("discount", Cell(f"{discount.share:.0%} off {model}")))
    return lines


def _today(usage: QuotaUsage, now: datetime) -> Cell:
    if usage.total is None:
        return Cell(f"{usage.used:,g} requests used, no limit")
    if usage.total == 0:
        return Cell("no requests are included")
    rest = usage.remaining or 0.0
    told = f"{usage.used:,g} of {usage.total:,g} requests used, {rest:,g} left"
    return Cell(f"{told}; resets in {seconds((midnight(now) - now).total_seconds())}", "" if rest else "yellow")


def _window(window: Window, now: datetime) -> Cell:
    if (rest := left(window)) is None:
        return Cell("no cap")
    told = f"{dollars(window.usage)} of {dollars(window.cap)} used, {dollars(rest)} left"
    if window.reset_at is not None and window.reset_at > now:
        told += f"; resets in {seconds((window.reset_at - now).total_seconds())}"
    return Cell(told, "" if rest > 0 else "yellow")


def report_json(report: Report, names: Mapping[str, str]) -> dict[str, object]:
    """Give it as plain data."""
    today = report.today
    return {
        "username": report.profile.username,
        "user_id": report.profile.user_id,
        "balance": report.profile.balance,
        "quotas": _listed(report.quotas, names),
        "today": None if today is None else {"total": today.total, "used": today.used, "remaining": today.remaining},
        "subscription": None if report.subscription is None else _plain(asdict(report.subscription)),
        "discounts": _listed(report.discounts, names),
        "missing": report.missing,
    }


def _listed(entries: list[Quota] | list[Discount] | None, names: Mapping[str, str]) -> list[dict[str, object]] | None:
    return None if entries is None else [{**asdict(each), "name": names.get(each.model)} for each in entries]


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value.isoformat() if isinstance(value, datetime) else value


def names_of(catalog: Catalog) -> dict[str, str]:
    """Which chute id is which model."""
    return {info.chute_id: info.id for info in catalog if info.chute_id}


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import add_service_options, command

    parser = command(
        commands,
        "account",
        "show balance, quotas, caps and discounts, and when they reset",
        usage="[OPTIONS]",
        run=_run,
    )
    add_service_options(parser)


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.options import client

    with client(options, listed=True) as service:
        try:
            report, names = fetched(service), names_of(service.catalog)
        except (AuthenticationError, PermissionDeniedError) as error:
            raise Stop(_UNREADABLE, Exit.KEY) from error
    if out.as_json:
        out.data(report_json(report, names))
        return Exit.OK
    for name, cell in report_lines(report, names, datetime.now(UTC)):
        out.line(Cell(f"{name:<9} ", "dim"), replace(cell, text=in_one_line(cell.text)))
    for name, why in report.missing.items():
        out.note(Cell("note: ", "yellow"), f"{name} unknown: {why}")
    return Exit.OK
