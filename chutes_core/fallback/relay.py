"""What of an attempt may be given out, and when: the part of a fallback between its members and its reader. Pure.

Only what a reader was given and cannot take back commits a call to the member that gave it: text, or a value of an
object. Reasoning is given out at once, and the next member's takes its place; tool calls wait until their answer is
whole, since whoever gets one may act on it; text that is blank waits for more. Between the parts of an answer that was
given up and those of the next, :class:`Restart` says that what came before is void.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from chutes_core.errors import APIError, ConfigurationError, RequestRefusedError
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.carried import Carried, CarriedReply
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.objects import Objects, check_reply
from chutes_core.fallback.trace import Attempt, Receipt
from chutes_core.reply.structured import Form
from chutes_core.response import Delta, Reply

__all__ = ["Answer", "AsyncAnswer", "Observer", "Relay", "Restart", "shows_any"]

A = TypeVar("A", bound="Answer | AsyncAnswer")


@dataclass(slots=True)
class Restart(Delta):
    """What came before is void: the member ``model`` starts over.

    If text came before, that is with ``FallbackPolicy(after_commit="restart")`` alone; reasoning is void, with any
    policy, if its member fails before its answer begins.

    Attributes:
        model: The member that begins.
        text: Whether text is void, or reasoning alone.
    """

    model: str = ""
    text: bool = True


class Answer(Iterator[Delta], Protocol):
    """A member's answer: its deltas, then the reply."""

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the connection."""


class AsyncAnswer(AsyncIterable[Delta], Protocol):
    """Async version of :class:`Answer`."""

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""

    async def __aenter__(self) -> Self:
        """Begin."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the connection."""


class Observer(Protocol):
    """Is told of the attempts of one call, as they happen."""

    def begins(self, step: Try) -> None:
        """An attempt begins."""

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """An attempt has ended, or a member was skipped."""

    async def heard(self) -> None:
        """Do what has to be awaited; in async calls, soon after each of the others."""


