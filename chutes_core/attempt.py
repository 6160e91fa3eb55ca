"""One attempt at an answer: a call makes one, or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Self, cast

from chutes_core.errors import ConfigurationError, Kind
from chutes_core.shown.tabular import Tabular
from chutes_core.usage import Usage

if TYPE_CHECKING:
    from chutes_core.shown.table import Table

__all__ = ["ATTEMPTS", "Attempt", "Attempts", "Outcome"]

ATTEMPTS = "chutes_attempts"
"""The name of the list of attempts in an answer's metadata."""

Outcome = Literal["answered", "failed", "cancelled", "outrun", "skipped"]


_OUTCOMES = {"answered": "whole", "cancelled": "stopped by the caller", "outrun": "outrun by another"}


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
        began: Seconds from the beginning of the call to that of the attempt.

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
    began: float = 0.0

    @property
    def brief(self) -> str:
        """The outcome without the elapsed time; of a reason its first sentence."""
        why = self.detail.partition(". ")[0]
        how = {"failed": str(self.kind), "skipped": f"skipped, {why}"}.get(self.outcome, self.outcome)
        return f"{self.model}: {how}" + (f" {self.status_code}" if self.status_code else "")

    @property
    def said(self) -> str:
        """What happened, for who reads a timeline.

        >>> Attempt("acme/one", "failed", Kind.RESET, delivered=120).said
        'reset, after 120 characters'
        >>> Attempt("acme/two", "answered", resumed_at=120).said
        'went on after 120 characters; whole'
        """
        if self.outcome == "skipped":
            return "not asked: " + self.detail.partition(". ")[0]
        said = "" if self.resumed_at is None else f"went on after {self.resumed_at:,} characters; "
        if self.outcome == "failed":
            said += str(self.kind) + (f" {self.status_code}" if self.status_code else "")
        else:
            said += _OUTCOMES[self.outcome]
        if self.delivered and self.outcome != "answered":
            said += f", after {self.delivered:,} characters"
        return said

    def __str__(self) -> str:
        return self.brief + (f" after {self.elapsed:.1f} s" if self.outcome != "skipped" else "")


class Attempts(tuple[Attempt, ...], Tabular):
    """The attempts of one call, in order: a tuple that shows itself as a timeline, in notebooks and to rich.

    ``error.attempts`` is one; :meth:`of` reads those of a fallback's answer, in either framework.

    >>> busy = Attempt("acme/one", "failed", Kind.CAPACITY, 429, 0.5)
    >>> print(Attempts([busy, Attempt("acme/two", "answered", elapsed=1.5, began=0.5)]).as_text())
    model     when                      seconds  what happened
    acme/one  ━━━━━━                        0.5  capacity 429
    acme/two        ━━━━━━━━━━━━━━━━━━      1.5  whole
    """

    __slots__ = ()

    @classmethod
    def of(cls, answer: object) -> Self:
        """Return the attempts of an answer or of an error.

        Args:
            answer: An answer of a fallback, as it came: a message of LangChain, a response of LlamaIndex, a reply of
                the core, a completion of the openai client; or any error of a call; or the list in their metadata.

        Raises:
            ConfigurationError: It has none.
        """
        found = _attempts_in(answer)
        if found is None:
            raise ConfigurationError(
                f"This {type(answer).__name__} lists no attempts. Answers of a ChutesFallback or a FallbackClient do "
                "(of a stream the last chunk, or all chunks added up), and the errors of every call."
            )
        return cls(each if isinstance(each, Attempt) else _read(each) for each in found)

    def _title(self) -> str:
        made = [each for each in self if each.outcome != "skipped"]
        times = "1 attempt" if len(made) == 1 else f"{len(made)} attempts"
        return f"{times}, {max((each.began + each.elapsed for each in made), default=0.0):.1f} s"

    def _table(self) -> Table:
        from chutes_core.shown.table import Bar, Cell, Column, Table

        whole = max((each.began + each.elapsed for each in self), default=0.0) or 1.0
        rows: list[list[Cell | str]] = []
        for each in self:
            colour, said = _STYLES[each.outcome], each.said
            begin, end = each.began / whole, (each.began + each.elapsed) / whole
            asked = each.outcome != "skipped"
            bar = Bar.of(colour, begin, end) if asked else Cell("")
            rows.append([each.served or each.model, bar, f"{each.elapsed:.1f}" if asked else "", Cell(said, colour)])
        columns = [Column("model"), Column("when"), Column("seconds", right=True), Column("what happened")]
        return Table.of(columns, rows)


_STYLES = {"answered": "green", "failed": "red", "cancelled": "dim", "outrun": "dim", "skipped": "dim"}
_PLACES = ("response_metadata", "raw", "additional_kwargs", "model_extra")


def _attempts_in(answer: object) -> Iterable[object] | None:
    """Return the list of attempts of an answer, as it is written there."""
    if isinstance(answer, Mapping):
        return cast("Iterable[object] | None", answer.get(ATTEMPTS))
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes):
        return answer if all(isinstance(each, Attempt | Mapping) for each in answer) else None
    if (attempts := getattr(answer, "attempts", None)) is not None:
        return cast("Iterable[object]", attempts)
    for place in _PLACES:
        if isinstance(told := getattr(answer, place, None), Mapping) and ATTEMPTS in told:
            return cast("Iterable[object]", told[ATTEMPTS])
    inner = getattr(answer, "message", None)  # of a response of LlamaIndex
    return None if inner is None or inner is answer else _attempts_in(inner)


def _read(told: object) -> Attempt:
    """Read an attempt from plain data; what another version adds is passed over."""
    row = cast("Mapping[str, object]", told)
    known = {each.name: row[each.name] for each in fields(Attempt) if each.name in row}
    kind, usage = known.get("kind"), known.get("usage")
    known["kind"] = Kind(kind) if isinstance(kind, str) and kind in Kind._value2member_map_ else None
    counts = {each.name for each in fields(Usage)}
    if isinstance(usage, Mapping):
        known["usage"] = Usage(**{name: count for name, count in usage.items() if name in counts})
    return Attempt(**known)  # type: ignore[arg-type]
