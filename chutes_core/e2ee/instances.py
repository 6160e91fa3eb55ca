"""Choose the machine a request is sealed for: instances, their keys, and the nonces that admit a request.

The service returns a few machines of a model at a time, each with ten nonces valid for a minute, and allows ten such
requests per minute in total. So the results are kept and shared by all calls of a client, one call asks while the
others wait, requests are spread over the machines, and no nonce is used twice. This module only decides; it does no
I/O and uses the clock it is given.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeGuard, cast

from chutes_core.calls.clock import Clock
from chutes_core.catalog.checked import number
from chutes_core.locks import Gate

__all__ = ["Ask", "Instance", "InstancePool", "RequestRate", "Seat", "Wait", "read_instances"]

_WORD = re.compile("[!-~]{1,256}")

MARGIN = 5.0
"""Seconds before its expiry at which a nonce counts as expired: the request has yet to get there."""

LONGEST = 600.0
"""Seconds for which a nonce counts as valid at most, whatever the service says: what is remembered has an end."""

POLL = 0.02
"""Seconds after which a call checks again whether another one has fetched machines."""


COLD_LASTS = 10.0
"""Seconds for which a model without machines, or without a proof of any, is not asked about again: the few requests of
a minute are for others."""

ASK_LASTS = 120.0
"""Seconds after which a request for machines counts as abandoned, and another call may ask."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine as listed by the service."""

    id: str
    public_key: str
    nonces: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Seat:
    """One request's place at a machine, valid once. ``listing`` is the number of the listing it came from."""

    instance: str
    public_key: str
    nonce: str = field(repr=False)
    listing: int = field(default=0, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """Result of :meth:`InstancePool.take`: the caller must ask the service for machines, since the time ``at``."""

    chute: str
    number: int
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Wait:
    """Result of :meth:`InstancePool.take`: call again later, passing ``number`` as ``waited``.

    Attributes:
        seconds: How long to wait.
        number: The number of the listing that another call is requesting.
        limited: Whether no call may ask before then, because of the service's rate limit.
    """

    seconds: float
    number: int
    limited: bool = False


def read_instances(value: object) -> tuple[list[Instance], float]:
    """Read the service's list of machines, and for how many seconds their nonces are valid.

    Raises:
        ValueError: It is not a list of machines.

    >>> read_instances({"instances": [{"instance_id": "i", "e2e_pubkey": "aGk=", "nonces": ["n"]}]})
    ([Instance(id='i', public_key='aGk=')], 55.0)
    """
    rows = value.get("instances") if isinstance(value, Mapping) else None
    if not isinstance(rows, list):
        raise ValueError("the list of machines is not valid")
    found = []
    for row in rows:
        fields = row if isinstance(row, Mapping) else {}
        name, key, nonces = fields.get("instance_id"), fields.get("e2e_pubkey"), fields.get("nonces")
        if _is_word(name) and isinstance(key, str) and isinstance(nonces, list):
            found.append(Instance(name, key, tuple(filter(_is_word, nonces))))
    return found, number(cast("Mapping[str, object]", value).get("nonce_expires_in")) or 55.0


def _is_word(value: object) -> TypeGuard[str]:
    """Return whether a value may stand in a header and in the log."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


class RequestRate:
    """Limits requests per minute; shared by all callers of the same service.

    >>> from chutes_core.testing import VirtualClock
    >>> clock = VirtualClock()
    >>> rate = RequestRate(clock, per_minute=2)
    >>> rate.begin(), rate.begin(), rate.begin()
    (0.0, 0.0, 60.0)
    """

    def __init__(self, clock: Clock, per_minute: int = 10) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._times: deque[float] = deque(maxlen=per_minute)

    def begin(self) -> float:
        """Count a request and return 0, or count nothing and return how long to wait."""
        with self._lock:
            now = self._clock.now()
            if len(self._times) == self._times.maxlen and now - self._times[0] < 60.0:
                return 60.0 - (now - self._times[0])
            self._times.append(now)
            return 0.0


@dataclass(slots=True)
class _Stock:
    """One machine's remaining nonces, oldest first, as (expiry, listing, nonce)."""

    public_key: str
    nonces: deque[tuple[float, int, str]] = field(default_factory=deque)

    def forget(self, listing: int) -> None:
        """Drop the nonces of a listing, and of earlier ones."""
        self.nonces = deque(each for each in self.nonces if each[1] > listing)


@dataclass(slots=True)
class _Chute:
    """The known machines of one model, and the state of the request for more."""

    stocks: dict[str, _Stock] = field(default_factory=dict)
    known: dict[str, float] = field(default_factory=dict)  # every nonce received, with its expiry
    asked: int = 0
    asking: bool = False
    since: float = 0.0
    failed: dict[int, Callable[[], Exception]] = field(default_factory=dict)
    cold_until: float = 0.0
    cold: Callable[[], Exception] | None = None


class InstancePool:
    """The machines of all models a client has used. Safe across threads and event loops.

    >>> from chutes_core.testing import VirtualClock
    >>> pool = InstancePool(VirtualClock())
    >>> ask = pool.take("chute")
    >>> pool.answered(ask, [Instance("i-1", "key", ("once",))], 60.0)
    >>> pool.take("chute"), type(pool.take("chute")).__name__
    (Seat(instance='i-1', public_key='key'), 'Ask')
    """

    def __init__(self, clock: Clock, rate: RequestRate | None = None) -> None:
        self._clock = clock
        self._rate = rate or RequestRate(clock)
        self._gate = Gate()
        self._chutes: dict[str, _Chute] = {}

    def take(self, chute: str, *, avoid: Collection[str] = (), waited: int | None = None) -> Seat | Ask | Wait:
        """Return a place at a machine, or what to do to get one.

        Args:
            chute: The model's chute id.
            avoid: Machines to use only if there is no other.
            waited: The number of the listing that was waited for.

        Raises:
            Exception: The error of the listing that was waited for, if it failed, or of one that found the model cold
                just now.
        """
        with self._gate:
            known = self._chutes.setdefault(chute, _Chute())
            seat = self._seat(known, avoid)
            if seat is not None:
                return seat
            if waited is not None and waited in known.failed:
                raise known.failed[waited]()
            if known.cold is not None and self._clock.now() < known.cold_until:
                raise known.cold()
            if known.asking and self._clock.now() - known.since < ASK_LASTS:
                return Wait(POLL, known.asked)
            pause = self._rate.begin()
            if pause:
                return Wait(pause, known.asked, limited=True)
            known.asked += 1
            known.asking, known.since = True, self._clock.now()
            return Ask(chute, known.asked, known.since)

    def answered(self, ask: Ask, instances: Sequence[Instance], seconds: float) -> None:
        """Add the machines of a listing; their nonces are valid for ``seconds`` from when it was requested."""
        with self._gate:
            known = self._chutes[ask.chute]
            until = ask.at + max(min(seconds, LONGEST) - MARGIN, 0.0)
            if known.asked == ask.number:  # else another call has asked since, and is still waiting
                known.asking = False
            known.failed.clear()
            known.cold = None
            now = self._clock.now()
            known.known = {nonce: end for nonce, end in known.known.items() if end > now}
            for instance in instances:
                stock = known.stocks.get(instance.id)
                if stock is None or stock.public_key != instance.public_key:
                    stock = known.stocks[instance.id] = _Stock(instance.public_key)
                for nonce in instance.nonces:
                    if nonce not in known.known:
                        known.known[nonce] = until
                        stock.nonces.append((until, ask.number, nonce))

    def given_up(self, ask: Ask, error: Callable[[], Exception] | None = None, *, cold: bool = False) -> None:
        """Record that a listing failed. With an error, waiting calls fail with it; without, one of them asks.

        ``cold`` says that the model has no machines: for a little while other calls fail with the error too.
        """
        self._gate.change(partial(self._give_up, ask, error, cold))

    def warmed(self, chute: str) -> None:
        """Forget that a model was cold."""
        with self._gate:
            if chute in self._chutes:
                self._chutes[chute].cold = None

    def _give_up(self, ask: Ask, error: Callable[[], Exception] | None, cold: bool) -> None:
        known = self._chutes[ask.chute]
        if not known.asking or known.asked != ask.number:
            return
        known.asking = False
        if error is not None:
            known.failed = {ask.number: error}
            if cold:
                known.cold, known.cold_until = error, self._clock.now() + COLD_LASTS

    def gone(self, chute: str, seat: Seat) -> None:
        """Drop a machine that is gone or unusable, unless it was listed again since."""
        with self._gate:
            stock = self._chutes.setdefault(chute, _Chute()).stocks.get(seat.instance)
            if stock is not None and stock.public_key == seat.public_key:
                stock.forget(seat.listing)

    def stale(self, chute: str, seat: Seat) -> None:
        """Drop all nonces of a model that are as old as a rejected one.

        Many calls may be rejected at the same time: late ones must not drop what the first has fetched since.
        """
        with self._gate:
            for stock in self._chutes.setdefault(chute, _Chute()).stocks.values():
                stock.forget(seat.listing)

    def barred(self, chute: str, instance: str) -> None:
        """Drop a machine in any case: its proof is no longer valid."""
        with self._gate:
            self._chutes.setdefault(chute, _Chute()).stocks.pop(instance, None)

    def _seat(self, known: _Chute, avoid: Collection[str]) -> Seat | None:
        """Take a nonce from the machine with the most left, preferring machines not to be avoided."""
        now = self._clock.now()
        for name in list(known.stocks):
            nonces = known.stocks[name].nonces
            while nonces and nonces[0][0] <= now:
                nonces.popleft()
            if not nonces:
                del known.stocks[name]
        if not known.stocks:
            return None
        name = max(known.stocks, key=lambda each: (each not in avoid, len(known.stocks[each].nonces)))
        stock = known.stocks[name]
        _, listing, nonce = stock.nonces.popleft()
        return Seat(name, stock.public_key, nonce, listing)
