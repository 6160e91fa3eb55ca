"""What a call tells of itself: its attempts, to its error, to hooks and to the log."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self, TypedDict, Unpack

from chutes_core import hooks
from chutes_core.attempt import Attempt, Outcome
from chutes_core.calls.effects import Abandoned
from chutes_core.errors import APIError, Kind
from chutes_core.response import Reply, TraceEvent
from chutes_core.usage import Usage

__all__ = ["Record"]


class _About(TypedDict, total=False):
    """The fields of an event beside those of the call."""

    request: Mapping[str, object] | None
    reply: Reply | None
    error: str | None
    request_id: str | None
    wait: float | None
    first: float | None
    trace: TraceEvent | None


class Record:
    """The attempts of one call, and what is told of them; while nobody listens, nothing is.

    Args:
        operation: What is done: ``"chat"``, ``"embeddings"`` or ``"request"``.
        model: The model that is asked.
        url: Where.
        face: The framework through which the call is made.
        streamed: Whether the answer is streamed.

    As a context manager it is the whole call, and tells how it ends: with :attr:`reply`, or what is raised.

    Attributes:
        quiet: Whether somebody else tells of the call: a fallback, of which it is one attempt.
        sealed: Whether the call is encrypted, so that nothing of its text is told.
        first: Seconds from the start to the first part of the answer, if it was noted.
        reply: The whole answer, once there is one.
        sent: Seconds from the start to the attempt that is under way.
        attempts: The attempts that have ended. One that answered is noted only if somebody listens.
    """

    __slots__ = (
        "_face",
        "_model",
        "_operation",
        "_streamed",
        "_url",
        "attempts",
        "first",
        "quiet",
        "reply",
        "sealed",
        "sent",
    )

    def __init__(self, operation: str, model: str | None, url: str, face: str | None, *, streamed: bool) -> None:
        self._operation = operation
        self._model = model or ""
        self._url = url
        self._face = face
        self._streamed = streamed
        self.quiet = self.sealed = False
        self.first: float | None = None
        self.sent = 0.0
        self.reply: Reply | None = None
        self.attempts: list[Attempt] = []

    @property
    def timed(self) -> bool:
        """Whether the time of the first part is to be noted."""
        return hooks.on_end.active

    def begins(self, request: Mapping[str, object] | None) -> None:
        """Tell that the call begins."""
        if hooks.on_start.active and not self.quiet:
            hooks.on_start.tell(self._event(request=None if self.sealed else request))

    def answered(
        self, elapsed: float, served: str | None, usage: Usage | None, cost: float | None, request_id: str | None
    ) -> None:
        """Tell of an attempt that answered."""
        if (hooks.on_attempt.active or hooks.on_end.active) and not self.quiet:
            self._ended(self._attempt("answered", elapsed, served, usage, cost), request_id)

    def cancelled(self, elapsed: float, served: str | None, usage: Usage | None, cost: float | None) -> None:
        """Tell of an attempt that the caller has ended."""
        self._ended(self._attempt("cancelled", elapsed, served, usage, cost), None)

    def failed(self, error: APIError, elapsed: float, cost: float | None) -> None:
        """Tell of an attempt that failed, in no words of the service's, and list it and those before in its error."""
        partial = error.partial_reply
        usage = partial.usage if partial is not None else None
        served = partial.model if partial is not None else None
        self._ended(self._attempt("failed", elapsed, served, usage, cost, error), error.request_id)
        error.attempts = self.attempts

    def retried(self, error: APIError, wait: float) -> None:
        """Tell that the model is asked again."""
        if not self.quiet:
            hooks.retrying(self._event(wait=wait, request_id=error.request_id))

    def waits(self, seconds: float) -> None:
        """Tell that the call waits for its turn to ask for machines."""
        hooks.waiting(self._event(wait=seconds), quiet=self.quiet)

    def traced(self, told: TraceEvent) -> None:
        """Tell what the gateway did with the request."""
        if hooks.on_trace.active and not self.quiet:
            hooks.on_trace.tell(self._event(trace=told))

    def gives_up(self, error: APIError) -> None:
        """Tell that the call has failed for good."""
        if hooks.on_give_up.active and not self.quiet:
            hooks.on_give_up.tell(self._event(request_id=error.request_id))

    def ends(self, error: BaseException | None) -> None:
        """Tell that the call is over."""
        if hooks.on_end.active and not self.quiet:
            reply = self.reply if error is None and not self.sealed else None
            hooks.on_end.tell(self._event(reply=reply, error=name_of(error), first=self.first))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ends(error)

    def _attempt(
        self,
        outcome: Outcome,
        elapsed: float,
        served: str | None,
        usage: Usage | None,
        cost: float | None,
        error: APIError | None = None,
    ) -> Attempt:
        kind, status = (None, None) if error is None else (error.kind, error.status_code)
        return Attempt(self._model, outcome, kind, status, elapsed, "", usage, cost, served, began=self.sent)

    def _ended(self, attempt: Attempt, request_id: str | None) -> None:
        self.attempts.append(attempt)
        if hooks.on_attempt.active and not self.quiet:
            hooks.on_attempt.tell(self._event(request_id=request_id))

    def _event(self, **about: Unpack[_About]) -> hooks.Event:
        return hooks.Event(
            call=self,
            operation=self._operation,
            model=self._model,
            url=self._url,
            face=self._face,
            streamed=self._streamed,
            attempt=self.attempts[-1] if self.attempts else None,
            number=len(self.attempts),
            **about,
        )


def name_of(error: BaseException | None) -> str | None:
    """Return what an event calls the reason for a call without an answer.

    >>> from chutes_core.errors import Kind
    >>> from chutes_core.failures.reading import failure
    >>> name_of(failure(Kind.COLD)), name_of(ValueError()), name_of(GeneratorExit()), name_of(None)
    ('cold', 'ValueError', 'cancelled', None)
    """
    if error is None:
        return None
    if isinstance(error, Abandoned):
        error = error.reason
    if isinstance(kind := getattr(error, "kind", None), Kind):  # also of a fallback's error
        return kind.value
    return type(error).__name__ if isinstance(error, Exception) else "cancelled"
