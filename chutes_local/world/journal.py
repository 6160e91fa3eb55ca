"""Record of requests, answers and costs, for tests to read; holds no secrets.

>>> journal = Journal()
>>> entry = journal.open("POST", "/v1/chat/completions", host="llm")
>>> journal.close(entry, status=200)
>>> [(e.path, e.status) for e in journal]
[('/v1/chat/completions', 200)]
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization"})
Ending = Literal["whole", "cut", "client left", "server stopped"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens billed."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        """Add both counts."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    @property
    def total(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt + self.completion


@dataclass(slots=True)
class Attempt:
    """One attempt at one model by the gateway's routing."""

    model: str
    status: int | None = None
    fault: str | None = None


@dataclass(slots=True)
class Entry:
    """One request and its answer; complete once ``over`` is true."""

    number: int
    method: str
    path: str
    host: str
    headers: dict[str, str] = field(default_factory=dict)
    key_kind: str | None = None
    body: Mapping[str, object] | None = None
    model: str | None = None
    attempts: list[Attempt] = field(default_factory=list)
    status: int | None = None
    fault: str | None = None
    note: str | None = None
    deltas: list[str] = field(default_factory=list)
    billed: Tokens = field(default_factory=Tokens)
    ended: Ending | None = None
    over: bool = False
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def text(self) -> str:
        """The visible text that was sent, joined."""
        return "".join(self.deltas)

    def as_json(self) -> dict[str, object]:
        """Return the entry for ``GET /local/journal``."""
        values = asdict(self)
        del values["started"]
        return values


class Journal:
    """The most recent requests, oldest first. Safe to read from any thread while the server writes."""

    def __init__(self, limit: int = 10_000) -> None:
        """Keep at most ``limit`` entries."""
        self._entries: deque[Entry] = deque(maxlen=limit)
        self._changed = threading.Condition()
        self._count = 0

    def open(self, method: str, path: str, *, host: str, headers: Mapping[str, str] | None = None) -> Entry:
        """Record a request that has arrived, without the secrets in its headers."""
        plain = {name: value for name, value in (headers or {}).items() if name not in SECRET_HEADERS}
        with self._changed:
            self._count += 1
            entry = Entry(self._count, method, path, host, plain, _key_kind(headers or {}))
            self._entries.append(entry)
        return entry

    def close(self, entry: Entry, *, status: int | None, ended: Ending = "whole") -> None:
        """Record that the answer is complete."""
        with self._changed:
            entry.status = status
            entry.ended = entry.ended or ended
            entry.seconds = time.monotonic() - entry.started
            entry.over = True
            self._changed.notify_all()

    @property
    def entries(self) -> list[Entry]:
        """All recorded entries, oldest first."""
        with self._changed:
            return list(self._entries)

    @property
    def last(self) -> Entry:
        """The latest request; raises ``LookupError`` if there was none."""
        with self._changed:
            if not self._entries:
                raise LookupError("The journal is empty: no request has arrived.")
            return self._entries[-1]

    def to(self, path_part: str) -> list[Entry]:
        """Return the entries whose path contains ``path_part``: ``journal.to("/chat/completions")``."""
        return [entry for entry in self.entries if path_part in entry.path]

    def billed(self, model: str | None = None) -> Tokens:
        """Return the tokens billed, for one model or for all."""
        chosen = (e for e in self.entries if model is None or e.model == model)
        return sum((entry.billed for entry in chosen), Tokens())

    def wait(self, count: int = 1, *, timeout: float = 60.0) -> list[Entry]:
        """Wait until ``count`` requests are fully answered, and return those.

        A client may see the end before the server has recorded it, so tests should read the journal through this.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: len(self._done()) >= count, timeout)
            if not done:
                raise TimeoutError(f"{len(self._done())} of {count} requests were complete after {timeout:g} s.")
            return self._done()

    def clear(self) -> None:
        """Remove all entries."""
        with self._changed:
            self._entries.clear()

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over a copy, oldest first."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def _done(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.over]


def _key_kind(headers: Mapping[str, str]) -> str | None:
    """Return the kind of credential sent (``cpk``, ``cak``, ``other``), never the credential."""
    value = headers.get("authorization", "").split(" ")[-1]
    if not value:
        return None
    return value[:3] if value[:4] in ("cpk_", "cak_") else "other"
