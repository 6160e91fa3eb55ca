"""Send answers over the socket: complete ones, streamed ones, and ones that end outside HTTP's rules.

Cuts need the connection itself. The server puts its transport into the ASGI scope's state; only this module
touches it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chutes_local.faults.spoil import Cut, Pause, Step
from chutes_local.world.journal import Entry

EVENT_STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}
HALF_CLOSED_SECONDS = 30.0


class ClientLeft(Exception):
    """The client closed its connection before the answer was complete."""


class ServerStopped(Exception):
    """The server is stopping, so waiting longer is pointless."""


@asynccontextmanager
async def attached(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """Cancel the block as soon as the client leaves, and raise :class:`ClientLeft`.

    Yields the watching task; cancel it before sending the last byte, which looks like the client leaving.
    """
    this = cast("asyncio.Task[Any]", asyncio.current_task())
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        this.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield watcher
    except asyncio.CancelledError:
        if not gone:
            raise
        this.uncancel()
        raise ClientLeft from None
    finally:
        watcher.cancel()


async def pause(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep; raise :class:`ServerStopped` if the server stops meanwhile."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
        raise ServerStopped


class Nothing(Response):
    """No response: the connection is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing; yield once so that the lost connection is noticed."""
        await asyncio.sleep(0)


class Steps(Response):
    """A response made of steps (bytes, pauses, cuts), until they end or the client leaves."""

    def __init__(
        self,
        steps: AsyncIterator[Step],
        entry: Entry,
        stopping: asyncio.Event,
        headers: Mapping[str, str],
    ) -> None:
        """Send ``steps`` after ``headers``."""
        self.status_code, self.background, self.body = 200, None, b""
        self.steps, self.entry, self.stopping = steps, entry, stopping
        self.raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; always close the generator behind it."""
        try:
            async with attached(receive) as watcher:
                await self._send(scope, send, watcher)
        except ClientLeft:
            self.entry.ended = self.entry.ended or "client left"
        except ServerStopped:
            self.entry.ended = "server stopped"
            reset(scope)
        finally:
            closing = getattr(self.steps, "aclose", None)
            if closing is not None:
                await closing()

    async def _send(self, scope: Scope, send: Send, watcher: asyncio.Task[None]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for step in self.steps:
            if isinstance(step, bytes):
                if step:
                    await send({"type": "http.response.body", "body": step, "more_body": True})
            elif isinstance(step, Pause):
                await pause(step.seconds, self.stopping)
            else:
                await self._cut(scope, step, watcher)
                return
        watcher.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _cut(self, scope: Scope, step: Cut, watcher: asyncio.Task[None]) -> None:
        self.entry.ended = "cut"
        if step.how == "reset":
            watcher.cancel()
            reset(scope)
            # Let the server notice, or it would complain about an incomplete answer.
            await asyncio.sleep(0)
            return
        transport = transport_of(scope)
        transport.write_eof()
        # A client that keeps reading sees the end and leaves; any other is cut off eventually.
        await pause(HALF_CLOSED_SECONDS, self.stopping)
        transport.abort()


def reset(scope: Scope) -> None:
    """Close the connection with a TCP reset instead of an orderly shutdown."""
    transport = transport_of(scope)
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        # SO_LINGER on with zero seconds: the kernel drops unsent data and sends RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the connection that a request came over."""
    return cast(asyncio.Transport, scope["state"]["transport"])


async def each(steps: Iterable[Step]) -> AsyncIterator[Step]:
    """Iterate asynchronously over existing steps."""
    for step in steps:
        yield step
