"""The drivers of a fallback, the only part that waits: one loop blocking, one on the event loop.

They do what the :class:`Call` decides, pass what members say through the :class:`Relay`, and report outcomes to both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator

from chutes_core.calls.clock import Clock
from chutes_core.fallback.call import GiveUp, Try, Wait
from chutes_core.fallback.readers import AsyncHedged, Hedged
from chutes_core.fallback.relay import Answer, AsyncAnswer, Relay, shows_any
from chutes_core.response import Delta

__all__ = ["afallback", "fallback"]


def fallback(relay: Relay, ask: Callable[[Try], Answer], *, clock: Clock) -> Generator[Delta, None, None]:
    """Run a call, blocking; yield the deltas of the answer, or raise. The reply stays with the relay."""
    with relay:
        while True:
            step = relay.call.next()
            if isinstance(step, GiveUp):
                relay.tell()
                raise step.error
            if isinstance(step, Wait):
                clock.sleep(step.seconds)
                continue
            try:
                marker = relay.begin(step)
                yield from marker
                made = ask(step) if step.hedge is None or marker else Hedged(relay, ask, step, clock)
                with relay.asked(made) as answer:
                    if relay.whole:  # nobody sees the deltas: only where they begin, and what they come to, matters
                        for delta in answer:
                            if shows_any(delta):
                                relay.call.first_part(given_out=False)
                                break
                        for _ in answer:
                            pass
                    else:
                        for delta in answer:
                            yield from relay.take(delta)
                reply = relay.accept(answer.reply)
            except Exception as error:
                if not relay.call.under_way:
                    raise
                relay.broke(error, relay.step or step)
                continue
            except BaseException as error:
                relay.left(error)
                raise
            yield from relay.end(reply)
            return


async def afallback(relay: Relay, ask: Callable[[Try], AsyncAnswer], *, clock: Clock) -> AsyncGenerator[Delta, None]:
    """Run a call on the event loop; yield the deltas of the answer, or raise. The reply stays with the relay."""
    with relay:
        while True:
            step = relay.call.next()
            if isinstance(step, GiveUp):
                relay.tell()
                await relay.heard()
                raise step.error
            if isinstance(step, Wait):
                await clock.asleep(step.seconds)
                continue
            try:
                marker = relay.begin(step)
                await relay.heard()
                for given in marker:
                    yield given
                made = ask(step) if step.hedge is None or marker else AsyncHedged(relay, ask, step, clock)
                async with relay.asked(made) as answer:
                    if relay.whole:
                        async for delta in answer:
                            if shows_any(delta):
                                relay.call.first_part(given_out=False)
                                break
                        async for _ in answer:
                            pass
                    else:
                        async for delta in answer:
                            for given in relay.take(delta):
                                yield given
                reply = relay.accept(answer.reply)
            except Exception as error:
                try:
                    if not relay.call.under_way:
                        raise
                    relay.broke(error, relay.step or step)
                finally:
                    await relay.heard()
                continue
            except BaseException as error:
                relay.left(error)
                await relay.heard()
                raise
            held = relay.end(reply)
            await relay.heard()
            for given in held:
                yield given
            return
