"""What answers, streams and observers are told of a fallback's attempts: plain data, in every framework the same."""

from __future__ import annotations

from dataclasses import fields

from chutes_core.fallback.call import Call
from chutes_core.fallback.trace import Attempt
from chutes_core.usage import Usage

__all__ = ["ATTEMPTS", "FIRST_HOP", "RESTART", "beside", "counts", "report"]

ATTEMPTS = "chutes_attempts"
"""The name of the list of attempts in an answer's metadata."""
FIRST_HOP = "chutes_first_hop"
"""The name of the kind of first hop in an answer's metadata."""
RESTART = "chutes_restart"
"""The name of the mark in a stream after which another member starts over."""

_COUNTS = tuple(each.name for each in fields(Usage))


def report(attempt: Attempt) -> dict[str, object]:
    """Return an attempt as plain data.

    >>> from chutes_core.errors import Kind
    >>> report(Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5, "busy"))
    {'model': 'acme/one', 'outcome': 'failed', 'kind': 'capacity', 'status_code': 429, 'elapsed': 0.5,
     'detail': 'busy', 'usage': None, 'cost': None, 'served': None}
    """
    return {
        "model": attempt.model,
        "outcome": attempt.outcome,
        "kind": attempt.kind.value if attempt.kind is not None else None,
        "status_code": attempt.status_code,
        "elapsed": attempt.elapsed,
        "detail": attempt.detail,
        "usage": counts(attempt.usage) if attempt.usage is not None else None,
        "cost": attempt.cost,
        "served": attempt.served,
    }


def counts(usage: Usage) -> dict[str, int | None]:
    """Return token counts as plain data.

    >>> counts(Usage(9, 5, 14))["total_tokens"]
    14
    """
    return {name: getattr(usage, name) for name in _COUNTS}


def beside(call: Call) -> dict[str, object]:
    """Return what is added to a whole answer: the model that answered, the attempts, and the first hop if asked for.

    >>> from chutes_core.fallback import FallbackPolicy, Health, Member
    >>> call = Call([Member("acme/one")], FallbackPolicy(), Health(), now=lambda: 0.0)
    >>> _ = call.next(); call.succeeded(); added = beside(call)
    >>> added["model_name"], [each["outcome"] for each in added["chutes_attempts"]]
    ('acme/one', ['answered'])
    """
    assert call.served is not None, "a whole answer has a member that gave it"
    added: dict[str, object] = {
        "model_name": call.attempts[-1].served or call.served.name,
        ATTEMPTS: [report(attempt) for attempt in call.attempts],
    }
    if call.policy.first_hop == "server":
        added[FIRST_HOP] = call.first_hop
    return added
