"""Models over a scripted service, and the eight ways to ask them behind one face."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.tools import FunctionTool

from chutes_core import Catalog, ChutesError
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from llama_index_chutes import Chutes, ChutesEmbedding

KEY = "cpk_test"
MODEL = "Qwen/Qwen3-32B-TEE"
ECHOING = "zai-org/GLM-5.1-TEE"
HELLO = [ChatMessage("Say hello.")]
STYLES = [
    "chat",
    "stream_chat",
    "achat",
    "astream_chat",
    "complete",
    "stream_complete",
    "acomplete",
    "astream_complete",
]
CHAT_STYLES = STYLES[:4]
STREAMS = [style for style in STYLES if "stream" in style]

T = TypeVar("T")
Entry = Answer | Fault | str


@dataclass
class Rig:
    """A model, the transport it speaks through, and its clock."""

    llm: Chutes
    transport: FaultyTransport
    clock: VirtualClock

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [dict(request.body) for request in self.transport.requests]


def connection(script: FaultScript | Iterable[Entry] = ()) -> tuple[FaultyTransport, VirtualClock, dict[str, Any]]:
    """A scripted service, and the settings that lead a component to it."""
    clock = VirtualClock()
    transport = FaultyTransport(script, clock=clock)
    package: Any = http_package()
    settings = {
        "api_key": KEY,
        "http_client": package.Client(transport=transport),
        "async_http_client": package.AsyncClient(transport=transport),
        "clock": clock,
        "catalog": Catalog.bundled(),
    }
    return transport, clock, settings


def rig(script: FaultScript | Iterable[Entry] = (), **settings: Any) -> Rig:
    """A model over a script."""
    transport, clock, connected = connection(script)
    return Rig(Chutes(**{"model": MODEL, **connected, **settings}), transport, clock)


def embedding(transport_settings: dict[str, Any], **settings: Any) -> ChutesEmbedding:
    """An embedding over the same kind of connection."""
    return ChutesEmbedding(**{**transport_settings, **settings})


@dataclass
class Outcome:
    """What one call came to; a whole answer is its only chunk."""

    chunks: list[Any] = field(default_factory=list)
    error: ChutesError | None = None

    @property
    def last(self) -> Any:
        return self.chunks[-1]

    @property
    def streamed(self) -> str:
        return "".join(chunk.delta or "" for chunk in self.chunks)


def text_of(response: ChatResponse | CompletionResponse) -> str:
    """The text of either kind of response."""
    return response.text if isinstance(response, CompletionResponse) else response.message.content or ""


async def _collect(call: Awaitable[Any], outcome: Outcome, *, stream: bool) -> None:
    if not stream:
        outcome.chunks.append(await call)
        return
    async for chunk in await call:
        outcome.chunks.append(chunk)


def gather(llm: Any, method: str, *args: Any, **kwargs: Any) -> Outcome:
    """Call any method, whole or stream, blocking or async, to its end."""
    outcome = Outcome()
    stream = "stream" in method
    try:
        if method.startswith("a"):
            asyncio.run(_collect(getattr(llm, method)(*args, **kwargs), outcome, stream=stream))
        elif stream:
            for chunk in getattr(llm, method)(*args, **kwargs):
                outcome.chunks.append(chunk)
        else:
            outcome.chunks.append(getattr(llm, method)(*args, **kwargs))
    except ChutesError as error:
        outcome.error = error
    return outcome


def ask(llm: Any, style: str, messages: Sequence[ChatMessage] = HELLO, **kwargs: Any) -> Outcome:
    """Ask in one of the eight styles; a completion is asked for what the last message says."""
    question: Any = messages[-1].content if "complete" in style else messages
    return gather(llm, style, question, **kwargs)


def add(a: int, b: int) -> int:
    """Add two whole numbers."""
    return a + b


def pay(amount: int, to: str) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


TOOLS: list[Any] = [FunctionTool.from_defaults(function) for function in (add, pay)]

Async = Callable[[], Awaitable[T]]
