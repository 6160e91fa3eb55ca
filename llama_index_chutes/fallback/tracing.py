"""Instrumentation for a fallback's attempts: one span each, below the call's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import llama_index.core.instrumentation as instrument
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index.core.llms.llm import LLM
from llama_index_instrumentation.dispatcher import Dispatcher, active_instrument_tags

from chutes_core.fallback import Attempt, Try
from chutes_core.fallback.report import report

__all__ = ["AttemptEvent", "Attempts", "somebody_listens"]

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

    Args:
        llm_of: Returns the model that an attempt asks.
    """

    def __init__(self, llm_of: Callable[[Try], LLM]) -> None:
        self._llm_of = llm_of
        self._parent = active_span_id.get()
        self._span: tuple[str, inspect.BoundArguments, LLM] | None = None

    @property
    def span_id(self) -> str | None:
        """The current attempt's span, or the call's."""
        return self._parent if self._span is None else self._span[0]

    def begins(self, step: Try) -> None:
        """Open the attempt's span."""
        llm = self._llm_of(step)
        name = f"{type(llm).__name__}.attempt-{uuid4()}"
        self._span = span = (name, _ARGUMENTS(step.member.name, step.restart), llm)
        dispatcher.span_enter(*span, self._parent, active_instrument_tags.get())

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """Report an attempt; the event is in its span, which ends right after. A skipped member has none."""
        told = report(attempt)
        dispatcher.event(AttemptEvent(attempt=told, span_id=self.span_id))
        if self._span is None:
            return
        span, self._span = self._span, None
        if attempt.outcome == "answered":
            dispatcher.span_exit(*span, told)
        else:
            dispatcher.span_drop(*span, error)

    async def heard(self) -> None:
        """Wait for nothing: the framework's handlers are never awaited."""


def somebody_listens() -> bool:
    """Return whether any handler other than the framework's no-op ones receives events or spans."""
    each: Dispatcher | None = dispatcher
    while each is not None:
        if not _DEAF.issuperset(map(type, (*each.event_handlers, *each.span_handlers))):
            return True
        each = each.parent if each.propagate else None
    return False
