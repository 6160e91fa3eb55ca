"""The recorded health of fallback members: passive, shareable, thread-safe.

There are no health checks. Only the outcomes of calls decide which members come last for a while. Health demotes
members but never excludes them: if all are unhealthy, one of them is called all the same.

Many calls may meet one and the same outage, and report it one after the other. So an attempt takes a mark when it
begins (:meth:`Health.mark`), and its outcome is compared with what was recorded since: a failure that others had
reported in the meantime is the same trouble and does not count in a row, and a success does not end it, because it
began before the trouble did. The marks are counted, not timed: clocks have ties, and may differ.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chutes_core.errors import Kind
from chutes_core.shown.tabular import Tabular

if TYPE_CHECKING:
    from chutes_core.shown.table import Table

__all__ = ["Health", "Vitals"]

# Seconds for which a failure puts a member behind the others; doubled for each consecutive failure.
COOLDOWN: Mapping[Kind, float] = {
    Kind.CAPACITY: 5.0,
    Kind.RATE_LIMIT: 5.0,
    Kind.ENDPOINT_LIMIT: 20.0,
    Kind.COLD: 30.0,
    Kind.DISABLED: 300.0,
    Kind.MODEL_NOT_FOUND: 300.0,
    Kind.OWNER_PAYMENT: 300.0,
    Kind.TEE_PAYMENT: 300.0,
    Kind.NOT_INCLUDED: 300.0,
    Kind.NOT_CONFIDENTIAL: 300.0,
    Kind.GATEWAY_TIMEOUT: 30.0,
    Kind.FIRST_TOKEN_TIMEOUT: 15.0,
    Kind.STALL: 15.0,
    Kind.TOTAL_TIMEOUT: 15.0,
    Kind.AUTHENTICATION: 60.0,
    Kind.PERMISSION: 60.0,
    Kind.PAYMENT: 60.0,
    Kind.PLAN_CAP: 60.0,
    Kind.ACCOUNT_LIMIT: 60.0,
    Kind.EDGE_LIMIT: 30.0,
}
_COOLDOWN = 5.0
_LONGEST = 300.0
# What is expected of a first token: this many times what nearly all of the last ones took, once there are so many.
_TIMES, _ENOUGH, _LAST = 4.0, 16, 32
_ENOUGH_TO_HEDGE = 20  # of which one is slower than 95 %
_SHARE_OF_HEDGES = 0.05  # of what a call earns for the retry budget
_SHORTEST = 3.0
_LARGER = 2.0  # times the largest of those requests: of larger ones nothing is known
_NOTHING = frozenset[str]()


@dataclass(slots=True)
class Vitals:
    """The record of one target or account.

    Updated in place, because every call updates two; :class:`Health` returns only copies.

    Attributes:
        successes: Complete answers.
        failures: Failed attempts.
        in_a_row: Failures since the last success, of which those that overlap count once.
        last_failure: When the last failure was recorded, on the clock of the health.
        last_kind: What it was.
        unwell_until: Until when it comes last.
        ttft: The moving mean of the seconds to the first token.
        recent: The last ones, each with the size of its request in tokens.
        lacks: The features that it has refused.
        mark: The position of its last failure among all recorded ones.
    """

    successes: int = 0
    failures: int = 0
    in_a_row: int = 0
    last_failure: float | None = None
    last_kind: Kind | None = None
    unwell_until: float = 0.0
    ttft: float | None = None
    recent: tuple[tuple[float, int], ...] = ()
    lacks: frozenset[str] = frozenset()
    mark: int = 0


class Health(Tabular):
    """The recorded health of members, by target, and of accounts; a table in text, in notebooks and for rich.

    Args:
        now: The clock, in seconds.

    >>> clock = [0.0]
    >>> health = Health(now=lambda: clock[0])
    >>> health.failed("a", Kind.CAPACITY); health.unwell("a")
    True
    >>> clock[0] = 6.0; health.unwell("a")
    False
    >>> began = health.mark()
    >>> for _ in range(16): health.failed("a", Kind.CAPACITY, began=began)
    >>> health.vitals("a").in_a_row
    2
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._vitals: dict[str, Vitals] = {}
        self._budget: float | None = None
        self._hedges: float | None = None
        self._recorded = 0

    def mark(self) -> int:
        """Return a mark for an attempt that begins now, to be passed as ``began`` with its outcome."""
        return self._recorded

    def succeeded(self, key: str, *, ttft: float | None = None, size: int = 0, began: int | None = None) -> None:
        """Record a complete answer, its time to first token, and the size of its request: the member is well.

        It is not, if it has failed since the attempt began: such an answer says nothing of how it is now.
        """
        with self._lock:
            vitals = self._of(key)
            vitals.successes += 1
            if began is None or began >= vitals.mark:
                vitals.in_a_row = 0
                vitals.unwell_until = 0.0
            if ttft is not None:
                _began(vitals, ttft, size)

    def patience(self, key: str, size: int = 0) -> float | None:
        """Return how long a member's first token is worth waiting for; None if too little is known of it.

        >>> health = Health()
        >>> for _ in range(16): health.succeeded("a", ttft=1.5, size=100)
        >>> health.patience("a", 150), health.patience("a", 5_000)
        (6.0, None)
        """
        usual = self._usual(key, size, _ENOUGH)
        return None if usual is None else max(_SHORTEST, _TIMES * usual)

    def usual(self, key: str, size: int = 0) -> float | None:
        """Return the time in which 95 % of a member's first tokens come; None if too little is known of it.

        >>> health = Health()
        >>> for number in range(20): health.succeeded("a", ttft=9.0 if number < 1 else 1.5, size=100)
        >>> health.usual("a", 150), health.usual("a", 5_000)
        (1.5, None)
        """
        return self._usual(key, size, _ENOUGH_TO_HEDGE)

    def _usual(self, key: str, size: int, enough: int) -> float | None:
        with self._lock:
            found = self._vitals.get(key)
            recent = found.recent if found is not None else ()
        if len(recent) < enough or size > _LARGER * max(largest for _, largest in recent):
            return None
        times = sorted(time for time, _ in recent)
        return times[-1 - len(times) // 20]

    def outrun(self, key: str, seconds: float, size: int = 0) -> None:
        """Record that a member had not begun after so long, when another one had: neither an answer nor a failure.

        Its first token would have taken at least so long, which counts unless it usually takes longer.
        """
        with self._lock:
            vitals = self._of(key)
            if vitals.ttft is None or seconds >= vitals.ttft:
                _began(vitals, seconds, size)

    def failed(self, key: str, kind: Kind, *, retry_after: float | None = None, began: int | None = None) -> None:
        """Record a failure: the member comes last for a while, longer with each consecutive failure.

        A failure of an attempt that began before the last one was recorded overlaps with that, and counts with it.
        """
        with self._lock:
            vitals, now = self._of(key), self._now()
            self._recorded += 1
            if began is None or began >= vitals.mark:
                vitals.in_a_row = min(vitals.in_a_row + 1, 10)
            pause = min(COOLDOWN.get(kind, _COOLDOWN) * 2 ** max(vitals.in_a_row - 1, 0), _LONGEST)
            vitals.failures += 1
            vitals.last_failure = now
            vitals.last_kind = kind
            if kind is Kind.FIRST_TOKEN_TIMEOUT:
                vitals.recent = ()  # it may have become slower: learn that anew
            vitals.mark = self._recorded
            # The longest of all: whichever report of one outage comes last, the outcome is the same.
            vitals.unwell_until = max(vitals.unwell_until, now + max(pause, min(retry_after or 0.0, _LONGEST)))

    def lacking(self, key: str, feature: str) -> None:
        """Record that a member does not support a feature."""
        with self._lock:
            vitals = self._of(key)
            vitals.lacks |= {feature}

    def vitals(self, key: str) -> Vitals:
        """Return a copy of the record."""
        with self._lock:
            found = self._vitals.get(key)
            return Vitals() if found is None else replace(found)

    def lacks(self, key: str) -> frozenset[str]:
        """Return the features that a member does not support."""
        with self._lock:
            found = self._vitals.get(key)
            return _NOTHING if found is None else found.lacks

    def unwell(self, key: str) -> bool:
        """Return whether a member should currently come last."""
        with self._lock:
            found = self._vitals.get(key)
            return found is not None and found.unwell_until > self._now()

    def _of(self, key: str) -> Vitals:
        """Return or create a member's record; the caller must hold the lock."""
        found = self._vitals.get(key)
        if found is None:
            found = self._vitals[key] = Vitals()
        return found

    def earn(self, tokens: float, most: float) -> None:
        """Add a call's share to the retry budget, which starts full."""
        with self._lock:
            held = most if self._budget is None else self._budget
            self._budget = min(held + tokens, most)

    def affords(self) -> bool:
        """Return whether an attempt is left in the retry budget."""
        with self._lock:
            return self._budget is None or self._budget >= 1

    def spend(self) -> bool:
        """Take one attempt from the retry budget; return False if it is empty."""
        with self._lock:
            if self._budget is None:
                return True
            enough = self._budget >= 1
            self._budget -= enough
            return enough

    def earn_hedges(self, tokens: float, most: float) -> None:
        """Add a call's share, a twentieth of that in the retry budget, to what hedges may use: half of the burst."""
        with self._lock:
            held = most / 2 if self._hedges is None else self._hedges
            self._hedges = min(held + _SHARE_OF_HEDGES * tokens, most / 2)

    def spend_hedge(self, most: float) -> bool:
        """Take a hedge, which is an attempt of the retry budget too; return False if that leaves less than half of it.

        >>> health = Health()
        >>> health.earn(2, 4); health.earn_hedges(2, 4)
        >>> [health.spend_hedge(4) for _ in range(3)], health.affords()
        ([True, True, False], True)
        """
        with self._lock:
            if self._budget is None or self._hedges is None:
                return False
            enough = self._hedges >= 1 and self._budget - 1 >= most / 2
            self._hedges -= enough
            self._budget -= enough
            return enough

    def snapshot(self) -> dict[str, object]:
        """Return everything as plain data, with times relative to now."""
        with self._lock:
            now = self._now()
            return {"budget": self._budget, "members": {key: _tell(each, now) for key, each in self._vitals.items()}}

    def restore(self, data: Mapping[str, object]) -> None:
        """Load a :meth:`snapshot` from this or another process."""
        members = data.get("members")
        budget = data.get("budget")
        with self._lock:
            now = self._now()
            self._budget = float(budget) if isinstance(budget, int | float) else None
            self._recorded += 1  # what is under way began before the failures that are restored
            self._vitals = {
                str(key): _read(each, now, self._recorded)
                for key, each in (members.items() if isinstance(members, Mapping) else ())
                if isinstance(each, Mapping)
            }

    def __repr__(self) -> str:
        return f"Health({len(self._vitals)} members)"

    def __str__(self) -> str:
        return self.as_text()

    def _table(self) -> Table:
        from chutes_core.shown.numbers import seconds
        from chutes_core.shown.table import Cell, Column, Table

        with self._lock:
            now, rows = self._now(), sorted(self._vitals.items())
        cells: list[list[Cell | str]] = []
        for name, (_, each) in zip(_shown([key for key, _ in rows]), rows, strict=True):
            wait = each.unwell_until - now
            state = Cell(f"last for {wait:.0f} s ({each.last_kind})", "yellow") if wait > 0 else Cell("well", "green")
            first = "" if each.ttft is None else seconds(each.ttft)
            cells.append([name, str(each.successes), str(each.failures), first, state])
        counts = [Column(title, right=True) for title in ("whole", "failed", "first token")]
        return Table.of([Column("member"), *counts, Column("now")], cells)

    def __getstate__(self) -> dict[str, object]:
        return self.snapshot()

    def __setstate__(self, state: Mapping[str, object]) -> None:
        Health.__init__(self)
        self.restore(state)

    def __deepcopy__(self, memo: object) -> Health:
        return self  # shared on purpose: a copied model has the same health


def _began(vitals: Vitals, seconds: float, size: int) -> None:
    vitals.ttft = seconds if vitals.ttft is None else 0.8 * vitals.ttft + 0.2 * seconds
    vitals.recent = (*vitals.recent[1 - _LAST :], (seconds, size))


def _tell(vitals: Vitals, now: float) -> dict[str, object]:
    return {
        "successes": vitals.successes,
        "failures": vitals.failures,
        "in_a_row": vitals.in_a_row,
        "failed_ago": None if vitals.last_failure is None else now - vitals.last_failure,
        "last_kind": None if vitals.last_kind is None else vitals.last_kind.value,
        "unwell_for": max(vitals.unwell_until - now, 0.0),
        "ttft": vitals.ttft,
        "recent": [list(each) for each in vitals.recent],
        "lacks": sorted(vitals.lacks),
    }


def _shown(keys: Sequence[str]) -> list[str]:
    """Return readable names of targets and accounts, with the host only if hosts differ.

    >>> _shown(["https://a.test/v1|acme/one", "https://a.test/v1|acme/two", "account:default"])
    ['acme/one', 'acme/two', 'account:default']
    >>> _shown(["https://a.test/v1|acme/one", "|acme/one"])
    ['https://a.test/v1|acme/one', 'acme/one']
    """
    hosts = {key.partition("|")[0] for key in keys if "|" in key}
    return [key.partition("|")[2] if "|" in key and len(hosts) == 1 else key.removeprefix("|") for key in keys]


def _read(data: Mapping[str, object], now: float, mark: int) -> Vitals:
    def number(name: str) -> float | None:
        value = data.get(name)
        return float(value) if isinstance(value, int | float) else None

    kind, ago, lacks = data.get("last_kind"), number("failed_ago"), data.get("lacks")
    return Vitals(
        int(number("successes") or 0),
        int(number("failures") or 0),
        int(number("in_a_row") or 0),
        None if ago is None else now - ago,
        Kind(kind) if isinstance(kind, str) and kind in Kind._value2member_map_ else None,
        now + (number("unwell_for") or 0.0),
        number("ttft"),
        _times(data.get("recent")),
        frozenset(str(each) for each in lacks) if isinstance(lacks, list) else frozenset(),
        0 if ago is None else mark,
    )


def _times(raw: object) -> tuple[tuple[float, int], ...]:
    pairs = [each for each in raw if isinstance(each, list) and len(each) == 2] if isinstance(raw, list) else []
    return tuple(
        (float(ttft), int(size)) for ttft, size in pairs if isinstance(ttft, int | float) and isinstance(size, int)
    )
