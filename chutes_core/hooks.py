"""Hooks: functions of yours that are told what calls do, for metrics, alerts and traces.

>>> from chutes_core import hooks
>>> retries = []
>>> @hooks.on_retry.add
... def count(event: hooks.Event) -> None:
...     retries.append(event.attempt.kind)
>>> hooks.on_retry
Hook('retry', 1 function)
>>> hooks.on_retry.remove(count)

Eight hooks, in the order in which a call meets them. A call of a fallback meets each of them once for all its members;
the requests that it makes are its attempts.

- ``on_start``: a call begins: ``operation``, ``model``, ``request``.
- ``on_attempt``: an attempt has ended, or a member was skipped: ``attempt``.
- ``on_retry``: the same model is asked again, in ``wait`` seconds: ``attempt`` has failed.
- ``on_wait``: an encrypted call waits ``wait`` seconds before it may ask for machines, of which the service lists some
  only ten times a minute. Of a member of a fallback this is logged alone.
- ``on_trace``: the gateway tells what it does with a request inside, if it was asked with ``trace=True``: ``trace``.
  Of a member of a fallback only its reply has that.
- ``on_takeover``: a fallback turns to another member, ``model``: ``how`` says what for.
- ``on_give_up``: the call has failed for good: ``attempt`` is the last one.
- ``on_end``: it is over, in whichever way: ``attempt``, ``reply`` or ``error``, ``first``.

A hook is called in the thread of the call, and must be quick. It cannot break a call: what it raises is logged. While
it runs, what else there is to tell in its thread waits: a stream that is collected as garbage may end anywhere, also
inside a lock that the hook holds. Events hold no key, and of encrypted calls neither request nor reply.

The same is logged, by ``logging.getLogger("chutes_core")`` and, of fallbacks, ``"chutes_core.fallback"``: retries and
failed members as warnings, and what a fallback does about them as information. The fields of a record are
``chutes_model``, ``chutes_kind``, ``chutes_status``, ``chutes_attempt``, ``chutes_wait``, ``chutes_request_id`` and
``chutes_outcome``. Nothing of a prompt, an answer or a key is logged, and nothing is shown before your program sets up
logging.
"""

from __future__ import annotations

import inspect
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from chutes_core.attempt import Attempt
from chutes_core.errors import ConfigurationError
from chutes_core.response import Reply, TraceEvent

__all__ = [
    "Event",
    "Hook",
    "on_attempt",
    "on_end",
    "on_give_up",
    "on_retry",
    "on_start",
    "on_takeover",
    "on_trace",
    "on_wait",
]

