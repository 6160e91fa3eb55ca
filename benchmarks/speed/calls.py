"""CPU of calls that follow one another in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from benchmarks.speed.canned import CHUNKS, PERSON, text_of
from benchmarks.speed.clients import Client, Entry
from benchmarks.speed.crowd import throughput

LENGTHS = (200, 1000, 5000)
HISTORIES = (2, 100, 200, 400)
"""Numbers of messages; the last is the user's."""
BATCH = 32
_QUESTION = [("user", "Say something long.")]
_TURN = "word " * 20


def measure(entry: Entry, url: str, seconds: float, *, growth: bool, at_once: int) -> dict[str, float]:
    """Measure what this client can do, each for so many seconds of CPU; in microseconds.

    Args:
        entry: The client.
        url: The server's address.
        seconds: How long each.
        at_once: How many calls to make from many tasks at once.
        growth: Also its features, and how cost grows with the length of answers and conversations.
    """
    make = entry.load()
    timed = _Timed(seconds)
    client, long = make(url, "bench/8"), make(url, f"bench/{CHUNKS}")
    asked = client.messages(_QUESTION)
    found = {
        "invoke": timed.run(lambda: client.whole(asked), text_of(8)),
        "stream": timed.run(lambda: drain(long, asked), text_of(CHUNKS), per=CHUNKS),
    }
    if client.awhole is not None:
        found |= asyncio.run(_on_the_loop(client, long, asked, timed, at_once))
    if growth:
        found |= _features(make, url, asked, timed) | _growth(make, url, asked, timed)
    return found


def _features(make: Callable[[str, str], Client], url: str, asked: Any, timed: _Timed) -> dict[str, float]:
    thinks, called = make(url, f"bench/think-{CHUNKS}"), make(url, "bench/100")
    filled, plain = make(url, "bench/form-1"), make(url, "bench/8")
    found = {"reasoning": timed.run(lambda: drain(thinks, asked), text_of(CHUNKS // 2), per=CHUNKS)}
    if (tools := called.tools) is not None:
        found["tool calls"] = timed.run(lambda: tools(asked), [PERSON], per=100)
    if (structured := filled.structured) is not None:
        found["structured"] = timed.run(lambda: structured(asked).model_dump(), PERSON)
    if (batch := plain.batch) is not None:
        many = [asked] * BATCH
        found["batch"] = timed.run(lambda: batch(many), [text_of(8)] * BATCH, per=BATCH)
    return found


def _growth(make: Callable[[str, str], Client], url: str, asked: Any, timed: _Timed) -> dict[str, float]:
    found = {}
    for length in LENGTHS:
        model = make(url, f"bench/{length}")
        found[f"stream of {length}"] = timed.run(partial(drain, model, asked), text_of(length), per=length)
    client = make(url, "bench/8")
    for turns in HISTORIES:
        history = client.messages([(("assistant", "user")[n % 2], f"Turn {n}. {_TURN}") for n in range(turns)])
        found[f"history of {turns}"] = timed.run(partial(client.whole, history), text_of(8))
    return found


async def _on_the_loop(client: Client, long: Client, asked: Any, timed: _Timed, at_once: int) -> dict[str, float]:
    awhole, astream = client.awhole, long.astream
    assert awhole is not None
    assert astream is not None

    async def streamed() -> str:
        chunks = [chunk async for chunk in astream(asked)]
        return "".join(map(long.text, chunks)) if timed.checking else ""

    return {
        "ainvoke": await timed.arun(lambda: awhole(asked), text_of(8)),
        "astream": await timed.arun(streamed, text_of(CHUNKS), per=CHUNKS),
        **await throughput(client, at_once),
    }


def drain(client: Client, asked: Any) -> str:
    """Read a stream to its end."""
    return "".join([client.text(chunk) for chunk in client.stream(asked)])


class _Timed:
    """Repeats a call, sees once that it did what it should, and tells its mean CPU."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.checking = False

    def run(self, call: Callable[[], object], expected: object, *, per: int = 1) -> float:
        self._check(call(), expected)
        began = time.process_time()
        count = 0
        while (spent := time.process_time() - began) < self._seconds or not count:
            call()
            count += 1
        return spent / count / per * 1e6

    async def arun(self, call: Callable[[], Awaitable[object]], expected: object, *, per: int = 1) -> float:
        self.checking = True
        self._check(await call(), expected)
        self.checking = False
        began = time.process_time()
        count = 0
        while (spent := time.process_time() - began) < self._seconds or not count:
            await call()
            count += 1
        return spent / count / per * 1e6

    @staticmethod
    def _check(found: object, expected: object) -> None:
        if found != expected:
            raise AssertionError(f"got {str(found)[:300]!r} where {str(expected)[:300]!r} was said")
