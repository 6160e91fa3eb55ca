"""Many calls at once on one event loop."""

from __future__ import annotations

import asyncio
import time

from benchmarks.speed.canned import text_of
from benchmarks.speed.clients import Client

WIDE = 64


async def throughput(client: Client, calls: int) -> dict[str, float]:
    """Make calls from 64 tasks at once; requests per second of wall time."""
    awhole, asked = client.awhole, client.messages([("user", "Say something.")])
    assert awhole is not None
    expected = text_of(8)

    async def worker(count: int) -> None:
        for _ in range(count):
            if await awhole(asked) != expected:
                raise AssertionError("another answer came than was given")

    async def turns(each: int) -> tuple[float, float]:
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(worker(each) for _ in range(WIDE)))
        return time.monotonic() - began, time.process_time() - cpu

    first, _ = await turns(1)
    each = max(calls // WIDE, 1) if first < 2 else 1  # a client that is very slow has shown it by now
    took, cpu = await turns(each)
    return {f"{WIDE} at once: requests/s": WIDE * each / took, f"{WIDE} at once: cpu": cpu / WIDE / each * 1e6}
