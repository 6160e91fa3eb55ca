"""Many calls at once while members are down: every one is whole, in every way to call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.llms.custom import CustomLLM

from chutes_core import ChutesError
from llama_index_chutes import ChutesFallback, FallbackPolicy
from tests.core.fallback.burst import ANSWER, OUTAGES, Service, clients, in_threads, on_a_loop
from tests.llama_index_chutes.rigs import HELLO, KEY

NAMES = ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"]
WAYS = ["chat", "stream_chat", "achat", "astream_chat"]
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
    connection = {"http_client": blocking, "async_http_client": waiting, "clock": clock}
    return ChutesFallback(NAMES, api_key=KEY, policy=policy, **connection)


def burst(way: str, service: Service, size: int, policy: FallbackPolicy) -> list[str]:
    """Make the calls; each comes to its text, or to its error."""
    if way in ("chat", "stream_chat"):
        llm = fallback(service, service.clock, policy)

        def call() -> str:
            try:
                if way == "chat":
                    return str(llm.chat(HELLO).message.content)
                return "".join(each.delta or "" for each in llm.stream_chat(HELLO))
            except ChutesError as error:
                return str(error)

        return in_threads(size, call)

    def make(clock: Any) -> Callable[[], Awaitable[str]]:
        llm = fallback(service, clock, policy)

        async def call() -> str:
            try:
                if way == "achat":
                    return str((await llm.achat(HELLO)).message.content)
                return "".join([each.delta or "" async for each in await llm.astream_chat(HELLO)])
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


class Meeting(CustomLLM):
    """A model with only blocking calls, none of which answers before all are under way."""

    max_retries: int = 0
    _barrier: Any = PrivateAttr(default=None)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="other/meeting", is_chat_model=True)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._barrier.wait(timeout=30)
        return CompletionResponse(text="All here.")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        def chunks() -> CompletionResponseGen:
            self._barrier.wait(timeout=30)
            yield CompletionResponse(text="All here.", delta="All here.")

        return chunks()


@pytest.mark.parametrize("way", ["achat", "astream_chat"])
async def test_models_that_block_hold_up_no_event_loop(way: str) -> None:
    """The framework would call them on the loop itself, one after the other."""
    member = Meeting()
    member._barrier = threading.Barrier(64)
    llm = ChutesFallback([member])

    async def call() -> str:
        if way == "achat":
            return str((await llm.achat(HELLO)).message.content)
        return "".join([each.delta or "" async for each in await llm.astream_chat(HELLO)])

    assert await asyncio.gather(*(call() for _ in range(64))) == ["All here."] * 64
