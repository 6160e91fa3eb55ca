"""Accounts of the local server: keys, quota and balance.

Any key is accepted, so a program can keep its own or use a dummy; the account behind it has a plan for $20 a month and
a balance. A word in the key stands for another kind of account, so that a program can meet each: :data:`KINDS`. A
suffix (``cpk_poor_2``) changes nothing.

>>> Accounts().of("cpk_poor").balance
0.0
>>> Accounts().of("cpk_anything").username
'local'
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from chutes_local.wire import errors

STARTED = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""When every account was made."""
API_KEY = "cpk_" + "0" * 32 + "." + "0" * 32 + "." + "LOCALCHUTES".ljust(32, "0")
"""The documented fake key of the local server, in the format of a real one (102 characters); not a secret."""

Kind = Literal["plan", "bad", "poor", "capped", "free", "scoped", "payg", "broke", "small", "unbilled", "invoiced"]
KINDS: Mapping[Kind, str] = {
    "plan": "a plan for $20 a month, and a balance",
    "payg": "pay as you go: no requests included, a balance",
    "broke": "pay as you go, and the balance is used up",
    "small": "200 requests a day, no balance",
    "poor": "200 requests a day, all used, no balance",
    "capped": "a plan whose 4-hour cap is used up, no balance",
    "free": "no balance, and today's requests to models that cost nothing are used up",
    "unbilled": "a free account: nothing is limited or paid for",
    "invoiced": "paid by invoice: nothing is limited, and no balance is needed",
    "scoped": "a key for model calls alone",
    "bad": "a key that nobody knows",
}
"""Every kind of account, and what it has: ``plan`` is that of any key, and the others of one with their word in it."""
MONTHLY_PRICES = {300: 3.0, 2000: 10.0, 5000: 20.0}
"""The plans: their requests a day, and their price in US dollars."""
_BLOCK = 4 * 3600
_SHAPE = re.compile(r"cpk_[a-f0-9]{32}\.[a-f0-9]{32}\.[a-zA-Z0-9]{32}")


@dataclass(slots=True)
class Account:
    """One user of the local server. Tests may set any attribute while it runs."""

    username: str = "local"
    user_id: str = "00000000-0000-5000-8000-000000000001"
    balance: float = 100.0
    quota: int = 5000
    used: float = 0.0
    kind: Kind = "plan"
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: float = 0.0

    @property
    def unlimited(self) -> bool:
        """Whether nothing is counted or paid from a balance."""
        return self.kind in ("unbilled", "invoiced")

    @property
    def runs_tee(self) -> bool:
        """Whether it may ask models with confidential compute: those need a plan or a balance."""
        return self.unlimited or self.quota in MONTHLY_PRICES or self.balance > 0

    def refusal(self, now: float) -> errors.Answer | None:
        """Return the error that blocks inference for this account, or ``None``."""
        if self.kind == "bad":
            return errors.detail(401, errors.BAD_KEY)
        if self.kind == "capped" and self.balance <= 0:
            return errors.detail(402, errors.SUBSCRIPTION_CAP)
        if self.kind == "free":
            return errors.detail(429, errors.FREE_LIMIT)
        if not self.unlimited and self.used >= self.quota and self.balance <= 0:
            return errors.quota_exceeded(midnight_after(now) if self.quota > 0 else None)
        return None

    def bill(self, prompt: int, completion: int, price: tuple[float, float]) -> None:
        """Record a request that was answered: it counts against today's quota, or is charged to the balance."""
        self.requests += 1
        self.input_tokens += prompt
        self.output_tokens += completion
        if self.unlimited:
            return
        if self.used < self.quota:
            self.used += 1
        else:
            cost = (prompt * price[0] + completion * price[1]) / 1_000_000
            self.spent += cost
            self.balance -= cost

    def headers(self) -> dict[str, str]:
        """Return what an answer's headers say of the account: how it was before the request, as the service does."""
        if self.kind == "invoiced":
            return {"X-Chutes-Invoice-Billing": "true"}
        if self.unlimited:
            return {}
        used = min(int(self.used), self.quota)
        return {
            "X-Chutes-Quota-Total": str(self.quota),
            "X-Chutes-Quota-Used": str(used),
            "X-Chutes-Quota-Remaining": str(self.quota - used),
            "X-Chutes-RL-User": "60",
        }


@dataclass(slots=True)
class Accounts:
    """All accounts: that of any key, and one of each other kind."""

    strict: bool = False
    keys: Mapping[str, Kind] = field(default_factory=dict)
    default: Account = field(default_factory=Account)
    _others: dict[Kind, Account] = field(default_factory=lambda: _others())

    def of(self, key: str) -> Account:
        """Return the account behind ``key``."""
        return self._others.get(self.keys.get(key) or _kind_of(key), self.default)

    def shape_error(self, key: str) -> errors.Answer | None:
        """With ``strict``, return Chutes' error for a key that does not look like a Chutes key."""
        if not self.strict or _kind_of(key) != "plan" or _SHAPE.fullmatch(key):
            return None
        return errors.detail(401, errors.MALFORMED_KEY if key.startswith("cpk_") else errors.INVALID_TOKEN)

    def reset(self) -> None:
        """Restore every account to its initial state."""
        self.default = Account()
        self._others = _others()


def midnight_after(now: float) -> str:
    """Return when the daily quota resets, in the service's format.

    >>> midnight_after(0.0)
    '1970-01-02T00:00:00+00:00'
    """
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).isoformat()


def block_after(now: float) -> str:
    """Return when the cap of four hours resets: at the end of the block of the day, as the service has it.

    >>> block_after(0.0)
    '1970-01-01T04:00:00+00:00'
    """
    return datetime.fromtimestamp((now // _BLOCK + 1) * _BLOCK, UTC).isoformat()


def month_after(now: float) -> str:
    """Return when the cap of a month resets: accounts were made on the first of one.

    >>> month_after(0.0)
    '1970-02-01T00:00:00+00:00'
    """
    first = datetime.fromisoformat(midnight_after(now)).replace(day=1)
    return first.isoformat() if first.timestamp() > now else (first + timedelta(days=31)).replace(day=1).isoformat()


def _kind_of(key: str) -> Kind:
    # Real keys continue in hexadecimal, so "cpk_bad0…" may be one: the word must stand alone.
    word = re.split(r"[^a-z0-9]", key.removeprefix("cpk_"), maxsplit=1)[0] if key.startswith("cpk_") else ""
    return next((kind for kind in KINDS if word == kind), "plan")


def _others() -> dict[Kind, Account]:
    return {kind: _account(kind, number) for number, kind in enumerate(KINDS) if kind != "plan"}


def _account(kind: Kind, number: int) -> Account:
    account = Account(f"local-{kind}", f"00000000-0000-5000-8000-{number + 16:012x}", kind=kind)
    account.quota = {"payg": 0, "broke": 0, "free": 0, "small": 200, "poor": 200}.get(kind, account.quota)
    if kind not in ("payg", "scoped", "bad"):
        account.balance = 0.0
    if kind == "poor":
        account.used = account.quota
    return account
