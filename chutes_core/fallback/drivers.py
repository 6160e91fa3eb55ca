"""The drivers of a fallback, the only part that waits: one loop blocking, one on the event loop.

A member yields *parts* (our deltas, or a framework's chunks). :class:`Relay` decides when they may be delivered; the
loops fetch parts, pass them to it, and report outcomes to the :class:`Call`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Generic, TypeVar, cast

from chutes_core.calls.clock import Clock
from chutes_core.errors import APIError, ConfigurationError, RequestRefusedError
from chutes_core.fallback.call import Call, GiveUp, Try, Wait
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.trace import Receipt
from chutes_core.usage import Usage

__all__ = ["Relay", "afallback", "fallback"]

P = TypeVar("P")


class Relay(Generic[P]):
    """Holds parts back until they may be delivered.

    Args:
        call: The call.
        shows: Returns whether a part shows any of the answer.
        holds: Returns whether a part must wait for the complete answer, like a tool call if answers may restart.
        usage: Returns the usage that a part reports, if any.
        marker: Creates the part that tells a reader to discard what came before.
        whole: Deliver parts only once the answer is complete.
        receipt: Returns what the last part of an answer reports about it.
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
        """Start an attempt; return the reset marker if part of another answer was delivered."""
        self._early, self._late, self._shown, self._last_usage = [], [], False, None
        return [self._marker(step)] if step.restart and self._marker is not None else []

    def take(self, part: P) -> Sequence[P]:
        """Take a part and return what may be delivered now."""
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
            return ()  # hold it back: another member may still replace this one unnoticed
        self.call.first_part()
        self._shown, given, self._early = True, self._early, []
        return self.opened(given)

    def opened(self, given: list[P]) -> list[P]:
        """Return the first delivered parts of an attempt; frameworks may override this to change them."""
        return given

    def end(self) -> list[P]:
        """Finish a complete answer; return what is still held back."""
        held = [*self._early, *self._late]
        self.call.succeeded(self._last_usage, self._receipt(held[-1]) if held and self._receipt is not None else None)
        return held

    def gave_up(self) -> None:
        """Learn that nobody is left to ask."""

    async def heard(self) -> None:
        """Wait until observers have heard what they were told, in async calls."""

    def left(self, error: BaseException) -> None:
        """Record that the caller stopped midway."""
        self.call.cancelled(self._last_usage)

    def broke(self, error: Exception, step: Try) -> None:
        """Record a member's failure, or that it could not be asked; re-raise an exception that is neither."""
        if isinstance(error, ConfigurationError) and not isinstance(error, RequestRefusedError):
            self.call.unable(error)
            return
        found = as_failure(error, step.member.name)
        if found is None:
            self.left(error)
            raise error
        self.failed(found)

    def failed(self, error: APIError) -> None:
        """Record a failure of a member."""
        self.call.failed(error, self._last_usage)


def fallback(relay: Relay[P], ask: Callable[[Try], Iterator[P]], *, clock: Clock) -> Generator[P, None, None]:
    """Run a call, blocking; yield the parts of the answer, or raise."""
    while True:
        step = relay.call.next()
        if isinstance(step, GiveUp):
            relay.gave_up()
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
        except BaseException as error:
            relay.left(error)
            raise
        yield from relay.end()
        return


async def afallback(
    relay: Relay[P], ask: Callable[[Try], AsyncIterator[P]], *, clock: Clock
) -> AsyncGenerator[P, None]:
    """Run a call on the event loop; yield the parts of the answer, or raise."""
    while True:
        step = relay.call.next()
        if isinstance(step, GiveUp):
            relay.gave_up()
            await relay.heard()
            raise step.error
        if isinstance(step, Wait):
            await clock.asleep(step.seconds)
            continue
        try:
            markers = relay.begin(step)
            await relay.heard()
            for marker in markers:
                yield marker
            parts = cast("AsyncGenerator[P, None]", ask(step))
            try:
                async for part in parts:
                    for given in relay.take(part):
                        yield given
            finally:
                await parts.aclose()
        except Exception as error:
            try:
                relay.broke(error, step)
            finally:
                await relay.heard()
            continue
        except BaseException as error:
            relay.left(error)
            await relay.heard()
            raise
        held = relay.end()
        await relay.heard()
        for given in held:
            yield given
        return
