"""Clients over a scripted transport, blocking and async behind one face, for scenario tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chutes_core import AsyncChutesClient, ChutesClient, ChutesError, Delta, Reply
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from chutes_core.wire.pools import http_package

KEY = "cpk_test"
MODEL = "acme/one"
HELLO = [{"role": "user", "content": "Say hello."}]
MODES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]


@dataclass
class Outcome:
    """What one call came to."""

    transport: FaultyTransport
    clock: VirtualClock
    client: Any
    deltas: list[Delta] = field(default_factory=list)
    reply: Reply | None = None
    error: ChutesError | None = None

    @property
    def attempts(self) -> int:
        return len(self.transport.requests)

    @property
    def streamed(self) -> str:
        return "".join(delta.content for delta in self.deltas)


def scripted(
    script: FaultScript | Iterable[Answer | Fault | str],
    *,
    sync: bool = True,
    package: Any = None,
    key: Any = KEY,
    **options: Any,
) -> Outcome:
    """A client over a script."""
    package = package or http_package()
    clock = VirtualClock()
    transport = FaultyTransport(script, clock=clock)
    http = package.Client(transport=transport) if sync else package.AsyncClient(transport=transport)
    kind = ChutesClient if sync else AsyncChutesClient
    return Outcome(transport, clock, kind(key, http_client=http, clock=clock, **options))


def call(
    mode: str,
    script: FaultScript | Iterable[Answer | Fault | str],
    *,
    package: Any = None,
    params: dict[str, Any] | None = None,
    messages: Any = HELLO,
    model: str = MODEL,
    **options: Any,
) -> Outcome:
    """Make one call in one of the four modes and say what came of it."""
    sync, stream = mode.startswith("sync"), mode.endswith("stream")
    outcome = scripted(script, sync=sync, package=package, **options)
    arguments: dict[str, Any] = {"model": model, **(params or {})}

    def blocking() -> None:
        if not stream:
            outcome.reply = outcome.client.chat(messages, **arguments)
            return
        with outcome.client.stream(messages, **arguments) as steps:
            for delta in steps:
                outcome.deltas.append(delta)
            outcome.reply = steps.reply

    async def waiting() -> None:
        if not stream:
            outcome.reply = await outcome.client.chat(messages, **arguments)
            return
        async with outcome.client.stream(messages, **arguments) as steps:
            async for delta in steps:
                outcome.deltas.append(delta)
            outcome.reply = steps.reply

    try:
        if sync:
            blocking()
        else:
            asyncio.run(waiting())
    except ChutesError as error:
        outcome.error = error
    return outcome