F = TypeVar("F", bound=Callable[["Event"], object])
How = Literal["next", "again", "restart", "resume", "hedge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a hook is told.

    Attributes:
        call: The same object in all events of one call, and in those of no other: compare it, or use it as a key.
        operation: ``"chat"``, ``"embeddings"``, or ``"request"`` for all else.
        model: The model that is asked; of the start of a fallback the member that comes first.
        url: Where the request goes.
        face: The framework through whose class the call was made: ``"langchain"``, ``"llama_index"`` or None.
        fallback: Whether it is the call of a fallback.
        streamed: Whether the answer is streamed.
        request: What was asked, when the call starts: the very objects that are sent, so do not change them.
        attempt: The attempt that has ended.
        number: How many attempts were made so far.
        request_id: The service's name for the request, if it told one.
        wait: In how many seconds the same model is asked again, or machines are.
        how: Why a fallback asks another member: the ``"next"`` one's turn has come, or it begins the answer anew
            after some was given out (``"restart"``), goes on with it (``"resume"``), is asked beside a slow one
            (``"hedge"``), or is asked ``"again"`` in another round.
        reply: The whole answer, when the call is over.
        error: Why there is none: a kind of failure, ``"cancelled"``, or the name of an exception.
        first: Seconds from the start of the call to the first part of its answer.
        trace: What the gateway did with the request: which machine it asked, and how that ended.
    """

    call: object = field(repr=False)
    operation: str
    model: str
    url: str = ""
    face: str | None = None
    fallback: bool = False
    streamed: bool = False
    request: Mapping[str, object] | None = field(default=None, repr=False)
    attempt: Attempt | None = None
    number: int = 0
    request_id: str | None = None
    wait: float | None = None
    how: How | None = None
    reply: Reply | None = field(default=None, repr=False)
    error: str | None = None
    first: float | None = None
    trace: TraceEvent | None = None


class Hook:
    """Functions that are called at one point of every call. Thread-safe.

    Attributes:
        active: Whether there are any.
    """

    __slots__ = ("_functions", "_lock", "_name", "active")

    def __init__(self, name: str) -> None:
        self._name = name
        self._functions: tuple[Callable[[Event], object], ...] = ()  # replaced, never changed: a call reads it as it is
        self._lock = threading.Lock()
        self.active = False  # read at every call

    def add(self, function: F) -> F:
        """Add a function, and return it, so that this may be a decorator."""
        if not callable(function) or _waits(function):
            raise ConfigurationError(f"A hook is an ordinary function that takes an event, not {function!r}.")
        with self._lock:
            self._functions = (*self._functions, function)
            self.active = True
        return function

    def remove(self, function: Callable[[Event], object]) -> None:
        """Remove a function that was added."""
        with self._lock:
            if function not in self._functions:
                raise ConfigurationError(f"{function!r} is no hook here: {list(self._functions)!r}.")
            self._functions = tuple(each for each in self._functions if each != function)
            self.active = bool(self._functions)

    def tell(self, event: Event) -> None:
        """Call every function with an event; inside a hook, after it."""
        if not self.active:
            return
        if _here.waiting is not None:
            _here.waiting.append((self, event))
            return
        waiting = _here.waiting = deque([(self, event)])
        try:
            while waiting:
                hook, event = waiting.popleft()
                hook._call(event)
        finally:
            _here.waiting = None

    def _call(self, event: Event) -> None:
        for function in self._functions:
            try:
                function(event)
            except Exception:
                _say(_LOG, logging.ERROR, "A hook failed, and the call goes on: %r", function, exc_info=True)

    def __len__(self) -> int:
        return len(self._functions)

    def __iter__(self) -> Iterator[Callable[[Event], object]]:
        return iter(self._functions)

    def __repr__(self) -> str:
        return f"Hook({self._name!r}, {len(self)} function{'' if len(self) == 1 else 's'})"


def _waits(function: Callable[[Event], object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class _Here(threading.local):
    """What is to be told in a thread once the hook that runs there is done; None while none runs."""

    waiting: deque[tuple[Hook, Event]] | None = None


_here = _Here()
on_start = Hook("start")
on_attempt = Hook("attempt")
on_retry = Hook("retry")
on_wait = Hook("wait")
on_trace = Hook("trace")
on_takeover = Hook("takeover")
on_give_up = Hook("give_up")
on_end = Hook("end")


def listening() -> bool:
    """Return whether any hook has a function."""
    every = (on_start, on_attempt, on_retry, on_wait, on_trace, on_takeover, on_give_up, on_end)
    return any(hook.active for hook in every)


_LOG = logging.getLogger("chutes_core")
_LOG.addHandler(logging.NullHandler())  # a library is silent until its user listens
_FALLBACK = _LOG.getChild("fallback")
_SEALED = _LOG.getChild("e2ee")


def attempted(event: Event) -> None:
    """Tell of an attempt of a fallback that has ended."""
    attempt = event.attempt
    if attempt is not None and attempt.outcome == "failed":
        _log(_FALLBACK, logging.WARNING, event, attempt, "%s (attempt %d)", attempt, event.number)
    elif attempt is not None and attempt.outcome == "skipped":
        _log(_FALLBACK, logging.INFO, event, attempt, "%s", attempt)
    on_attempt.tell(event)


def retrying(event: Event) -> None:
    """Tell that a model is asked again after a failure."""
    text = "%s; asked again in %.1f s (attempt %d)"
    _log(_LOG, logging.WARNING, event, event.attempt, text, event.attempt, event.wait, event.number)
    on_retry.tell(event)


def waiting(event: Event, *, quiet: bool) -> None:
    """Tell that an encrypted call waits for its turn to ask for machines; of a quiet call only the log is told."""
    text = "%s waits %.1f s: machines may be asked for ten times a minute"
    _log(_SEALED, logging.WARNING, event, None, text, event.model, event.wait)
    if not quiet:
        on_wait.tell(event)


def taken_over(event: Event) -> None:
    """Tell that a fallback turns to a member that is not its first."""
    _log(_FALLBACK, logging.INFO, event, None, "%s %s", event.model, _DOES[event.how or "next"])
    (on_retry if event.how == "again" else on_takeover).tell(event)


_DOES: Mapping[How, str] = {
    "next": "takes over",
    "again": "is asked again",
    "restart": "begins the answer anew, of which some was given out",
    "resume": "goes on with the answer that broke off",
    "hedge": "is asked too, since the answer is late",
}


def _log(log: logging.Logger, level: int, event: Event, attempt: Attempt | None, text: str, *values: object) -> None:
    """Log an event with the fields of the attempt that it is about: a member's failure is not that of the next one."""
    if not log.isEnabledFor(level):
        return
    fields = {
        "model": event.model,
        "outcome": attempt.outcome if attempt is not None else None,
        "kind": attempt.kind.value if attempt is not None and attempt.kind is not None else None,
        "status": attempt.status_code if attempt is not None else None,
        "attempt": event.number,
        "wait": event.wait,
        "request_id": event.request_id,
    }
    _say(log, level, text, *values, extra={f"chutes_{name}": value for name, value in fields.items()})


def _say(
    log: logging.Logger,
    level: int,
    text: str,
    *values: object,
    exc_info: bool = False,
    extra: Mapping[str, object] | None = None,
) -> None:
    try:
        log.log(level, text, *values, exc_info=exc_info, extra=extra)
    except Exception as error:  # a handler or a filter that fails breaks no call either
        if logging.raiseExceptions:  # as logging's own handlers do; without the failure of the call, which has words
            traceback.print_exception(error, chain=False)
