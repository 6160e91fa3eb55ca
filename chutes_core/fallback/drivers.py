"""The only part of the engine that waits: two loops, one blocking and one on the event loop.

What a member gives are *parts* (deltas of ours, chunks of a framework). :class:`Relay` decides which of them may be
given out when; the loops fetch parts, hand them over, and report what happened to the :class:`Call`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar, cast

from chutes_core.clock import Clock
from chutes_core.errors import APIError
from chutes_core.fallback.call import Call, GiveUp, Try, Wait
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.trace import Receipt
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
        receipt: What the last part of an answer says of it.
    """

    def __init__(
        self,
        call: Call,
        *,
        shows: Callable[[P], bool],
        usage: Callable[[P], Usage | None],
        marker: Callable[[Try], P] | None = None,
        holds: Callable[[P], bool] | None = None,
        whole: bool = False,
        receipt: Callable[[P], Receipt] | None = None,
    ) -> None:
        self.call = call
        self._shows = shows
        self._usage = usage
        self._marker = marker
        self._holds = holds
        self._whole = whole
        self._receipt = receipt
        self._early: list[P] = []
        self._late: list[P] = []
        self._shown = False
        self._last_usage: Usage | None = None

    def begin(self, step: Try) -> list[P]:
        """A member is asked: give out the reset marker where a part of another answer was seen."""
        self._early, self._late, self._shown, self._last_usage = [], [], False, None
        return [self._marker(step)] if step.restart and self._marker is not None else []

    def take(self, part: P) -> Sequence[P]:
        """Take a part and return what may be given out now."""
        told = self._usage(part)
        if told is not None:
            self._last_usage = told
        if self._whole or (self._holds is not None and self._holds(part)):
            if self._shows(part):
                self.call.first_part(given_out=False)
            self._late.append(part)
            return ()
        if self._shown:
            return (part,)
        self._early.append(part)
        if not self._shows(part):
            return ()  # what shows nothing waits: another member may take its place unseen
        self.call.first_part()
        self._shown, given, self._early = True, self._early, []
        return self.opened(given)

    def opened(self, given: list[P]) -> list[P]:
        """The first parts that are given out of an attempt; frameworks may change them."""
        return given

    def end(self) -> list[P]:
        """The answer is whole: return what is still held."""
        held = [*self._early, *self._late]
        self.call.succeeded(self._last_usage, self._receipt(held[-1]) if held and self._receipt is not None else None)
        return held

    def left(self) -> None:
        """The caller has left in the middle."""
        self.call.cancelled(self._last_usage)

    def broke(self, error: Exception, step: Try) -> None:
        """A member failed; what is no failure of a model is raised as it is."""
        found = as_failure(error, step.member.name)
        if found is None:
            self.left()
            raise error
        self.failed(found)

    def failed(self, error: APIError) -> None:
        """A member failed, and it counts."""
        self.call.failed(error, self._last_usage)


def fallback(relay: Relay[P], ask: Callable[[Try], Iterator[P]], *, clock: Clock) -> Generator[P, None, None]:
    """Run a call, blocking: give out the parts of the answer, or raise."""
    while True:
        step = relay.call.next()
        if isinstance(step, GiveUp):
            raise step.error
        if isinstance(step, Wait):
            clock.sleep(step.seconds)
            continue
        try:
            yield from relay.begin(step)
            parts = cast("Generator[P, None, None]", ask(step))
            try:
                for part in parts:
                    yield from relay.take(part)
            finally:
                parts.close()
        except Exception as error:
            relay.broke(error, step)
            continue
        except BaseException:
            relay.left()
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
        try:
            for marker in relay.begin(step):
                yield marker
            parts = cast("AsyncGenerator[P, None]", ask(step))
            try:
                async for part in parts:
                    for given in relay.take(part):
                        yield given
            finally:
                await parts.aclose()
        except Exception as error:
            relay.broke(error, step)
            continue
        except BaseException:
            relay.left()
            raise
        for given in relay.end():
            yield given
        return
