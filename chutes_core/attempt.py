"""One attempt at an answer: a call makes one, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chutes_core.errors import Kind
from chutes_core.usage import Usage

__all__ = ["Attempt", "Outcome"]

Outcome = Literal["answered", "failed", "cancelled", "outrun", "skipped"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at an answer: of a call with its retries, or of a fallback with its members.

    Attributes:
        model: The model, or the member's name.
        outcome: ``"answered"``, ``"failed"``, ``"cancelled"`` by the caller, ``"outrun"`` by a member that was asked
            at the same time and began first, or ``"skipped"`` before anything was sent.
        kind: The kind of failure.
        status_code: The HTTP status, if any.
        elapsed: Seconds from sending to the end.
        detail: The reason, as text, in a fallback.
        usage: The tokens used, if known, including those of a partial answer.
        cost: The cost in US dollars, if known.
        served: The model that the reply names; for a routing list, the one that the service chose.
        delivered: How many characters of its text were given out, where that was counted: with "resume".
        resumed_at: How many had been given out when it went on with the answer; None if it began one.

    >>> str(Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5))
    'acme/one: capacity 429 after 0.5 s'
    """

    model: str
    outcome: Outcome
    kind: Kind | None = None
    status_code: int | None = None
    elapsed: float = 0.0
    detail: str = ""
    usage: Usage | None = None
    cost: float | None = None
    served: str | None = None
    delivered: int = 0
    resumed_at: int | None = None

    @property
    def brief(self) -> str:
        """The outcome without the elapsed time; of a reason its first sentence."""
        why = self.detail.partition(". ")[0]
        how = {"failed": str(self.kind), "skipped": f"skipped, {why}"}.get(self.outcome, self.outcome)
        return f"{self.model}: {how}" + (f" {self.status_code}" if self.status_code else "")

    def __str__(self) -> str:
        return self.brief + (f" after {self.elapsed:.1f} s" if self.outcome != "skipped" else "")
