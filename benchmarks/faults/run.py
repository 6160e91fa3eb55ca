"""Run a client through a scenario, and add up what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import warnings
from collections import Counter
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass

from benchmarks.faults import virtual
from benchmarks.faults.clients import Asker, Client, Kit
from benchmarks.faults.judge import Heard, Verdict, judge
from benchmarks.faults.server import Server
from benchmarks.faults.world import SCENARIOS, Call, World

GIVE_UP = 300.0  # seconds after which a call counts as an error, whatever its client still hopes for
LEAK = 1.0  # seconds after a call's end in which its connections may still be closed


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call's result.

    Attributes:
        first: Seconds to the first visible word; None for tool calls, which are of use only when they are whole.
        took: Seconds to the end.
        attempts: Requests that the server saw.
        tokens: Tokens that it generated for them.
        leaks: Replies that stayed open.
        odd: The error that was raised, by its type.
    """

    call: Call
    verdict: Verdict
    first: float | None
    took: float
    attempts: int
    tokens: int
    leaks: int
    odd: str


async def ask(asker: Asker, call: Call, server: Server) -> Outcome:
    """Make one call, as a reader with a clock."""
    loop = asyncio.get_running_loop()
    began, heard = loop.time(), Heard()
    first: float | None = None
    try:
        async with asyncio.timeout(GIVE_UP):
            if server.world.scenario.whole:
                for part in await asker.whole(call):
                    heard.take(part)
            else:
                async with contextlib.aclosing(asker.stream(call)) as parts:  # type: ignore[type-var]
                    async for part in parts:
                        heard.take(part)
                        if first is None and heard.text:
                            first = loop.time() - began
    except Exception as error:
        heard.error = error
    took = loop.time() - began
    verdict, odd = judge(call, heard), type(heard.error).__name__ if heard.error is not None else ""
    del heard
    await asyncio.sleep(LEAK)
    index = call.index
    return Outcome(
        call, verdict, first, took, server.attempts[index], server.tokens[index], server.open[index], odd
    )  # fmt: skip


async def _open(asker: Asker, server: Server) -> list[Outcome]:
    """Calls come when they come."""

    async def at(call: Call) -> Outcome:
        await asyncio.sleep(call.arrives)
        return await ask(asker, call, server)

    return list(await asyncio.gather(*(at(call) for call in server.world.calls)))


async def _herd(askers: Sequence[Asker], server: Server) -> list[Outcome]:
    """Each process makes its calls one after the other."""

    async def process(number: int) -> list[Outcome]:
        made: list[Outcome] = []
        for call in server.world.calls[number :: len(askers)]:
            # The last second of the pause has passed while its predecessor's connections were looked at.
            await asyncio.sleep(max(call.arrives - (LEAK if made else 0.0), 0.0))
            made.append(await ask(askers[number], call, server))
        return made

    each = await asyncio.gather(*(process(number) for number in range(len(askers))))
    return [outcome for made in each for outcome in made]


def outcomes(client: Client, scenario: str, seed: int, calls: int) -> list[Outcome]:
    """Run one client through one scenario under one seed."""
    world = World(SCENARIOS[scenario], seed, calls)

    async def main(loop: virtual.VirtualLoop) -> list[Outcome]:
        server = Server(world)
        kit = Kit(server, virtual.LoopClock(loop))
        askers = [client.make(kit) for _ in range(min(world.scenario.processes, calls))]
        return await (_open(askers[0], server) if len(askers) == 1 else _herd(askers, server))

    gc.collect()
    random.seed(f"{client.name}/{scenario}/{seed}")  # of the clients' own jitter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            return virtual.run(main, Context())
        finally:
            logging.disable(logging.NOTSET)


def figures(found: Sequence[Outcome]) -> dict[str, object]:
    """Add up the outcomes of a run."""
    count = len(found)
    share = {
        verdict: 100 * sum(each.verdict == verdict for each in found) / count
        for verdict in ("whole", "wrong", "before", "after")
    }
    whole = [each for each in found if each.verdict == "whole"]
    seen = [each.first for each in found if not each.call.tool]
    delivered = sum(each.call.tokens for each in whole)
    attempts = sum(each.attempts for each in found)
    return {
        **share,
        "first": quantiles(seen),
        "first_seen": quantiles([first for first in seen if first is not None]),
        "end": quantiles([each.took if each.verdict == "whole" else None for each in found]),
        "end_whole": quantiles([each.took for each in whole]),
        "attempts": attempts / count,
        "attempts_per_whole": attempts / len(whole) if whole else None,
        "amplification": sum(each.tokens for each in found) / delivered if delivered else None,
        "leaks": sum(each.leaks for each in found),
        "errors": dict(Counter(each.odd for each in found if each.odd).most_common()),
    }


def quantiles(values: Sequence[float | None]) -> dict[str, float | None]:
    """The median, and what 95 and 99 of 100 stay within; None is what never came, which is longest.

    >>> quantiles([1.0, 2.0, 3.0, 4.0, None])
    {'p50': 3.0, 'p95': None, 'p99': None}
    """
    ranked = sorted(values, key=lambda value: (value is None, value))
    last = len(ranked) - 1
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {name: ranked[min(int(share * len(ranked)), last)] if ranked else None for name, share in at.items()}
