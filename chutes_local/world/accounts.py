"""Accounts of the local server: keys, quota and balance.

Any key is accepted, so a program can keep its own or use a dummy. Five keys cause trouble: ``cpk_bad`` is
refused (401), ``cpk_poor`` has used up quota and balance (402), ``cpk_capped`` its subscription (402),
``cpk_free`` its free requests (429), and ``cpk_scoped`` may run models but not read ``/users/me`` (401), like a
scoped key on the real service. A suffix (``cpk_bad_2``) changes nothing.

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

Trouble = Literal["bad", "poor", "capped", "free", "scoped"]
TROUBLES: tuple[Trouble, ...] = ("bad", "poor", "capped", "free", "scoped")
_SHAPE = re.compile(r"cpk_[a-f0-9]{32}\.[a-f0-9]{32}\.[a-zA-Z0-9]{32}")


@dataclass(slots=True)
class Account:
    """One user of the local server. Tests may set any attribute while it runs."""

    username: str = "local"
    user_id: str = "00000000-0000-5000-8000-000000000001"
    balance: float = 100.0
    quota: int = 5000
    used: float = 0.0
    trouble: Trouble | None = None
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: float = 0.0

    def refusal(self, now: float) -> errors.Answer | None:
        """Return the error that blocks inference for this account, or ``None``."""
        if self.trouble == "bad":
            return errors.detail(401, errors.BAD_KEY)
        if self.trouble == "capped":
            return errors.detail(402, errors.SUBSCRIPTION_CAP)
        if self.trouble == "free":
            return errors.detail(429, errors.FREE_LIMIT)
        if self.used >= self.quota and self.balance <= 0:
            return errors.quota_exceeded(midnight_after(now) if self.quota > 0 else None)
        return None

    def count(self) -> None:
        """Count one request against today's quota."""
        self.requests += 1
        if self.used < self.quota:
            self.used += 1

    def bill(self, prompt: int, completion: int, price: tuple[float, float]) -> None:
        """Record tokens; beyond the quota, charge them to the balance."""
        self.input_tokens += prompt
        self.output_tokens += completion
        if self.used >= self.quota:
            cost = (prompt * price[0] + completion * price[1]) / 1_000_000
            self.spent += cost
            self.balance -= cost

    def headers(self) -> dict[str, str]:
        """Return the quota headers of a successful answer."""
        used = min(int(self.used), self.quota)
        return {
            "X-Chutes-Quota-Total": str(self.quota),
            "X-Chutes-Quota-Used": str(used),
            "X-Chutes-Quota-Remaining": str(self.quota - used),
            "X-Chutes-RL-User": "60",
        }


@dataclass(slots=True)
class Accounts:
    """All accounts: the normal one, and one per kind of trouble."""

    strict: bool = False
    keys: Mapping[str, Trouble] = field(default_factory=dict)
    default: Account = field(default_factory=Account)
    _troubled: dict[Trouble, Account] = field(default_factory=lambda: {t: _troubled(t) for t in TROUBLES})

    def of(self, key: str) -> Account:
        """Return the account behind ``key``."""
        trouble = self.keys.get(key) or _trouble_of(key)
        return self._troubled[trouble] if trouble else self.default

    def shape_error(self, key: str) -> errors.Answer | None:
        """With ``strict``, return Chutes' error for a key that does not look like a Chutes key."""
        if not self.strict or _trouble_of(key) or _SHAPE.fullmatch(key):
            return None
        return errors.detail(401, errors.MALFORMED_KEY if key.startswith("cpk_") else errors.INVALID_TOKEN)

    def reset(self) -> None:
        """Restore every account to its initial state."""
        self.default = Account()
        self._troubled = {trouble: _troubled(trouble) for trouble in TROUBLES}


def midnight_after(now: float) -> str:
    """Return when the daily quota resets, in the service's format.

    >>> midnight_after(0.0)
    '1970-01-02T00:00:00+00:00'
    """
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).isoformat()


def _trouble_of(key: str) -> Trouble | None:
    # Real keys continue in hexadecimal, so "cpk_bad0…" may be one: the word must stand alone.
    word = re.split(r"[^a-z0-9]", key.removeprefix("cpk_"), maxsplit=1)[0] if key.startswith("cpk_") else ""
    return next((trouble for trouble in TROUBLES if word == trouble), None)


def _troubled(trouble: Trouble) -> Account:
    account = Account(username=f"local-{trouble}", trouble=trouble)
    account.user_id = f"00000000-0000-5000-8000-00000000001{TROUBLES.index(trouble)}"
    if trouble == "poor":
        account.balance, account.quota, account.used = 0.0, 200, 200
    return account
