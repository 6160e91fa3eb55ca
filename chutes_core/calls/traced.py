"""Trace events: what the gateway did with a request inside, unwrapped from around the reply.

Asked with a header, the gateway answers 200 at once, and in events: ``trace`` says which machine is asked and how that
ended, ``result`` has a reply, or a piece of a stream, and ``error`` is what would have been a status. :func:`traced`
is a layer around a call, as encryption is: the call inside gets the status, the bytes and the failures that it would
have got without, and so checks the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, cast

from chutes_core.calls.effects import Arrived, Flow, Open, Read, StatusFailure, WireFailure, layered
from chutes_core.door import loads
from chutes_core.errors import redact
from chutes_core.reply.sse import EventDecoder
from chutes_core.response import TraceEvent

__all__ = ["HEADER", "Trace", "asked_for", "traced"]

T = TypeVar("T")
HEADER = "X-Chutes-Trace"
_STATUS = {"bad_request": 400, "infra_overload": 429}
"""What the gateway makes of its own errors without a trace; of all others a 500."""


@dataclass
class Trace:
    """What the gateway told of one call.

    Attributes:
        tell: Is told of each event.
        now: The clock.
        events: Those of the latest request.
    """

    tell: Callable[[TraceEvent], object]
    now: Callable[[], float]
    events: list[TraceEvent] = field(default_factory=list)


def asked_for(headers: object) -> bool:
    """Return whether headers ask for a trace, as a call does with ``trace=True``.

    >>> asked_for({"x-chutes-trace": "True"}), asked_for({"X-Chutes-Trace": "false"}), asked_for(None)
    (True, False, False)
    """
    named = headers.items() if isinstance(headers, Mapping) else ()
    return any(str(name).lower() == HEADER.lower() and str(value).lower() == "true" for name, value in named)


def traced(call: Flow[T], trace: Trace) -> Flow[T]:
    """Run a call with a trace of what becomes of its requests."""
    reply = _Unwrapped(trace)

    def answer(step: Open | Read) -> Flow[object]:
        nonlocal reply
        if isinstance(step, Read):
            return reply.read(step)
        trace.events = []
        reply = _Unwrapped(trace)
        return reply.open(step)

    return layered(call, answer)


class _Unwrapped:
    """One reply, from around which the events are taken."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._decoder = EventDecoder()
        self._waiting: list[bytes] = []  # what is inside, and was not read yet
        self._raw: list[bytes] = []  # what came, until it is known whether there are events around it
        self._form: Literal["unknown", "events", "plain"] = "unknown"
        self._begun = self._streamed = self._ended = False
        self._failed: tuple[int, bytes] | None = None
        self._broken: WireFailure | None = None

    def open(self, step: Open) -> Flow[object]:
        """Send the request; the headers are there when the first part of the reply is, as without a trace."""
        self._streamed = (step.request.body or {}).get("stream") is True
        began = self._trace.now()
        others = {name: value for name, value in step.request.headers.items() if name.lower() != HEADER.lower()}
        asking = replace(step.request, headers={**others, HEADER: "true"})
        headers = cast("Arrived", (yield replace(step, request=asking)))
        if not headers.get("content-type", "").startswith("text/event-stream"):
            self._form = "plain"  # a gateway that knows of no trace
            return headers
        while not (self._begun or self._ended or self._failed):
            passed = self._trace.now() - began
            within = None if step.headers_within is None else max(step.headers_within - passed, 0.0)
            try:
                yield from self._fill(Read(within))
            except WireFailure as problem:
                if problem.reason != "broken":
                    raise
                self._broken = problem  # after its headers had come: it broke off, and was not refused
                break
        if self._failed is not None:
            status, body = self._failed
            raise StatusFailure(status, {**headers, "content-type": "application/json"}, body)
        return headers

    def read(self, step: Read) -> Flow[object]:
        """Return the next bytes of what is inside; None at its end."""
        if self._form == "plain" and not self._waiting:
            return (yield step)
        if self._broken is not None:
            raise self._broken
        if not (self._waiting or self._ended):
            yield from self._fill(step)
        inside = b"".join(self._waiting)
        self._waiting = []
        return None if self._ended and not inside else inside  # b"" where there were only events

    def _fill(self, step: Read) -> Flow[None]:
        block = cast("bytes | None", (yield step))
        self._ended = block is None
        if block is None and self._form == "unknown":
            self._waiting = self._raw
            return
        if self._form == "plain":
            self._waiting += [block] if block else []
            return
        if self._form == "unknown" and block:
            self._raw.append(block)
        problem = ""
        try:
            for payload in self._decoder.close() if block is None else self._decoder.feed(block):
                if not self._take(payload):
                    return
        except ValueError as error:
            problem = str(error)
        if problem:
            raise WireFailure("invalid", f"a trace that cannot be read: {problem}")

    def _take(self, payload: bytes) -> bool:
        """Take one event; return whether it is one."""
        if self._form == "unknown":
            if not payload.startswith(b'{"trace"'):  # a stream without events around it
                self._form, self._waiting, self._begun = "plain", [b"".join(self._raw)], True
                return False
            self._form = "events"
            self._raw.clear()
        event = loads(payload)
        if not isinstance(event, dict):
            raise ValueError("an event that is no object")
        if "trace" in event:
            found = TraceEvent.parse(event["trace"])
            found = replace(found, message=redact(found.message))
            self._trace.events.append(found)
            self._trace.tell(found)
        elif "result" in event:
            self._begun = True
            self._waiting.append(self._inside(event["result"]))
        elif "error" in event:
            self._fail(event)
        return True

    def _inside(self, result: object) -> bytes:
        """Return what a result is without the event around it: a reply, or lines of a stream."""
        if isinstance(result, str):
            # The blank lines of a stream may have been left out, and one more does nothing.
            return result.encode() + b"\n" if self._streamed and result.endswith("\n") else result.encode()
        body = result.get("json", result) if isinstance(result, dict) else result
        return json.dumps(body, ensure_ascii=False).encode()

    def _fail(self, event: dict[str, object]) -> None:
        said = event.get("detail") or event["error"]
        if self._begun:  # too late for a status: without a trace this is a line by itself
            self._waiting.append(json.dumps({"error": said}).encode())
        else:
            self._failed = _STATUS.get(str(event["error"]), 500), json.dumps({"detail": said}).encode()
