"""What answers, streams and observers are told of a fallback's attempts: plain data, in every framework the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from chutes_core.attempt import ATTEMPTS, Attempt
from chutes_core.usage import Usage

if TYPE_CHECKING:
    from chutes_core.fallback.stream import FallbackReply

__all__ = ["ATTEMPTS", "FIRST_HOP", "RESTART", "beside", "common", "counts", "report", "two_answers"]

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
     'detail': 'busy', 'usage': None, 'cost': None, 'served': None, 'delivered': 0, 'resumed_at': None, 'began': 0.0}
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
        "delivered": attempt.delivered,
        "resumed_at": attempt.resumed_at,
        "began": attempt.began,
    }


def counts(usage: Usage) -> dict[str, int | None]:
    """Return token counts as plain data.

    >>> counts(Usage(9, 5, 14))["total_tokens"]
    14
    """
    return {name: getattr(usage, name) for name in _COUNTS}


def beside(reply: FallbackReply) -> dict[str, object]:
    """Return what is added to a whole answer: the model that answered, the attempts, and the first hop if asked for.

    >>> from chutes_core.fallback.stream import FallbackReply
    >>> added = beside(FallbackReply(None, None, (), attempts=(Attempt("acme/one", "answered"),), member="acme/one"))
    >>> added["model_name"], [each["outcome"] for each in added["chutes_attempts"]]
    ('acme/one', ['answered'])
    """
    added: dict[str, object] = {
        "model_name": reply.attempts[-1].served or reply.member,
        ATTEMPTS: [report(attempt) for attempt in reply.attempts],
    }
    if reply.first_hop != "member":  # which it always is unless the policy asked for another
        added[FIRST_HOP] = reply.first_hop
    return added


def two_answers(model: str) -> str:
    """Return what a reader is told that would join the answers before and after a restart."""
    return (
        f"{model} begins the answer anew, and this reader joins the text of every chunk: it would get two answers in "
        "one. Use FallbackPolicy(after_commit='hold'), which gives out whole answers only; or read the stream with "
        "collect() or render(), or look for is_restart(chunk)."
    )


def common(identities: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the parameters that are the same for every member, where tracers look for those of a model.

    >>> common([{"model": "acme/one", "temperature": 0.5}, {"model": "acme/two", "temperature": 0.5, "seed": 7}])
    {'temperature': 0.5}
    """
    first, *others = identities
    return {
        name: value
        for name, value in first.items()
        if name not in ("_type", "model") and all(name in each and each[name] == value for each in others)
    }
