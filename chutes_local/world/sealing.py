"""State of the encrypted path between requests: machine keys, nonces, and the rate limit.

>>> sealing = Sealing(lambda: 0.0)
>>> token = sealing.admit("user", "chute", "machine")[0]
>>> sealing.consume(token, "user", "chute", "machine"), sealing.consume(token, "user", "chute", "machine")
(True, False)
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from chutes_local.wire.seal import MachineKey

PER_INSTANCE = 10
KEPT_FOR = 75.0


@dataclass(slots=True)
class Sealing:
    """The state of the encrypted path.

    Args:
        clock: the time by which nonces expire.
        lies: ways in which evidence fails, from :data:`chutes_local.e2ee.proof.LIES`.
        per_minute: how often machines may be requested.
    """

    clock: Callable[[], float]
    lies: set[str] = field(default_factory=set)
    per_minute: int = 10
    keys: dict[str, MachineKey] = field(default_factory=dict)
    nonces: dict[str, tuple[str, str, str, float]] = field(default_factory=dict)
    asked: deque[float] = field(default_factory=deque)

    def key(self, instance: str) -> MachineKey:
        """Return the key pair of a machine, created on first use."""
        if instance not in self.keys:
            self.keys[instance] = MachineKey()
        return self.keys[instance]

    def count(self) -> bool:
        """Count one request for machines; return whether it is within the limit per minute."""
        now = self.clock()
        while self.asked and not 0 <= now - self.asked[0] < 60:
            self.asked.popleft()
        if len(self.asked) >= self.per_minute:
            return False
        self.asked.append(now)
        return True

    def admit(self, user: str, chute: str, instance: str) -> list[str]:
        """Issue nonces for a user and a machine."""
        now = self.clock()
        for token in [token for token, known in self.nonces.items() if known[3] <= now]:
            del self.nonces[token]
        made = [secrets.token_urlsafe(24) for _ in range(PER_INSTANCE)]
        self.nonces.update((token, (user, chute, instance, now + KEPT_FOR)) for token in made)
        return made

    def consume(self, token: str, user: str, chute: str, instance: str) -> bool:
        """Consume a nonce; return whether it was valid for this user and machine."""
        known = self.nonces.get(token)
        if known is None or known[:3] != (user, chute, instance):
            return False
        del self.nonces[token]
        return known[3] > self.clock()
