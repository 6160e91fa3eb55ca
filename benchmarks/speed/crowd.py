"""Many streams at once, and many calls at once, on one event loop.

Each chunk of a paced stream says when the server sent it, so a chunk's delay is what the client adds. What a client
cannot keep up with adds up, as it does in a real server.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.speed.canned import text_of
from benchmarks.speed.clients import Client, Entry

CHUNKS = 20  # of each stream
PAUSE = 100  # ms between two of them
RAMP = 1.0  # s over which the streams are opened
WIDE = 64


def resident() -> float:
    """The memory of this process in KiB: now where the system says it, else its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return peak()


def peak() -> float:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)


class _Crowd:
    """The streams of one run, and what is seen of them."""

    def __init__(self, client: Client, streams: int) -> None:
        self._client, self._streams = client, streams
        self._asked = client.messages([("user", "Say something long.")])
        self._opened = 0
        self.delays: list[float] = []
        self.memory = 0.0

    async def one(self, after: float) -> None:
        await asyncio.sleep(after)
        first = True
        astream, text = self._client.astream, self._client.text
        assert astream is not None
        async for chunk in astream(self._asked):
            if said := text(chunk).strip():
                self.delays.append((time.monotonic_ns() - int(said)) / 1e6)
                if first:
                    first = False
                    self._open()

    def _open(self) -> None:
        self._opened += 1
        if self._opened == self._streams:
            self.memory = resident()

    async def run(self) -> None:
        await asyncio.gather(*(self.one(RAMP * number / self._streams) for number in range(self._streams)))


def measure(entry: Entry, url: str, sizes: Sequence[int]) -> dict[str, float]:
    """Hold so many streams open at once, one size after the other.

    CPU per chunk with all that belongs to it is in µs, the chunks' delays in ms. The memory per stream, in KiB, is
    that of the first size: later ones find memory that was left over.
    """
    # One event loop for all: the connections of some clients do not survive theirs.
    return asyncio.run(_hold_each(entry, url, sizes))


async def _hold_each(entry: Entry, url: str, sizes: Sequence[int]) -> dict[str, float]:
    found: dict[str, float] = {}
    for streams in sizes:
        seen = await _hold(entry, url, streams)
        found |= {f"{streams} streams: {name}": value for name, value in seen.items() if name != "memory" or not found}
    return found


async def _hold(entry: Entry, url: str, streams: int) -> dict[str, float]:
    make = entry.load()
    await _Crowd(make(url, "bench/paced-1-1"), 1).run()
    gc.collect()
    client = make(url, f"bench/paced-{CHUNKS}-{PAUSE}")
    crowd, before = _Crowd(client, streams), resident()
    cpu = time.process_time()
    await crowd.run()
    spent = time.process_time() - cpu
    if len(crowd.delays) != streams * CHUNKS:
        raise AssertionError(f"{len(crowd.delays)} chunks came where {streams * CHUNKS} were sent")
    ordered = sorted(crowd.delays)
    return {
        "cpu": spent / len(ordered) * 1e6,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
        "memory": (crowd.memory - before) / streams,
    }


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
