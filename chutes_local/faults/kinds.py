"""The catalogue of faults: every kind, when it strikes and what it looks like.

A kind strikes in one of three phases (:class:`Phase`): as the whole answer (a status and a body), before any
answer (silence, or no connection), or while the answer is being sent.

>>> KINDS["capacity"].phase.value, KINDS["restart"].phase.value
('status', 'stream')
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import UnionType
from typing import cast

from chutes_local.wire import errors

HTTP_DATE_IN_THE_FUTURE = "Fri, 31 Dec 2100 23:59:59 GMT"


class Phase(Enum):
    """When a fault strikes."""

    STATUS = "status"
    BEFORE = "before"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a fault: the facts about a model that its error text needs."""

    model: str = "unknown"
    chute_id: str = "00000000-0000-0000-0000-000000000000"
    window: int = 40960
    engine: str = "sglang"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: its phase, a one-line summary, and in the status phase the builder of its answer."""

    phase: Phase
    summary: str
    answer: Callable[[Fault, Target], errors.Answer] | None = None


def _status(summary: str, answer: Callable[[Fault, Target], errors.Answer]) -> Kind:
    return Kind(Phase.STATUS, summary, answer)


def _fixed(summary: str, answer: errors.Answer) -> Kind:
    return Kind(Phase.STATUS, summary, lambda fault, target: answer)


def _retry_after(fault: Fault, target: Target) -> errors.Answer:
    value = {"": "5", "date": HTTP_DATE_IN_THE_FUTURE, "garbage": "soon"}.get(fault.value, fault.value)
    return errors.detail(429, errors.CAPACITY, {"Retry-After": value})


def _overflow(fault: Fault, target: Target) -> errors.Answer:
    return errors.overflow(target.engine, target.window, target.window // 8, target.window)


_ANSWERS: dict[str, Kind] = {
    "capacity": _fixed("429: every machine of the model is busy", errors.detail(429, errors.CAPACITY)),
    "retry_after": _status(
        "429 with Retry-After: value=SECONDS, value=date or value=garbage (default 5)", _retry_after
    ),
    "account_limit": _fixed("429: a limit of your account", errors.detail(429, errors.FREE_LIMIT)),
    "rate_limit": _fixed("429: a per-endpoint limiter", errors.detail(429, errors.RATE_LIMIT)),
    "keyless": _fixed("429 in HTML: the edge's answer to a missing key", errors.nginx(429)),
    "cold": _status("503: no machine runs the model", lambda fault, target: errors.cold(target.chute_id)),
    "disabled": _fixed("503: the model is switched off", errors.detail(503, errors.DISABLED)),
    "exhausted": _fixed("500: three machines failed", errors.detail(500, errors.EXHAUSTED)),
    "no_infrastructure": _fixed(
        "500: the machines vanished during the request", errors.detail(500, errors.NO_INFRASTRUCTURE)
    ),
    "empty_500": _fixed("500 without a body", errors.Answer(500, b"", "text/plain")),
    "bad_gateway": _fixed("502 in HTML", errors.nginx(502)),
    "gateway_timeout": _fixed("504 in HTML, at once", errors.nginx(504)),
    "quota": _fixed(
        "402: your quota and balance are used up (an object)",
        errors.quota_exceeded("2100-01-01T00:00:00+00:00"),
    ),
    "subscription_cap": _fixed("402: your subscription's cap", errors.detail(402, errors.SUBSCRIPTION_CAP)),
    "tee_balance": _fixed("402: TEE models need a balance", errors.detail(402, errors.TEE_NEEDS_BALANCE)),
    "owner_balance": _fixed("402: the model's owner cannot pay", errors.detail(402, errors.OWNER_BALANCE)),
    "auth": _fixed("401: the key is not accepted", errors.detail(401, errors.BAD_KEY)),
    "forbidden": _fixed("403: the OAuth scope is missing", errors.detail(403, errors.NO_PERMISSION)),
    "not_found": _status("404: model not found", lambda fault, target: errors.not_found(target.model)),
    "not_tee": _fixed("426: not a TEE model", errors.detail(426, errors.NOT_TEE)),
    "overflow": _status("400: prompt and answer exceed the window (nested text)", _overflow),
    "bad_request": _fixed(
        "400: the engine refuses the request (nested text)",
        errors.engine_400("temperature must be non-negative"),
    ),
    "too_large": _fixed("413: the body is too large", errors.detail(413, errors.TOO_LARGE)),
    "garbage": _fixed(
        "200 with a web page instead of JSON",
        errors.Answer(200, b"<!doctype html><p>Welcome!</p>", "text/html"),
    ),
}

_SEALED_ANSWERS: dict[str, Kind] = {
    "sealed_nonce": _fixed(
        "403: the nonce of a sealed request is invalid",
        errors.detail(403, "Invalid, expired, or already-used nonce"),
    ),
    "sealed_unknown": _fixed(
        "404: the machine of a sealed request is unknown", errors.detail(404, "Instance not found")
    ),
    "sealed_gone": _fixed(
        "410: the machine of a sealed request is gone", errors.detail(410, "Instance is no longer active")
    ),
    "sealed_busy": _fixed(
        "429: the machine of a sealed request is busy",
        errors.detail(429, "Instance is at maximum capacity, try again later"),
    ),
    "sealed_exchange": _fixed(
        "502: the machine of a sealed request has a new key",
        errors.detail(502, "Instance requires key exchange, try a different instance"),
    ),
}

_BEFORE: dict[str, str] = {
    "refused": "resets this connection, then refuses new ones for seconds (default 1)",
    "hang": "no byte for seconds (default 600), then the edge's 504 page",
    "slow_start": "no byte for seconds (default 5), then the real answer",
}

_DURING: dict[str, str] = {
    "hang_after_headers": "200 and headers, then nothing for seconds (default 600), then the answer",
    "stall": "after N deltas nothing for seconds (default 30), then the rest",
    "reset": "after N deltas the connection is reset (TCP RST)",
    "half_close": "after N deltas the server closes its half (FIN) mid-body",
    "no_finish": "after N deltas a clean end: no finish_reason, no [DONE]",
    "error_line": "after N deltas a bare JSON error: no data: prefix, no newline",
    "error_event": "after N deltas data: {error}, then [DONE]; after=0 makes it the first event",
    "restart": "after N deltas another machine starts over, in other words, or the same (`value=same`)",
    "malformed": "after N deltas one chunk of broken JSON, then the rest",
    "empty": "200 with an empty body",
    "role_only": "a stream with a role and a finish_reason but no content",
    "reasoning_only": "the whole answer arrives as reasoning, with empty content",
    "no_done": "complete, with finish_reason, but no [DONE]",
    "done_only": "after N deltas [DONE] without finish_reason",
    "no_usage": "complete, but without usage",
    "cumulative_usage": "running usage on every chunk, which is the default",
    "final_usage": "usage on the last event only",
    "slow_drip": "the bytes trickle: 16 at a time, seconds apart (default 0.02)",
    "stop_with_tools": "a tool call with finish_reason stop",
    "broken_arguments": "a tool call cut off after N fragments, with finish_reason tool_calls",
    "shuffled": "embeddings out of order (each index is right)",
    "short": "embeddings with the last one missing",
}

_SEALED: dict[str, str] = {
    "sealed_flip": "after N sealed frames one with a flipped bit",
    "sealed_replay": "after N sealed frames one sent twice",
    "sealed_swap": "after N sealed frames two in the wrong order",
    "sealed_clear": "after N sealed frames one event in the clear",
    "sealed_cut": "after N sealed frames half of one, then a clean end",
    "sealed_error": "after N sealed frames data: {e2e_error} in the clear, then the end",
    "sealed_no_init": "sealed frames without the initial event",
}

KINDS: dict[str, Kind] = {
    **_ANSWERS,
    **_SEALED_ANSWERS,
    **{name: Kind(Phase.BEFORE, summary) for name, summary in _BEFORE.items()},
    **{name: Kind(Phase.STREAM, summary) for name, summary in {**_DURING, **_SEALED}.items()},
}

MOST = 10**9
"""The largest number of seconds or deltas in a fault."""
DEFAULT_SECONDS: dict[str, float] = {
    "refused": 1.0,
    "hang": 600.0,
    "slow_start": 5.0,
    "hang_after_headers": 600.0,
    "stall": 30.0,
    "slow_drip": 0.02,
}


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and 0 <= cast(float, value) <= MOST


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure to rehearse.

    Args:
        kind: a name from :data:`KINDS`.
        after: how many visible deltas (text or tool JSON) arrive before a stream fault strikes.
        seconds: how long, for the kinds that wait; ``None`` is the kind's default.
        value: what ``retry_after`` sends: seconds, ``date`` or ``garbage``; for ``restart``, ``same``
            repeats the words.

    >>> Fault("stall", seconds=2).duration
    2
    """

    kind: str
    after: int = 2
    seconds: float | None = None
    value: str = ""

    def __post_init__(self) -> None:
        """Reject an unknown kind, suggesting the closest ones."""
        object.__setattr__(self, "kind", self.kind.strip().lower().replace("-", "_"))
        if self.kind not in KINDS:
            near = difflib.get_close_matches(self.kind, KINDS, n=3, cutoff=0.0)
            raise ValueError(
                f"There is no fault {self.kind!r}. Did you mean {', '.join(near[:-1])} or {near[-1]}? "
                "`chutes-connect local --list-faults` lists them all."
            )
        if not _is_number(self.after, int):
            raise ValueError(f"Fault {self.kind}: after must be a whole number of at least 0, not {self.after!r}.")
        if self.seconds is not None and not _is_number(self.seconds, int | float):
            raise ValueError(f"Fault {self.kind}: seconds must be a number of at least 0, not {self.seconds!r}.")
        if not isinstance(self.value, str) or not (self.value.isascii() and self.value.isprintable()):
            raise ValueError(f"Fault {self.kind}: value must be a text of printable characters, not {self.value!r}.")

    @property
    def phase(self) -> Phase:
        """When the fault strikes."""
        return KINDS[self.kind].phase

    @property
    def duration(self) -> float:
        """How long the fault waits, in seconds."""
        return DEFAULT_SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds

    def __str__(self) -> str:
        """Return the text form, which can be parsed back."""
        options = [f"after={self.after}"] if self.after != 2 else []
        options += [f"seconds={self.seconds:g}"] if self.seconds is not None else []
        options += [f"value={self.value}"] if self.value else []
        return f"{self.kind}({', '.join(options)})" if options else self.kind
