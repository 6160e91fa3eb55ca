"""A burst over the wire: calls that are all under way at a member before it fails any of them, in virtual time.

Blocking calls run in threads that meet at a barrier in the member; those on an event loop run on one whose clock jumps.
The service works through a list of models as the real one does: where one has no room, the next is asked.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.faults import virtual
from chutes_core.testing import Answer, SentRequest, VirtualClock
from chutes_core.testing.faults import FAULTS, Fault, clean_play
from chutes_core.wire.pools import http_package

ANSWER = Answer("The answer is forty-two.", pieces=4)
OUTAGES = ("capacity", "cold", "refused", "hang")
STATUS = {"capacity": 429, "cold": 503}
Meet = Callable[[str], None]


class Service:
    """Models of which some have an outage.

    Attributes:
        requests: How many each model, or list of models, was asked.
    """

    def __init__(self, outage: str, down: Sequence[str], size: int) -> None:
        self.outage = outage
        self.down = down
        self.requests: Counter[str] = Counter()
        self.clock = VirtualClock()
        self._size = size
        self._lock = threading.Lock()
        self._barriers: dict[str, threading.Barrier] = {}

    def handle_request(self, request: Any) -> Any:
        """Answer a thread, once all of them are here; those that wait in vain wait together."""
        request.read()
        model, outage, sent = self._read(request)
        limit = request.extensions["timeout"]["read"]
        with self._lock:
            seconds = limit if outage == "hang" else 0.1
            made = threading.Barrier(self._size, action=lambda: self.clock.advance(seconds))
            barrier = self._barriers.setdefault(model, made)
        barrier.wait(timeout=60)
        if outage == "hang":
            raise _package(request).ReadTimeout("timed out", request=request)
        return self._reply(request, outage, sent)

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a task, some time later."""
        await request.aread()
        _, outage, sent = self._read(request)
        await asyncio.sleep(10_000 if outage == "hang" else 0.1)
        return self._reply(request, outage, sent)

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def _read(self, request: Any) -> tuple[str, str | None, SentRequest]:
        body = json.loads(request.content)
        model = body["model"]
        with self._lock:
            self.requests[model] += 1
        for name in model.split(","):
            if name not in self.down:
                return model, None, SentRequest("POST", "", {}, {**body, "model": name})
            if self.outage not in STATUS:
                break  # the service goes on only where it was told that there is no room
        return model, self.outage, SentRequest("POST", "", {}, body)

    def _reply(self, request: Any, outage: str | None, sent: SentRequest) -> Any:
        if outage == "refused":
            raise _package(request).ConnectError("Connection refused", request=request)
        play = clean_play(ANSWER, sent) if outage is None else FAULTS[outage](Fault(outage), ANSWER, sent)
        content = b"".join(step for step in play.steps if isinstance(step, bytes))
        return _package(request).Response(play.status, headers=dict(play.headers), content=content, request=request)


def _package(request: object) -> Any:
    return sys.modules[type(request).__module__.partition(".")[0]]


def clients(service: Service) -> tuple[Any, Any]:
    """The blocking and the async client of the HTTP package, over a service."""
    package: Any = http_package()
    return package.Client(transport=service), package.AsyncClient(transport=service)


def in_threads(size: int, call: Callable[[], str]) -> list[str]:
    """Make a call in each of as many threads, and return what each came to."""
    with ThreadPoolExecutor(size) as threads:
        return [future.result() for future in [threads.submit(call) for _ in range(size)]]


def on_a_loop(size: int, make: Callable[[Any], Callable[[], Awaitable[str]]]) -> list[str]:
    """Make as many calls at once on an event loop in virtual time; ``make`` gets its clock."""

    async def main(loop: virtual.VirtualLoop) -> list[str]:
        call = make(virtual.LoopClock(loop))
        return list(await asyncio.gather(*(call() for _ in range(size))))

    return virtual.run(main)
