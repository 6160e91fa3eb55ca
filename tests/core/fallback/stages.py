"""Whole calls over scripted services: all four drivers, on a virtual clock, with a ledger of what the service sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from chutes_core import AsyncFallbackClient, Catalog, ChutesError, Delta, FallbackClient, Restart, ToolCallDelta
from chutes_core.fallback import Call, FallbackPolicy, Health, Member
from chutes_core.testing import FAULTS, Answer, Fault, FaultScript, FaultyTransport, VirtualClock

HELLO = [{"role": "user", "content": "Hi"}]
ANSWER = Answer("The answer is forty-two.", pieces=4)
PAYING = Answer("Paying.", tool_calls=[("pay", {"amount": 1000})], pieces=3)
LISTED = ["acme/one", "acme/two", {"model": "other/three", "api_key": "cpk_other"}]
MEMBERS = [Member("acme/one"), Member("acme/two"), Member("other/three", account="other")]
STYLES = ["sync-whole", "sync-stream", "async-whole", "async-stream"]
ALL_FAULTS = [
    *(Fault(kind, after=after) for kind in sorted(FAULTS) for after in (0, 2)),
    *(Fault.parse(f"retry_after:{value}") for value in ("5", "300", "date", "garbage")),
    Fault("restart", after=4, answer=PAYING),
    Fault("reset", after=4, answer=PAYING),
]


class _Tap(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A reply's body that notes what was sent of it."""

    def __init__(self, inner: Any, note: Any) -> None:
        self._inner = inner
        self._note = note

    def __iter__(self) -> Iterator[bytes]:
        for block in self._inner:
            self._note(block)
            yield block

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for block in self._inner:
            await asyncio.sleep(0)
            self._note(block)
            yield block

    def close(self) -> None:
        self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()
        await asyncio.sleep(0)


class Metered(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A scripted service that keeps books: the tokens that it has told of, reply by reply.

    On the event loop it gives other tasks a turn at every step, as a network does.
    """

    def __init__(self, inner: FaultyTransport) -> None:
        self.inner = inner
        self.tokens: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._tapped(self.inner.handle_request(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return self._tapped(await self.inner.handle_async_request(request))

    def _tapped(self, response: httpx.Response) -> httpx.Response:
        place = len(self.tokens)
        self.tokens.append(0)
        machine: dict[str, Any] = {}

        begun = b""

        def note(block: bytes) -> None:
            nonlocal begun
            *lines, begun = (begun + block).split(b"\n")
            for line in lines:
                try:
                    chunk = json.loads(line.removeprefix(b"data: "))
                except ValueError:
                    continue
                if not isinstance(chunk, dict) or not chunk.get("usage"):
                    continue
                # A second machine has books of its own, unless the first one had said nothing yet.
                if chunk["id"] == machine.get("id") or not machine.get("completion_tokens"):
                    machine.update(chunk["usage"], id=chunk["id"])
                    self.tokens[place] = chunk["usage"]["total_tokens"]

        response.stream = _Tap(response.stream, note)
        return response


@dataclass
class Whole:
    """One call that was made in one of the four styles, and what it came to."""

    script: Sequence[Answer | Fault | str]
    style: str
    policy: FallbackPolicy
    health: Health | None = None
    clock: VirtualClock = field(default_factory=VirtualClock)
    parts: list[Delta] = field(default_factory=list)
    error: ChutesError | None = None

    def __post_init__(self) -> None:
        self.transport = FaultyTransport(FaultScript(self.script, default=ANSWER), clock=self.clock)
        self.meter = Metered(self.transport)
        self.health = self.health or Health(now=self.clock.now)
        self.is_whole = self.style.endswith("whole")
        self.stream = self.made()._stream(HELLO, {}, None, whole=self.is_whole)
        self.call: Call = self.stream._relay.call

    def made(self) -> Any:
        """Return the client in whose style the call is made."""
        blocking = self.style.startswith("sync")
        http: Any = httpx.Client(transport=self.meter) if blocking else httpx.AsyncClient(transport=self.meter)
        return (FallbackClient if blocking else AsyncFallbackClient)(
            LISTED, "cpk_test", policy=self.policy, health=self.health, clock=self.clock, chance=lambda: 0.5,
            http_client=http, catalog=Catalog.bundled(),
        )  # fmt: skip

    def run(self) -> Whole:
        """Make the call."""
        try:
            if self.style.startswith("sync"):
                self.parts.extend(self.stream)
                self._end()
            else:
                asyncio.run(self.arun())
        except ChutesError as error:
            self.error = error
        return self

    async def arun(self) -> None:
        async for part in self.stream:
            self.parts.append(part)
        self._end()

    def _end(self) -> None:
        """Take a whole answer, which comes in no parts, as one part."""
        self.reply = self.stream.reply
        if self.is_whole:
            assert self.parts == []
            calls = [ToolCallDelta(call.index, call.id, call.name, call.arguments) for call in self.reply.tool_calls]
            self.parts.append(Delta(self.reply.content, self.reply.reasoning, calls))

    @property
    def asked(self) -> list[str]:
        """The models that were asked, in order."""
        return [request.model for request in self.transport.requests]

    @property
    def answer(self) -> list[Delta]:
        """What a reader has after the last marker."""
        marks = [place for place, part in enumerate(self.parts) if isinstance(part, Restart)]
        return self.parts[marks[-1] + 1 :] if marks else self.parts

    @property
    def text(self) -> str:
        return "".join(part.content for part in self.answer)

    @property
    def arguments(self) -> str:
        return "".join(piece.arguments for part in self.answer for piece in part.tool_calls)

    @property
    def trace(self) -> list[tuple[object, ...]]:
        return [
            (each.model, each.outcome, each.kind, each.status_code, each.elapsed, each.usage)
            for each in self.call.attempts
        ]
