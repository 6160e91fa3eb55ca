"""Chat models over a scripted transport, in the four ways to call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage

from chutes_core import ChutesError
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package
from langchain_chutes import ChatChutes

KEY = "cpk_test"
MODEL = "acme/one"
MODES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]


@dataclass
class Outcome:
    """What one call came to."""

    model: ChatChutes
    transport: FaultyTransport
    clock: VirtualClock
    chunks: list[AIMessageChunk] = field(default_factory=list)
    message: AIMessage | None = None
    error: Exception | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The body of the first request."""
        return dict(self.transport.requests[0].body)

    @property
    def streamed(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


def scripted(script: FaultScript | Iterable[Answer | Fault | str] = (), **options: Any) -> Outcome:
    """A model over a script, for blocking and async calls."""
    package = http_package()
    clock = VirtualClock()
    transport = FaultyTransport(script, clock=clock)
    model = ChatChutes(
        **{
            "model": MODEL,
            "api_key": KEY,
            "http_client": package.Client(transport=transport),
            "http_async_client": package.AsyncClient(transport=transport),
            "clock": clock,
            "max_retries": 0,
            **options,
        }
    )
    return Outcome(model, transport, clock)


def call(
    mode: str,
    script: FaultScript | Iterable[Answer | Fault | str] = (),
    ask: str | Sequence[BaseMessage] = "Say hello.",
    *,
    runnable: Any = None,
    params: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    """Make one call in one of the four modes. ``runnable`` makes what is called of the model."""
    outcome = scripted(script, **options)
    target: Any = outcome.model if runnable is None else runnable(outcome.model)
    given = params or {}

    async def waiting() -> None:
        if mode == "async-whole":
            outcome.message = await target.ainvoke(ask, **given)
            return
        async for chunk in target.astream(ask, **given):
            outcome.chunks.append(chunk)

    try:
        if mode == "sync-whole":
            outcome.message = target.invoke(ask, **given)
        elif mode == "sync-stream":
            for chunk in target.stream(ask, **given):
                outcome.chunks.append(chunk)
        else:
            asyncio.run(waiting())
    except ChutesError as error:
        outcome.error = error
    if outcome.chunks and outcome.error is None:
        outcome.message = outcome.chunks[0] + outcome.chunks[1:]  # type: ignore[assignment, operator]
    return outcome
