"""Asking a second member beside one that says nothing: what is done, and which of the two answers. Without I/O.

A member that is silent may have a slow machine. Its limit, ``first_token``, has to be long, since a long prompt takes
its time too; so it is long until the next member's turn. With ``FallbackPolicy(hedge=...)`` the next one is asked
meanwhile, and both go on. The first piece of an answer that shows anything decides: its member answers, as if it had
been asked alone, and the other one is stopped, as if it had not been asked, but for what it used.

Theory of operation. :func:`race` is a generator that yields what is to be done, a :data:`Command`, and returns the
:class:`Reader` of the answer. It runs before the relay takes any delta of an attempt. So nothing of the loser can get
further than its reader, and from the end of the race on there is one answer, which ends like any other.

- A reader reads an answer up to its first piece that shows something, and reports once: that piece, the answer's end
  without one, or what it broke with. A report of one that was dropped is never looked at.
- A member that fails is reported to the relay, as ever, while the other one goes on; only the last one's failure is
  raised, for the driver to report.
- Whoever leaves the race early, through an error or because the caller leaves, leaves no reader behind.

What hedges cost is bounded (:meth:`Health.spend_hedge`): each is an attempt of the retry budget, they leave half of it,
and in the long run only one call in some has one, however slow the service is.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import cast

from chutes_core.fallback.call import Try
from chutes_core.fallback.relay import Answer, AsyncAnswer, Relay
from chutes_core.response import Delta

__all__ = ["Ask", "Await", "Command", "Drop", "Heard", "Reader", "race"]


@dataclass(eq=False, slots=True)
class Reader:
    """Reads an answer up to its first piece that shows something.

    Attributes:
        step: The attempt.
        answer: Its answer.
        read: What was read of it.
        error: What it broke with, if it did.
    """

    step: Try
    answer: Answer | AsyncAnswer
    read: list[Delta] = field(default_factory=list)
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a member, and begin to read. Returns the reader."""

    step: Try


@dataclass(frozen=True, slots=True)
class Await:
    """Wait for the next reader's report. Returns the reader; None if there is none within so many seconds."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Drop:
    """Close a reader's connection at once, and let it read no further."""

    reader: Reader
    outrun: bool = False


class Heard:
    """Wait until observers have heard what they were told."""


Command = Ask | Await | Drop | Heard


def race(relay: Relay, step: Try) -> Generator[Command, object, Reader]:
    """Ask a member, and another one beside it after a while; return the reader of the answer.

    Raises:
        BaseException: What the last one of them broke with, whose attempt is still to be reported; or why the race was
            left, and then all of them are.
    """
    readers: list[Reader] = []
    try:
        readers.append(cast("Reader", (yield Ask(step))))
        within = step.hedge
        while True:
            reader = cast("Reader | None", (yield Await(within)))
            within = None
            if reader is None:
                yield from _beside(relay, readers)
                continue
            readers.remove(reader)
            relay.turn(reader.step, reader.answer)
            if reader.error is None:
                break
            yield Drop(reader)
            if not readers:
                break
            if not isinstance(reader.error, Exception):
                raise reader.error
            relay.broke(reader.error, reader.step)
            relay.turn(readers[0].step, readers[0].answer)
            yield Heard()
        for other in list(readers):
            yield Drop(other, outrun=True)
            readers.remove(other)
            relay.turn(other.step, other.answer)
            relay.outrun()
            relay.turn(reader.step, reader.answer)
            yield Heard()
    except BaseException as error:
        try:
            for each in readers:
                if not isinstance(error, GeneratorExit):
                    yield Drop(each)
        finally:  # also if it is interrupted again meanwhile
            for each in readers:
                relay.turn(each.step, each.answer)
                relay.left(error)
        raise
    if reader.error is not None:
        raise reader.error
    return reader


def _beside(relay: Relay, readers: list[Reader]) -> Generator[Command, object, None]:
    """Ask a second member, if there is one that is worth it."""
    step = relay.beside()
    if step is None:
        return
    yield Heard()
    try:
        readers.append(cast("Reader", (yield Ask(step))))
    except Exception as error:
        relay.broke(error, step)
        yield Heard()
    relay.turn(readers[0].step, readers[0].answer)
