"""Instrumentation for a fallback's attempts: one span each, below the call's own."""

from __future__ import annotations

import inspect
from typing import Any
from uuid import uuid4

import llama_index.core.instrumentation as instrument
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation.dispatcher import Dispatcher, active_instrument_tags

from chutes_core.fallback import Attempt, Call, Try
from chutes_core.fallback.report import report

__all__ = ["AttemptEvent", "Attempts"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class AttemptEvent(BaseEvent):
    """Event for an attempt that has ended, with its entry in ``raw["chutes_attempts"]``.

    >>> AttemptEvent(attempt={"model": "acme/one", "outcome": "answered"}).attempt["outcome"]
    'answered'
    """

    attempt: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """Return the event name."""
        return "ChutesAttemptEvent"


def _attempt(model: str, restart: bool) -> None:
    """Define the arguments that span handlers see for an attempt."""


_ARGUMENTS = inspect.signature(_attempt).bind
_DEAF = {NullEventHandler, NullSpanHandler}


class Attempts:
    """Reports the attempts of one call as they happen; costs nothing without listeners.

    The call's span is taken at creation, because a stream's span has ended when its first attempt begins.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._heard = _somebody_listens()
        self._parent = active_span_id.get()
        self._told = 0
        self._span: tuple[str, inspect.BoundArguments, LLM] | None = None

    @property
    def span_id(self) -> str | None:
        """The current attempt's span, or the call's without listeners."""
        return self._parent if self._span is None else self._span[0]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.end(error)  # skipped members, and a cancelled attempt

    def begin(self, step: Try, llm: LLM) -> None:
        """Start an attempt."""
        if self._heard:
            self.end()  # skipped members, which have no span
            self._span = span = (
                f"{type(llm).__name__}.attempt-{uuid4()}",
                _ARGUMENTS(step.member.name, step.restart),
                llm,
            )
            dispatcher.span_enter(*span, self._parent, active_instrument_tags.get())

    def end(self, error: BaseException | None = None) -> None:
        """Report attempts that have ended; the event is in the attempt's span, which ends right after."""
        if self._heard:
            ended, self._told = self._call.attempts[self._told :], len(self._call.attempts)
            for attempt in ended:
                self._tell(attempt, error)

    def _tell(self, attempt: Attempt, error: BaseException | None) -> None:
        told, span, self._span = report(attempt), self._span, None
        dispatcher.event(AttemptEvent(attempt=told, span_id=self._parent if span is None else span[0]))
        if span is not None and attempt.outcome == "answered":
            dispatcher.span_exit(*span, told)
        elif span is not None:
            dispatcher.span_drop(*span, error)


def _somebody_listens() -> bool:
    """Return whether any handler other than the framework's no-op ones receives events or spans."""
    each: Dispatcher | None = dispatcher
    while each is not None:
        if not _DEAF.issuperset(map(type, (*each.event_handlers, *each.span_handlers))):
            return True
        each = each.parent if each.propagate else None
    return False
