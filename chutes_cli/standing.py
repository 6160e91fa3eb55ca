"""What an account's pages mean for its requests: who pays for them, and which are refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from chutes_core.account import Discount, Profile, Quota, QuotaUsage, Subscription, Window

__all__ = ["Report", "Standing", "left", "midnight", "standing", "windows"]


@dataclass(slots=True)
class Report:
    """What the service's pages said of an account; None where a page did not answer, and ``missing`` says why."""

    profile: Profile
    quotas: list[Quota] | None = None
    today: QuotaUsage | None = None
    subscription: Subscription | None = None
    discounts: list[Discount] | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """What becomes of requests.

    Attributes:
        state: Whether all are answered (``"ok"``), only some (``"warn"``), or none that costs anything (``"fail"``).
        said: What they are: included, paid, or refused.
        remedy: What to do about it.
    """

    state: Literal["ok", "warn", "fail"]
    said: str
    remedy: str = ""


_WAIT = "Add balance, or wait for the reset."
_PAY = "Add balance or subscribe; waiting does not help."


def standing(report: Report, now: datetime) -> Standing:
    """Tell what becomes of the requests of an account.

    >>> now = datetime(2026, 8, 22, 18, tzinfo=UTC)
    >>> standing(Report(Profile("anna", "u1", 5.0), today=QuotaUsage(0.0, 0.0)), now).said
    'paid from the balance, as you go'
    >>> standing(Report(Profile("anna", "u1", 0.0), today=QuotaUsage(0.0, 0.0)), now).remedy
    'Add balance or subscribe; waiting does not help.'
    """
    balance, today, plan = report.profile.balance, report.today, report.subscription
    pays = balance is not None and balance > 0
    if today is not None and today.total is None:
        return Standing("ok", "neither limited nor paid from a balance")
    if (cap := _spent(plan, now)) is not None:
        if pays:
            return Standing("ok", f"paid from the balance: the plan's cap ({cap}) is used up")
        return Standing("fail", f"refused (402): the plan's cap ({cap}) is used up, and no balance", _WAIT)
    if today is None or (balance is None and not today.remaining):
        if pays:
            return Standing("ok", "paid from the balance, unless they are included")
        return Standing("warn", "included or refused: a page that tells did not answer", "Try again in a moment.")
    if today.total == 0:
        if pays:
            return Standing("ok", "paid from the balance, as you go")
        return Standing("fail", "refused (402) if they cost anything: none included, no balance", _PAY)
    if pays:
        paid = "included within today's quota, then paid from the balance"
        return Standing("ok", paid if today.remaining else "paid from the balance: today's quota is used up")
    if not today.remaining:
        return Standing("fail", "refused (402): today's quota is used up, and there is no balance", _WAIT)
    if plan is not None and plan.active:
        return Standing("ok", "included within today's quota and the plan's caps")
    return Standing("warn", "included, but -TEE models are refused (402): no plan, no balance", _PAY)


def windows(plan: Subscription) -> list[tuple[str, Window]]:
    """The caps of a plan, each with its name."""
    return [(name, cap) for name, cap in (("4 hours", plan.four_hour), ("month", plan.monthly)) if cap is not None]


def midnight(now: datetime) -> datetime:
    """When the day of the quotas ends."""
    return (now + timedelta(days=1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def left(window: Window) -> float | None:
    """US dollars that are left of a cap; None where there is no cap."""
    if window.cap is None:
        return None
    return window.remaining if window.remaining is not None else window.cap - window.usage


def _spent(plan: Subscription | None, now: datetime) -> str | None:
    """The cap that is used up; None if none is. One whose reset has passed says nothing."""
    for name, window in windows(plan) if plan is not None else ():
        rest = left(window)
        if rest is not None and rest <= 0 and (window.reset_at is None or window.reset_at > now):
            return name
    return None
