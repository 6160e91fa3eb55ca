"""Instrumentation for a fallback's attempts: one span each, below the call's own.

The call's own span is the only one of a model: it has the answer and its tokens, so whoever adds those up counts them
once. An attempt is a step of the call: its span has no model as its instance, and its event is that of a step.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import llama_index.core.instrumentation as instrument
from llama_index.core.instrumentation.event_handlers import NullEventHandler
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index_instrumentation.dispatcher import Dispatcher, active_instrument_tags

from chutes_core.fallback import Attempt, Try
from chutes_core.fallback.report import report

try:
    from workflows.runtime.types.step_function import WorkflowStepOutputEvent
except ImportError:  # an earlier release of the framework's workflows
    from llama_index.core.instrumentation.events import (  # type: ignore[assignment]
        BaseEvent as WorkflowStepOutputEvent,
    )

__all__ = ["AttemptEvent", "Attempts", "somebody_listens"]

dispatcher = instrument.get_dispatcher(__name__)  # type: ignore[attr-defined]


class AttemptEvent(WorkflowStepOutputEvent):
    """Event for an attempt that has ended, with its entry in ``raw["chutes_attempts"]``.

    >>> AttemptEvent(attempt={"model": "acme/one", "outcome": "answered"}).attempt["outcome"]
    'answered'
    """

    attempt: dict[str, Any]
    output: str = ""
    """The same as text, where tracers look for what a step has come to."""

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

    def __init__(self) -> None:
        self._parent = active_span_id.get()
        handlers = (handler for each in _dispatchers() for handler in each.span_handlers)
        held: list[Any] = [handler.open_spans.get(self._parent or "") for handler in handlers]
        self._call = [span for span in held if hasattr(span, "__setitem__")]
        self._spans: dict[int, tuple[str, inspect.BoundArguments]] = {}  # by the identity of each one's step

    def span_id(self, step: Try | None) -> str | None:
        """Return the attempt's span, or the call's."""
        span = self._spans.get(id(step))
        return self._parent if span is None else span[0]

    def begins(self, step: Try) -> None:
        """Open the attempt's span."""
        span = f"ChutesFallback.attempt-{uuid4()}", _ARGUMENTS(step.member.name, step.restart)
        self._spans[id(step)] = span
        dispatcher.span_enter(*span, parent_id=self._parent, tags=active_instrument_tags.get())

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        """Report an attempt; the event is in its span, which ends right after. A skipped member has none."""
        told = report(attempt)
        dispatcher.event(AttemptEvent(attempt=told, output=json.dumps(told), span_id=self.span_id(step)))
        span = self._spans.pop(id(step), None)
        if span is None:
            return
        if attempt.outcome not in ("answered", "outrun"):
            dispatcher.span_drop(*span, err=error)
            return
        dispatcher.span_exit(*span, result=told)
        if attempt.outcome == "outrun":
            return
        for each in self._call:  # OpenInference takes a call's model from the span's instance, when it begins
            each["llm.model_name"] = attempt.served or attempt.model

    async def heard(self) -> None:
        """Wait for nothing: the framework's handlers are never awaited."""


def _dispatchers() -> Iterator[Dispatcher]:
    """Yield the dispatchers that events and spans go through."""
    each: Dispatcher | None = dispatcher
    while each is not None:
        yield each
        each = each.parent if each.propagate else None


def somebody_listens() -> bool:
    """Return whether any handler other than the framework's no-op ones receives events or spans."""
    return any(not _DEAF.issuperset(map(type, (*each.event_handlers, *each.span_handlers))) for each in _dispatchers())
