"""The only part of the engine that waits: two loops, one blocking and one on the event loop.

What a member gives are *parts* (deltas of ours, chunks of a framework). :class:`Relay` decides which of them may be
given out when; the loops fetch parts, hand them over, and report what happened to the :class:`Call`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Generic, TypeVar, cast

from chutes_core.clock import Clock
from chutes_core.fallback.call import Call, GiveUp, Try, Wait
from chutes_core.fallback.foreign import as_failure
from chutes_core.usage import Usage

__all__ = ["Relay", "afallback", "fallback"]

P = TypeVar("P")


class Relay(Generic[P]):
    """Holds parts back until they may be seen.

    Args:
        call: The call.
        shows: Whether a part shows something of the answer.
        holds: Whether a part has to wait for the whole answer, as a tool call does where an answer may restart.
        usage: The usage that a part reports, if it does.
        marker: Makes the part that tells a reader to forget what came before.
        whole: Give parts out only when the answer is whole.
    """

    def __init__(
        self,
        call: Call,
        *,
        shows: Callable[[P], bool],
        usage: Callable[[P], Usage | None],
        marker: Callable[[Try], P] | None = None,
        holds: Callable[[P], bool] = lambda part: False,
        whole: bool = False,
    ) -> None:
        self.call = call
        self._shows = shows
        self._usage = usage
        self._marker = marker
        self._holds = holds
        self._whole = whole
        self._early: list[P] = []
        self._late: list[P] = []
        self._shown = False
        self._last_usage: Usage | None = None

    def begin(self, step: Try) -> list[P]:
        """A member is asked: give out the reset marker where a part of another answer was seen."""
        self._early, self._late, self._shown, self._last_usage = [], [], False, None
        return [self._marker(step)] if step.restart and self._marker is not None else []

    def take(self, part: P) -> list[P]:
        """Take a part and return what may be given out now."""
        self._last_usage = self._usage(part) or self._last_usage
        late = self._whole or self._holds(part)
        if self._shows(part):
            self.call.first_part(given_out=not late)
            self._shown = self._shown or not late
        if late:
            self._late.append(part)
            return []
        self._early.append(part)  # what shows nothing waits: another member may take its place unseen
        given, self._early = (self._early, []) if self._shown else ([], self._early)
        return given

    def end(self) -> list[P]:
        """The answer is whole: return what is still held."""
        self.call.succeeded(self._last_usage)
        return [*self._early, *self._late]

    def broke(self, error: Exception, step: Try) -> None:
        """A member failed; what is no failure of a model is raised as it is."""
        found = as_failure(error, step.member.name)
        if found is None:
            self.call.cancelled()
            raise error
        self.call.failed(found)


def fallback(relay: Relay[P], ask: Callable[[Try], Iterator[P]], *, clock: Clock) -> Generator[P, None, None]:
    """Run a call, blocking: give out the parts of the answer, or raise."""
    while True:
        step = relay.call.next()
        if isinstance(step, GiveUp):
            raise step.error
        if isinstance(step, Wait):
            clock.sleep(step.seconds)
            continue
        yield from relay.begin(step)
        try:
            with closing(cast("Generator[P, None, None]", ask(step))) as parts:
                for part in parts:
                    yield from relay.take(part)
        except Exception as error:
            relay.broke(error, step)
            continue
        except BaseException:
            relay.call.cancelled()
            raise
        yield from relay.end()
        return


async def afallback(
    relay: Relay[P], ask: Callable[[Try], AsyncIterator[P]], *, clock: Clock
) -> AsyncGenerator[P, None]:
    """Run a call on the event loop: give out the parts of the answer, or raise."""
    while True:
        step = relay.call.next()
        if isinstance(step, GiveUp):
            raise step.error
        if isinstance(step, Wait):
            await clock.asleep(step.seconds)
            continue
        for marker in relay.begin(step):
            yield marker
        try:
            async with aclosing(cast("AsyncGenerator[P, None]", ask(step))) as parts:
                async for part in parts:
                    for given in relay.take(part):
                        yield given
        except Exception as error:
            relay.broke(error, step)
            continue
        except BaseException:
            relay.call.cancelled()
            raise
        for given in relay.end():
            yield given
        return
