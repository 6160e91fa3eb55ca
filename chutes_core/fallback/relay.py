"""What of an attempt may be given out, and when: the part of a fallback between its members and its reader. Pure.

Only what a reader was given and cannot take back commits a call to the member that gave it: text, or a value of an
object. Reasoning is given out at once, and the next member's takes its place; tool calls wait until their answer is
whole, since whoever gets one may act on it; text that is blank waits for more. Between the parts of an answer that was
given up and those of the next, :class:`Restart` says that what came before is void.

Where an answer may be gone on with, its text is given out in whole words; what is not yet is dropped when its member
dies, and the next one's text goes through a :class:`Seam`. The reply is then that of several members: the text that was
given out, and the sum of what they used.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self, TypeVar

from chutes_core.attempt import Attempt
from chutes_core.catalog.names import ModelRef
from chutes_core.errors import APIError, ChutesError, ConfigurationError, RequestRefusedError
from chutes_core.fallback.call import Call, Try
from chutes_core.fallback.carried import Carried, CarriedReply
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.objects import Objects, check_reply
from chutes_core.fallback.resume import LEAST, Resume, Seam, Words, can_go_on
from chutes_core.fallback.telling import About, Telling
from chutes_core.fallback.trace import FallbackError, Receipt
from chutes_core.reply.structured import Form
from chutes_core.response import Delta, Reply
from chutes_core.secrets.headers import MASK
from chutes_core.usage import Usage

__all__ = ["RESUMED", "Answer", "AsyncAnswer", "Observer", "Relay", "Restart", "shows_any"]

RESUMED = "chutes_resumed"
"""The name of the list of places where others went on with an answer, in its metadata."""

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

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        """The attempt that began with ``step`` has ended, or a member was skipped, with none."""

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
        fits: Returns whether an answer to the request can be gone on with.
        about: What hooks are told of the call, beside its attempts.

    As a context manager it is the whole call: hooks are told when it begins and when it is over.

    Attributes:
        reply: The whole reply, once there is one.
        step: The attempt whose answer is taken, or was last; None before the first.
        resume: Where the attempt that is about to be made goes on; None if it begins an answer.
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
        fits: Callable[[], bool] = lambda: True,
        about: About | None = None,
    ) -> None:
        self.call = call
        self._telling = Telling(call, about or {})
        self.whole = whole
        self.reply: Reply | None = None
        self.step: Try | None = None
        self._price = price
        self._observer = observer
        after = call.policy.after_commit
        if after == "resume_or_hold" and not (whole or (objects is None and call.resumable and fits())):
            after = "hold"
            call.hold()
        self._holds = whole or after == "hold"
        self._objects = Objects(objects) if objects is not None and not self._holds else None
        self._form = form
        self._thinks = thinks
        self._answer: Answer | AsyncAnswer | None = None
        self._early: list[Delta] = []  # what shows nothing by itself, until something does
        self._late: list[Delta] = []  # what waits for the end
        self._open = False  # whether the answer has begun, and goes out as it comes
        self._given = False  # whether something was given out that may become void
        self._told = 0
        self.resume: Resume | None = None
        self._words = Words(LEAST) if after.startswith("resume") and not self._holds and objects is None else None
        self._seam: Seam | None = None
        self._text: list[str] = []  # that was given out of this answer, whoever gave it
        self._past: list[Reply] = []  # what broke off after some of it was given out
        self._secret = False  # whether a secret was masked in what an error has of it, which the text given out has
        self._used: list[Usage | None] = []
        self._links: list[dict[str, object]] = []  # where others went on
        self._author = self._member = ""  # whose text was given out last, and whose turn it is
        self._spoke = self._foreign = False  # whether text of this attempt was given out, and text in others' chunks
        self._first: APIError | None = None

    def __enter__(self) -> Self:
        self._telling.starts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._telling.over(self.reply, error if self.reply is None else None)

    # ----------------------------------------------------------------------------------------------- one attempt

    def begin(self, step: Try) -> Sequence[Delta]:
        """Start an attempt; return the marker if something of another one was given out."""
        self.tell()  # of skipped members
        self.step = step
        self._answer, self._early, self._late, self._open = None, [], [], False
        if self._objects is not None:
            self._objects.begin()
        self._telling.begins(step)
        if self._observer is not None:
            self._observer.begins(step)
        self.resume = self._seam = None
        self._member, self._spoke = step.member.name, False
        if self._words is not None:
            self._words = Words(0 if step.resume else LEAST)
        if step.resume:
            self._goes_on(step)
            return ()
        given, self._given = self._given, False
        self._text, self._past, self._used, self._links, self._foreign = [], [], [], [], False
        self._first, self._secret = None, False
        return (Restart(model=step.member.name, text=step.restart),) if given else ()

    def _goes_on(self, step: Try) -> None:
        """Prepare an attempt that goes on with the answer."""
        info, text = step.member.info, "".join(self._text)
        off = info is not None and info.traits.prefill == "thinking_off"
        used = sum(_tokens(reply) for reply in self._past)
        self._seam = Seam(text, self._member)
        self.resume = Resume(text, self._past[0].reasoning, used, self._member == self._author, off)

    def beside(self) -> Try | None:
        """Start an attempt at another member, while that one is silent; None if there is none to be made."""
        step = self.call.beside()
        if step is not None:
            self.step = step
            self._telling.begins(step, beside=True)
            if self._observer is not None:
                self._observer.begins(step)
        return step

    def turn(self, step: Try, answer: Answer | AsyncAnswer) -> None:
        """Turn to one of the attempts that are under way: what comes and what is reported is of it."""
        self.call.turn(step)
        self.step, self._answer, self._member = step, answer, step.member.name

    def asked(self, answer: A) -> A:
        """Note the answer that is about to be read."""
        self._answer = answer
        return answer

    def take(self, delta: Delta) -> Sequence[Delta]:
        """Take a delta and return what may be given out now; most are further pieces of a text."""
        if type(delta) is Delta and not self._holds:
            if delta.finish_reason is not None:  # comes after all that is held back
                self._late.append(delta)
                return ()
            if delta.tool_calls and (delta.content or delta.reasoning):  # the text does not wait with the call
                said, called = replace(delta, tool_calls=()), replace(delta, content="", reasoning="")
                return (*self.take(said), *self.take(called))
        if self._words is not None:
            return self._worded(self._words, delta)
        if self._open and type(delta) is Delta and not delta.tool_calls:
            return (delta,)
        return self._sorted(delta)

    def _worded(self, words: Words, delta: Delta) -> Sequence[Delta]:
        """Take a delta of an answer that may be gone on with."""
        if isinstance(delta, Carried) or delta.tool_calls:
            self._foreign = self._foreign or isinstance(delta, Carried)
            return self._sorted(delta)
        if self._seam is not None and not self._seam.open:
            if delta.reasoning:
                raise self._seam.refused("it thinks before it goes on")
            text = self._through(self._seam, delta.content)
        else:
            text = delta.content
        text = words.take(text) if text else ""
        if delta.content and not text:
            self.call.first_part(given_out=False)
            return self._sorted(replace(delta, content="")) if delta.reasoning else ()
        if text:
            self._spoken(text)
        return self._sorted(delta if text == delta.content else replace(delta, content=text))

    def _through(self, seam: Seam, text: str, *, ends: bool = False) -> str:
        """Take a piece of a continuation; before any of it is given out, see that it is one."""
        given = seam.take(text, ends=ends)
        if seam.open:
            arrived = self._arrived()
            names = [name.lower() for name in ModelRef.parse(self._member).names]  # without ":latency" or ":THINKING"
            if arrived.model is not None and arrived.model.lower() not in names:
                raise seam.refused(f"{arrived.model!r} answered")
            first, now = self._past[0].usage, arrived.usage
            same = self.resume is not None and self.resume.same
            if same and first is not None and now is not None:
                least = first.prompt_tokens + sum(map(len, self._text)) // 8 - _SLACK
                if now.prompt_tokens < least:
                    raise seam.refused("what was given out has not reached it")
        return given

    def _spoken(self, text: str) -> None:
        """Note text that is given out."""
        if self._seam is not None and not self._spoke:
            self._links.append({"at": self.call.given, "from": self._author, "to": self._member, "how": "prefill"})
        self._spoke, self._author = True, self._member
        self._text.append(text)
        self.call.given += len(text)

    def _sorted(self, delta: Delta) -> Sequence[Delta]:
        """Take a delta that is not simply more text."""
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
            if type(delta) is not Delta:
                return self._released(delta)
            self._given = True  # blank text goes on waiting: it is not reasoning, and would not be void with it
            waits = [each for each in self._early if each.content]
            given = [each for each in self._early if not each.content]
            self._early = [*waits, replace(delta, reasoning="")] if delta.content else waits
            return (*given, replace(delta, content="") if delta.content else delta)
        self._early.append(delta)
        return ()

    def _object(self, delta: Delta) -> Sequence[Delta]:
        """Take a delta for a reader who sees objects, or nothing before the end."""
        if delta.tool_calls and self._form is not None and not self._holds:  # text was asked for, and a call is none
            self.call.first_part(given_out=False)
            self._late.append(delta)
            return ()
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
            check_reply(self._form, reply, str(reply.model), quiet=self._sealed)
        if self._words is not None and not self._foreign:
            rest = self._through(self._seam, "", ends=True) if self._seam is not None and not self._seam.open else ""
            last = self._words.take(rest) + self._words.rest()
            if last:
                self._spoken(last)
                self._early.append(Delta(last))
        return reply

    # ------------------------------------------------------------------------------------------ how an attempt ends

    def end(self, reply: Reply) -> Sequence[Delta]:
        """Keep the whole reply, and return what is still held back."""
        self.reply = self._joined(reply) if self._past else reply
        cost = self._price(reply) if not isinstance(reply, CarriedReply) else None
        self.call.succeeded(reply.usage, Receipt(reply.model, cost))
        self.tell()
        return (*self._early, *self._late)

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or that it could not be asked; re-raise an exception that is neither."""
        try:
            here = isinstance(error, ChutesError) and not isinstance(error, APIError | FallbackError)
            own = isinstance(error, ConfigurationError) and not isinstance(error, RequestRefusedError)
            if own or (here and (step.resume or self.call.two)):  # what there is goes on without it
                self.call.unable(error)  # type: ignore[arg-type]
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
        arrived, told = self._arrived(), error.partial_reply
        self._secret = self._secret or (told is not None and MASK in told.content and told.content != arrived.content)
        if arrived.choices and told is None:
            error.partial_reply = self._kept(arrived)
        if self._words is None or not self._text:
            self.call.failed(error, arrived.usage)
            return
        text = "".join(self._text)
        if self._spoke:
            self._past.append(arrived)
        self._used.append(arrived.usage)  # also of who gave nothing out: it was asked to go on
        self._first = self._first or error
        # A call that was begun would be forgotten: what goes on is text.
        plain = not self._foreign and not any(each.tool_calls for each in self._late)
        self.call.failed(error, arrived.usage, resumable=plain and bool(self._past) and can_go_on(text))
        if self._past and not self._secret:
            self._first.partial_reply = self._kept(self._joined(replace(self._past[-1], usage=None), broken=True))

    def _kept(self, reply: Reply) -> Reply:
        """Return what has arrived as an error may hold it: where it came encrypted, it is not shown."""
        if not self._sealed:
            return reply
        from chutes_core.e2ee.privacy import not_shown

        return not_shown(reply)

    @property
    def _sealed(self) -> bool:
        """Whether anything of the answer may have come encrypted."""
        return any(member.sealed for member in self.call.order)

    def left(self, error: BaseException) -> None:
        """Record that the caller stopped early."""
        self.call.cancelled(self._arrived().usage)
        self.tell(error)

    def outrun(self) -> None:
        """Record that another member has begun first."""
        self.call.outrun(self._arrived().usage)
        self.tell()

    def _arrived(self) -> Reply:
        return self._answer.reply if self._answer is not None else _NOTHING

    def _joined(self, reply: Reply, *, broken: bool = False) -> Reply:
        """Return the reply of all who went on with the answer."""
        first, last = self._past[0], reply.choices[0]
        choice = replace(last, content="".join(self._text), reasoning=first.reasoning, logprobs=None)
        if broken:
            choice = replace(choice, finish_reason=None, tool_calls=(), invalid_tool_calls=())
        used = [*self._used, *(() if broken else (reply.usage,))]
        usage = sum((each for each in used[1:] if each is not None), used[0]) if None not in used else None
        extra = {**reply.extra, RESUMED: self._links} if self._links else reply.extra
        return replace(reply, id=first.id, created=first.created, choices=(choice,), usage=usage, extra=extra)

    @property
    def holds(self) -> bool:
        """Whether nothing of an answer is given out before it is whole."""
        return self._holds

    @property
    def latest(self) -> Reply:
        """The reply, or what has arrived of it."""
        if self.reply is None and self._past:
            last = self._arrived()
            return self._joined(last if last.choices and self._spoke else self._past[-1], broken=True)
        return self.reply or self._arrived()

    # ------------------------------------------------------------------------------------------------- observers

    def tell(self, error: BaseException | None = None) -> None:
        """Tell of the attempts that have ended since the last time."""
        attempts = self.call.attempts
        while self._told < len(attempts):
            attempt = attempts[self._told]
            self._told += 1
            self._telling.ended(attempt, error)
            if self._observer is not None:
                self._observer.ended(attempt, error, self.step)

    async def heard(self) -> None:
        """Wait until the observer has heard what it was told."""
        if self._observer is not None:
            await self._observer.heard()


_NOTHING = Reply(None, None, ())
_SLACK = 64  # tokens of a prompt that a switched template may leave out


def _tokens(reply: Reply) -> int:
    """Return how many tokens an answer has so far: as reported, or at the least one for four characters."""
    return reply.usage.completion_tokens if reply.usage is not None else len(reply.content) // 4


def shows_any(delta: Delta) -> bool:
    """Return whether a delta shows any of the answer."""
    return bool(delta.content or delta.reasoning or delta.tool_calls) or (isinstance(delta, Carried) and delta.shown)
