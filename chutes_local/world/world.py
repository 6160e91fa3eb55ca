"""The state of one embedded Chutes, shared by every route.

>>> from chutes_local.backends.choose import choose_backend
>>> world = World(choose_backend("echo"))
>>> world.clock.advance(60)
>>> world.aliases
{}
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from chutes_local.backends.backend import Backend
from chutes_local.faults.plan import FaultPlan
from chutes_local.wire.hosts import Hosts
from chutes_local.world.accounts import Accounts
from chutes_local.world.fleet import Fleet
from chutes_local.world.journal import Journal
from chutes_local.world.oauth import OAuthStore
from chutes_local.world.sealing import Sealing

MAX_BODY = 100 * 1024 * 1024


class Clock:
    """The time by which tokens expire and quotas reset; tests advance it instead of sleeping."""

    def __init__(self) -> None:
        """Start with the machine's time."""
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Advance by ``seconds``."""
        self._ahead += seconds

    def reset(self) -> None:
        """Go back to the machine's time."""
        self._ahead = 0.0


def _ignore(seconds: float) -> None:
    """Do nothing, where there is no listener to close."""


@dataclass(slots=True)
class World:
    """The state of one server."""

    backend: Backend
    faults: FaultPlan = field(default_factory=FaultPlan)
    journal: Journal = field(default_factory=Journal)
    fleet: Fleet = field(default_factory=Fleet.load)
    accounts: Accounts = field(default_factory=Accounts)
    clock: Clock = field(default_factory=Clock)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    alias_times: dict[str, str] = field(default_factory=dict)
    first_rules: tuple[str, ...] = ()
    redirect_uris: tuple[str, ...] = ()
    hosts: Hosts = field(default_factory=Hosts)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    ready: bool = True
    max_body: int = MAX_BODY
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    refuse: Callable[[float], None] = _ignore
    oauth: OAuthStore = field(init=False)
    sealed: Sealing = field(init=False)

    def __post_init__(self) -> None:
        """Put the sign-in on this world's clock, and set the first faults."""
        self.faults.models = tuple(chute.name for chute in self.fleet)
        self.faults.parse(*self.first_rules)
        self.oauth = OAuthStore(self.clock, self.redirect_uris)
        self.sealed = Sealing(self.clock)

    def reset(self) -> None:
        """Restore the initial state: the first faults, an empty journal, every quota and token."""
        self.faults.clear()
        self.faults.parse(*self.first_rules)
        self.journal.clear()
        self.fleet.reset()
        self.accounts.reset()
        self.clock.reset()
        self.aliases.clear()
        self.alias_times.clear()
        self.oauth = OAuthStore(self.clock, self.redirect_uris)
        self.sealed = Sealing(self.clock)
