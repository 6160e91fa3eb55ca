"""A fallback over one scripted service, and what is looked at of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.bridge.pydantic import BaseModel

from chutes_core import Catalog
from chutes_core.fallback import Attempt
from chutes_core.fallback.report import report
from chutes_core.testing import Answer, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from llama_index_chutes import ChutesFallback, FallbackPolicy
from llama_index_chutes.fallback import is_restart

from .rigs import KEY, Entry, Outcome, connection

MEMBERS = ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"]
PAID = {"amount": 1000, "to": "bob"}
ANSWER = Answer("The answer is forty-two.", pieces=4)
OTHER = Answer("Forty-two, says the other.", pieces=3)
PAYING = Answer("Paying.", tool_calls=[("pay", PAID)], pieces=3)
CITY = Answer('{"name": "Bern", "people": 134000}', pieces=6)
POLICY = FallbackPolicy(first_token=5, gap=5, deadline=60)
RESTART = replace(POLICY, after_commit="restart")
HOLD = replace(POLICY, after_commit="hold")
PROMPT = PromptTemplate("Tell of {place}.")
PREDICT = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]


class City(BaseModel):
    """A city."""

    name: str
    people: int


BERN = City(name="Bern", people=134000)


@dataclass
class Stage:
    """A fallback over one scripted service."""

    llm: ChutesFallback
    transport: FaultyTransport
    clock: VirtualClock

    @property
    def asked(self) -> list[str]:
        return [request.model for request in self.transport.requests]


class Metered:
    """A scripted service behind which somebody counts the tokens that were sent, and every reply that is open.

    Each of its waits gives other tasks a turn, as a socket does, and so does closing a reply.
    """

    def __init__(self, script: FaultScript, clock: VirtualClock) -> None:
        self.inner = FaultyTransport(script, clock=clock)
        self.sent: list[dict[str, Any]] = []
        self.open = 0
        self._lock = threading.Lock()

    @property
    def tokens(self) -> tuple[int, int]:
        """The prompts' and the answers' tokens of all requests."""
        kinds = ("prompt_tokens", "completion_tokens")
        prompts, answers = (sum(each.get(kind, 0) for each in self.sent) for kind in kinds)
        return prompts, answers

    def handle_request(self, request: Any) -> Any:
        with self._lock:
            return self._metered(self.inner.handle_request(request))

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return self._metered(await self.inner.handle_async_request(request))

    def close(self) -> None:
        """Nothing to close."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def _metered(self, response: Any) -> Any:
        self.open += 1
        self.sent.append({})
        package = importlib.import_module(type(response).__module__.partition(".")[0])
        bases = (_Body, package.SyncByteStream, package.AsyncByteStream)
        response.stream = type("Body", bases, {})(response.stream, self, self.sent[-1])
        return response


class _Body:
    """The body of a reply on its way out."""

    def __init__(self, inner: Any, meter: Metered, sent: dict[str, Any]) -> None:
        self._inner, self._meter, self._sent, self._open = inner, meter, sent, True
        self._rest = b""

    def _count(self, block: bytes) -> bytes:
        *events, self._rest = (self._rest + block).split(b"\n\n")
        for event in events:
            with contextlib.suppress(ValueError, AttributeError):
                usage = json.loads(event.removeprefix(b"data: ")).get("usage") or {}
                # A second machine begins anew: what the first one has used stays used.
                if usage.get("completion_tokens", -1) >= self._sent.get("completion_tokens", 0):
                    self._sent.update(usage)
        return block

    def __iter__(self) -> Iterator[bytes]:
        for block in self._inner:
            yield self._count(block)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._inner:
            await asyncio.sleep(0)
            yield self._count(block)

    def close(self) -> None:
        self._inner.close()
        with self._meter._lock:
            self._meter.open -= self._open
            self._open = False

    async def aclose(self) -> None:
        try:
            await asyncio.sleep(0)
        finally:
            self.close()


def metered(script: Sequence[Entry] = (), **settings: Any) -> tuple[ChutesFallback, Metered, VirtualClock]:
    """A fallback over a metered service."""
    clock = VirtualClock()
    meter = Metered(FaultScript(list(script), default=ANSWER), clock)
    package: Any = http_package()
    clients = {
        "http_client": package.Client(transport=meter),
        "async_http_client": package.AsyncClient(transport=meter),
    }
    connected = {"api_key": KEY, "clock": clock, "catalog": Catalog.bundled(), **clients}
    llm = ChutesFallback(MEMBERS, **{"policy": POLICY, **connected, **settings})
    llm._chance = lambda: 0.5
    return llm, meter, clock


def stage(script: Sequence[Entry] = (), members: Sequence[Any] = MEMBERS, **settings: Any) -> Stage:
    """Members that share a scripted transport; what the script does not say is a whole answer."""
    made = FaultScript(list(script), default=ANSWER)
    transport, clock, connected = connection(made)
    if not any(isinstance(each, str) for each in members):
        connected = {"clock": clock}
    llm = ChutesFallback(members, **{"policy": POLICY, **connected, **settings})
    llm._chance = lambda: 0.5
    return Stage(llm, transport, clock)


def attempts(outcome: Outcome) -> list[dict[str, Any]]:
    """What the answer, or the error, says of the attempts."""
    if outcome.error is None:
        rows: list[dict[str, Any]] = outcome.last.raw["chutes_attempts"]
        return rows
    told: Sequence[Attempt] = getattr(outcome.error, "attempts", ())
    return [report(each) for each in told]


def selections(llm: ChutesFallback, chunk: ChatResponse) -> list[Any]:
    if chunk.message.additional_kwargs.get("invalid_tool_calls"):
        return []
    return llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False)


def last_text(chunks: Sequence[Any]) -> str:
    """What a reader of deltas has after the last reset marker."""
    text = ""
    for chunk in chunks:
        text = "" if is_restart(chunk) else text + (chunk.delta or "")
    return text
