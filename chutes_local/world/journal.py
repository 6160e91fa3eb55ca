"""Record of requests, answers and costs, for tests to read; holds no secrets.

>>> journal = Journal()
>>> entry = journal.open("POST", "/v1/chat/completions", host="llm")
>>> journal.close(entry, status=200)
>>> [(e.path, e.status) for e in journal]
[('/v1/chat/completions', 200)]
"""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "proxy-authorization", "x-local-token"})
MOST_BYTES = 64 * 2**20
"""How much memory the entries of a journal may take together; the oldest go first."""
MOST_OF_A_BODY = 2**18
"""How much of one request is kept, and how much of its answer."""
LONGEST_MEDIUM = 200
"""Of a picture or another medium in a body the beginning is kept: this many characters."""
_ENTRY_BYTES = 1500  # an entry without its texts: the object, its lists and its counts
_OBJECT_BYTES = 120
_SLOT_BYTES = 40
_MEDIUM = re.compile(r"data:[^,]{1,200};base64,|[A-Za-z0-9+/_-]{1000}")
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
    size: int = field(default=0, repr=False)
    started: float = field(default_factory=time.monotonic, repr=False)

    @property
    def text(self) -> str:
        """The visible text that was sent, joined."""
        return "".join(self.deltas)

    def as_json(self) -> dict[str, object]:
        """Return the entry for ``GET /local/journal``."""
        values = asdict(self)
        del values["started"], values["size"]
        return values


class Journal:
    """The most recent requests, oldest first. Safe to read from any thread while the server writes.

    It is bounded by count and by memory. Pictures and other media in a request are shortened to their beginning, and
    of a very long request or answer the beginning is kept.
    """

    def __init__(self, limit: int = 10_000, most_bytes: int = MOST_BYTES) -> None:
        """Keep at most ``limit`` entries, which take at most ``most_bytes`` together."""
        self.limit, self.most_bytes = limit, most_bytes
        self._entries: deque[Entry] = deque()
        self._changed = threading.Condition()
        self._count = 0
        self._bytes = 0

    def open(self, method: str, path: str, *, host: str, headers: Mapping[str, str] | None = None) -> Entry:
        """Record a request that has arrived, without the secrets in its headers."""
        plain = {name: value for name, value in (headers or {}).items() if name not in SECRET_HEADERS}
        with self._changed:
            self._count += 1
            entry = Entry(self._count, method, path, host, plain, _key_kind(headers or {}))
            self._entries.append(entry)
            self._grow(entry, _ENTRY_BYTES + sys.getsizeof(path) + sum(map(sys.getsizeof, [*plain, *plain.values()])))
        return entry

    def note(self, entry: Entry, body: Mapping[str, object]) -> None:
        """Record the body of a request, with its media shortened."""
        kept = _Kept()
        shortened = kept.mapping(body)
        with self._changed:
            entry.body = shortened
            self._grow(entry, kept.size)

    def said(self, entry: Entry, piece: str) -> None:
        """Record a piece of the answer."""
        with self._changed:
            full = entry.size >= 2 * MOST_OF_A_BODY
            if not full or entry.deltas[-1:] != ["…"]:
                entry.deltas.append("…" if full else piece)
                self._grow(entry, sys.getsizeof(piece) + 8)

    def close(self, entry: Entry, *, status: int | None, ended: Ending = "whole") -> None:
        """Record that the answer is complete."""
        with self._changed:
            entry.status = status
            entry.ended = entry.ended or ended
            entry.seconds = time.monotonic() - entry.started
            entry.over = True
            self._changed.notify_all()

    @property
    def bytes(self) -> int:
        """How much memory the entries take, as far as their texts go."""
        return self._bytes

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
            self._bytes = 0

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over a copy, oldest first."""
        return iter(self.entries)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def _grow(self, entry: Entry, size: int) -> None:
        """Count what an entry takes, and let the oldest go if all take too much."""
        entry.size += size
        if not self._entries or entry.number < self._entries[0].number:  # it has gone already
            return
        self._bytes += size
        while len(self._entries) > self.limit or (self._bytes > self.most_bytes and len(self._entries) > 1):
            self._bytes -= self._entries.popleft().size

    def _done(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.over]


class _Kept:
    """Copies a body for the journal, up to a size.

    >>> _Kept().take({"url": "data:image/png;base64," + "A" * 1000})["url"][-19:]
    '… (1022 characters)'
    """

    def __init__(self) -> None:
        self.size = 0

    def take(self, value: object) -> object:
        """Return a copy of ``value`` that JSON can write, with media shortened and what is too much left out."""
        if isinstance(value, str):
            longest = LONGEST_MEDIUM if _MEDIUM.match(value) else max(MOST_OF_A_BODY - self.size, LONGEST_MEDIUM)
            value = value if len(value) <= longest else f"{value[:longest]}… ({len(value)} characters)"
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        # A slot of a list, and of an object rather more; the rest of both grows with what is in them.
        self.size += (_OBJECT_BYTES if isinstance(value, dict | list) else sys.getsizeof(value)) + _SLOT_BYTES
        if isinstance(value, Mapping):
            return self.mapping(value)
        if isinstance(value, list):
            items = [self.take(each) for each in value if self.size < MOST_OF_A_BODY]
            return items if len(items) == len(value) else [*items, f"… ({len(value)} in all)"]
        return value

    def mapping(self, value: Mapping[str, object]) -> dict[str, object]:
        """Do the same for an object."""
        kept = {str(self.take(key)): self.take(each) for key, each in value.items() if self.size < MOST_OF_A_BODY}
        return kept if len(kept) == len(value) else {**kept, "…": f"({len(value)} in all)"}


def _key_kind(headers: Mapping[str, str]) -> str | None:
    """Return the kind of credential sent (``cpk``, ``cak``, ``other``), never the credential."""
    value = headers.get("authorization", "").split(" ")[-1]
    if not value:
        return None
    return value[:3] if value[:4] in ("cpk_", "cak_") else "other"
