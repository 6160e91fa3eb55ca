"""The error of a fallback, which lists its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

from chutes_core.attempt import Attempt
from chutes_core.errors import APIError, ChutesError, Kind, Retry, Scope

__all__ = ["FallbackError", "Receipt"]


class Receipt(NamedTuple):
    """An answer's model and cost.

    Attributes:
        model: The model that answered.
        cost: The cost in US dollars.
    """

    model: str | None = None
    cost: float | None = None


class FallbackError(ChutesError, ExceptionGroup[APIError]):
    """No member gave a complete answer. ``exceptions`` has each failure, ``attempts`` every attempt, in order.

    >>> from chutes_core.failures.reading import failure
    >>> busy = failure(Kind.CAPACITY, model="acme/one", status_code=429)
    >>> error = FallbackError.of([busy], [Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5)])
    >>> print(error.message)
    No model gave a whole answer (1 attempt). acme/one: capacity 429 after 0.5 s. Every member is busy: wait, add a \
model of another family, or raise `deadline` and `max_attempts`.
    """

    @classmethod
    def of(cls, failures: Sequence[APIError], attempts: Sequence[Attempt], *, because: str = "") -> Self:
        """Create the error from a call's failures (at least one)."""
        made = sum(attempt.outcome != "skipped" for attempt in attempts)
        count = f"{made} attempt{'' if made == 1 else 's'}" + (f", {because}" if because else "")
        message = f"No model gave a whole answer ({count}). {_summed_up(attempts)}. {_remedy(failures)}"
        error = cls(message, list(failures))
        error.attempts = attempts
        return error

    def derive(self, failures: Sequence[APIError]) -> FallbackError:  # type: ignore[override]
        """Keep the attempts when ``except*`` splits the group."""
        part = FallbackError(self.message, failures)
        part.attempts = self.attempts
        return part

    @property
    def last(self) -> APIError:
        """The failure of the last attempt."""
        return self.exceptions[-1]  # type: ignore[return-value]

    @property
    def kind(self) -> Kind:
        """The kind of the last failure."""
        return self.last.kind

    @property
    def scope(self) -> Scope:
        """The scope of the last failure."""
        return self.last.scope

    @property
    def retry(self) -> Retry:
        """Where a retry may help."""
        return self.last.retry

    @property
    def partial(self) -> str:
        """The longest partial answer received."""
        return max((each.partial for each in self.exceptions if isinstance(each, APIError)), key=len, default="")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, list(self.exceptions), dict(self.__dict__))


def _rebuild(
    cls: type[FallbackError], message: str, failures: list[APIError], state: dict[str, object]
) -> FallbackError:
    error = cls(message, failures)
    error.__dict__.update(state)
    return error


def _summed_up(attempts: Sequence[Attempt]) -> str:
    """List the attempts in order of first occurrence, combining identical ones.

    >>> busy = Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5)
    >>> _summed_up([busy, Attempt("acme/two", "failed", Kind.COLD, 503, 0.1), busy])
    'acme/one: capacity 429 (2 times); acme/two: cold 503 after 0.1 s'
    """
    alike: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        alike.setdefault(attempt.brief, []).append(attempt)
    told = (f"{brief} ({len(each)} times)" if len(each) > 1 else str(each[0]) for brief, each in alike.items())
    return "; ".join(told)


def _remedy(failures: Sequence[APIError]) -> str:
    """Return the remedy when every member has failed: the last failure's, unless the remedies differ.

    >>> from chutes_core.failures.reading import failure
    >>> _remedy([failure(Kind.CAPACITY), failure(Kind.PAYMENT)]) == failure(Kind.PAYMENT).args[0].partition(". ")[2]
    True
    >>> _remedy([failure(Kind.CAPACITY), failure(Kind.COLD)])
    'Try again later, or add a model of another family.'
    """
    from chutes_core.failures.table import FACTS, REMEDIES_FOR_ALL

    last = failures[-1]
    remedies = [REMEDIES_FOR_ALL.get(each.kind, FACTS[each.kind].remedy) for each in failures]
    if last.scope is Scope.TARGET and len(set(remedies)) > 1:
        return "Try again later, or add a model of another family."
    return remedies[-1]