class Relay:
    """Decides what of each attempt is given out, keeps the reply, and tells of attempts as they begin and end.

    Args:
        call: The call.
        whole: Give nothing out, but the reply at the end.
        price: Returns the cost of a reply.
        observer: Is told of the attempts.
        objects: The form of objects that the reader sees, as they grow, and nothing else.
        form: What the text of a whole answer is checked against.
        thinks: Whether reasoning may be given out before it is certain that it stays.

    Attributes:
        reply: The whole reply, once there is one.
    """

    def __init__(
        self,
        call: Call,
        *,
        whole: bool = False,
        price: Callable[[Reply], float | None] = lambda reply: None,
        observer: Observer | None = None,
        objects: Form | None = None,
        form: Form | None = None,
        thinks: bool = True,
    ) -> None:
        self.call = call
        self.whole = whole
        self.reply: Reply | None = None
        self._price = price
        self._observer = observer
        self._holds = whole or call.policy.after_commit == "hold"
        self._objects = Objects(objects) if objects is not None and not self._holds else None
        self._form = form
        self._thinks = thinks
        self._answer: Answer | AsyncAnswer | None = None
        self._early: list[Delta] = []  # what shows nothing by itself, until something does
        self._late: list[Delta] = []  # what waits for the end
        self._open = False  # whether the answer has begun, and goes out as it comes
        self._given = False  # whether something was given out that may become void
        self._told = 0

    # ----------------------------------------------------------------------------------------------- one attempt

    def begin(self, step: Try) -> Sequence[Delta]:
        """Start an attempt; return the marker if something of another one was given out."""
        self.tell()  # of skipped members
        self._answer, self._early, self._late, self._open = None, [], [], False
        if self._objects is not None:
            self._objects.begin()
        if self._observer is not None:
            self._observer.begins(step)
        given, self._given = self._given, False
        return (Restart(model=step.member.name, text=step.restart),) if given else ()

    def asked(self, answer: A) -> A:
        """Note the answer that is about to be read."""
        self._answer = answer
        return answer

    def take(self, delta: Delta) -> Sequence[Delta]:
        """Take a delta and return what may be given out now; most are further pieces of a text."""
        if self._open and type(delta) is Delta and not delta.tool_calls:
            return (delta,)
        if self._holds or self._objects is not None:
            return self._object(delta)
        if delta.tool_calls:
            self.call.first_part(given_out=False)
            self._late.append(delta)
            return ()
        if (delta.content and not delta.content.isspace()) or (isinstance(delta, Carried) and delta.shown):
            return self._opened(delta)
        if delta.reasoning and self._thinks:
            self.call.first_part(given_out=False)
            return self._released(delta)
        self._early.append(delta)
        return ()

    def _object(self, delta: Delta) -> Sequence[Delta]:
        """Take a delta for a reader who sees objects, or nothing before the end."""
        if self._open:
            return (delta,)
        if shows_any(delta):
            self.call.first_part(given_out=False)
        if self._objects is not None and self._objects.shows(delta):
            return self._opened(delta)
        self._early.append(delta)
        return ()

    def _opened(self, delta: Delta) -> Sequence[Delta]:
        self.call.first_part()
        self._open = True
        return self._released(delta)

    def _released(self, delta: Delta) -> Sequence[Delta]:
        """Return a delta with those that were held back before it."""
        self._given = True
        if not self._early:
            return (delta,)
        given, self._early = [*self._early, delta], []
        return given

    def accept(self, reply: Reply) -> Reply:
        """Return the whole reply of a member, or raise the failure that it is: frameworks may refuse more."""
        if self._form is not None:
            check_reply(self._form, reply, str(reply.model))
        return reply

    # ------------------------------------------------------------------------------------------ how an attempt ends

    def end(self, reply: Reply) -> Sequence[Delta]:
        """Keep the whole reply, and return what is still held back."""
        self.reply = reply
        cost = self._price(reply) if not isinstance(reply, CarriedReply) else None
        self.call.succeeded(reply.usage, Receipt(reply.model, cost))
        self.tell()
        return (*self._early, *self._late)

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or that it could not be asked; re-raise an exception that is neither."""
        try:
            if isinstance(error, ConfigurationError) and not isinstance(error, RequestRefusedError):
                self.call.unable(error)
                return
            found = as_failure(error, step.member.name)
            if found is None:
                self.call.cancelled(self._arrived().usage)
                raise error
            self.failed(found)
        finally:
            self.tell(error)

    def failed(self, error: APIError) -> None:
        """Record a member's failure, with what has arrived."""
        arrived = self._arrived()
        if arrived.choices and error.partial_reply is None:
            error.partial_reply = arrived
        self.call.failed(error, arrived.usage)

    def left(self, error: BaseException) -> None:
        """Record that the caller stopped early."""
        self.call.cancelled(self._arrived().usage)
        self.tell(error)

    def _arrived(self) -> Reply:
        return self._answer.reply if self._answer is not None else _NOTHING

    @property
    def latest(self) -> Reply:
        """The reply, or what has arrived of it."""
        return self.reply or self._arrived()

    # ------------------------------------------------------------------------------------------------- observers

    def tell(self, error: BaseException | None = None) -> None:
        """Tell of the attempts that have ended since the last time."""
        if self._observer is not None:
            ended, self._told = self.call.attempts[self._told :], len(self.call.attempts)
            for attempt in ended:
                self._observer.ended(attempt, error)

    async def heard(self) -> None:
        """Wait until the observer has heard what it was told."""
        if self._observer is not None:
            await self._observer.heard()


_NOTHING = Reply(None, None, ())


def shows_any(delta: Delta) -> bool:
    """Return whether a delta shows any of the answer."""
    return bool(delta.content or delta.reasoning or delta.tool_calls) or (isinstance(delta, Carried) and delta.shown)
