"""Many calls at once while members are down: every one is whole, in every way to call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import PrivateAttr

from chutes_core import ChutesError
from langchain_chutes import ChutesFallback, FallbackPolicy
from tests.core.fallback.burst import ANSWER, OUTAGES, Service, clients, in_threads, on_a_loop
from tests.langchain_chutes.fallback_stage import Other
from tests.langchain_chutes.models import KEY

NAMES = ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"]
WAYS = ["invoke", "stream", "ainvoke", "astream"]
CASES = [
    *((outage, size, 1, {}) for outage in OUTAGES for size in (1, 25)),
    ("capacity", 100, 1, {}),
    ("capacity", 40, 2, {}),
    ("hang", 40, 2, {}),
    ("capacity", 40, 2, {"first_hop": "server"}),
    ("hang", 40, 1, {"first_hop": "server", "max_attempts": 3}),
    ("refused", 40, 2, {"max_attempts": 3, "budget": 0, "burst": 0}),
]


def fallback(service: Service, clock: Any, policy: FallbackPolicy) -> ChutesFallback:
    blocking, waiting = clients(service)
    connection = {"http_client": blocking, "http_async_client": waiting, "clock": clock}
    return ChutesFallback(NAMES, api_key=KEY, policy=policy, **connection)


def burst(way: str, service: Service, size: int, policy: FallbackPolicy) -> list[str]:
    """Make the calls; each comes to its text, or to its error."""
    if way in ("invoke", "stream"):
        model = fallback(service, service.clock, policy)

        def call() -> str:
            try:
                return model.invoke("Hi").text if way == "invoke" else "".join(each.text for each in model.stream("Hi"))
            except ChutesError as error:
                return str(error)

        return in_threads(size, call)

    def make(clock: Any) -> Callable[[], Awaitable[str]]:
        model = fallback(service, clock, policy)

        async def call() -> str:
            try:
                if way == "ainvoke":
                    return (await model.ainvoke("Hi")).text
                return "".join([each.text async for each in model.astream("Hi")])
            except ChutesError as error:
                return str(error)

        return call

    return on_a_loop(size, make)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("outage", "size", "down", "rules"), CASES)
def test_every_call_is_whole(outage: str, size: int, down: int, rules: dict[str, Any], way: str) -> None:
    """With the first or the first two of three down, and no more requests than members that are."""
    service = Service(outage, NAMES[:down], size)
    assert burst(way, service, size, FallbackPolicy(**rules)) == [ANSWER.text] * size
    assert sum(service.requests.values()) <= size * (down + 1)


class Meeting(Other):
    """A model with only blocking calls, none of which answers before all are under way."""

    _barrier: Any = PrivateAttr(default=None)

    def _stream(self, *given: Any, **options: Any) -> Iterator[ChatGenerationChunk]:
        self._barrier.wait(timeout=30)
        yield ChatGenerationChunk(message=AIMessageChunk("All here."))


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_models_that_block_do_not_queue_for_a_few_threads(way: str) -> None:
    """More calls at once than the event loop's executor has threads, and each is under way."""
    member = Meeting.of()
    member._barrier = threading.Barrier(64)
    model = ChutesFallback([member])

    async def call() -> str:
        if way == "ainvoke":
            return (await model.ainvoke("Hi")).text
        return "".join([each.text async for each in model.astream("Hi")])

    assert await asyncio.gather(*(call() for _ in range(64))) == ["All here."] * 64
