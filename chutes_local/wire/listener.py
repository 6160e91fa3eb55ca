"""A listening socket that can be closed and reopened while the rest of the server keeps running."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

KEEP_ALIVE_SECONDS = 60
WIND_DOWN_SECONDS = 5.0
_WINDOWS_IN_USE = 10048  # WSAEADDRINUSE


class _Protocol(H11Protocol):
    """uvicorn's connection, with the transport exposed to requests: faults need the socket."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # A program that embeds this server may run its own uvicorn: leave its loggers alone.
        self.logger = logging.getLogger("chutes_local")
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class Listener:
    """Accepts connections for ``app``; belongs to one event loop."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Prepare to listen on ``port``; 0 takes a free port on the first opening and keeps it."""
        self.host, self.port = host, port
        self._config = Config(
            app, http=_Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._over = False

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._state.connections)

    async def open(self) -> None:
        """Start listening, unless already listening or ended."""
        async with self._opening:
            if self._server is None and not self._over:
                self._server = await self._listen()
                self.port = cast(int, self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Refuse new connections and abort the open ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._state.connections):
            connection.transport.abort()

    def close_for(self, seconds: float) -> None:
        """Close now, and reopen after ``seconds``."""
        self.close()

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            await self.open()

        task = asyncio.get_running_loop().create_task(come_back())
        self._state.tasks.add(cast(Any, task))
        task.add_done_callback(cast(Any, self._state.tasks.discard))

    async def end(self) -> None:
        """Close for good, and wait for the remaining tasks to end."""
        self._over = True
        self.close()
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WIND_DOWN_SECONDS)

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.get_running_loop().create_server(
                lambda: _Protocol(config=self._config, server_state=self._state, app_state={}),
                self.host,
                self.port,
                family=socket.AF_INET6 if ":" in self.host else socket.AF_INET,
                backlog=512,
            )
        except OSError as error:
            raise OSError(error.errno, self._why_not(error)) from error

    def _why_not(self, error: OSError) -> str:
        if error.errno in (errno.EADDRINUSE, _WINDOWS_IN_USE):
            return f"Port {self.port} is in use, perhaps by another `chutes-connect local`: stop it, or use --port 0."
        return f"The embedded Chutes cannot listen at {self.host} port {self.port}: {error.strerror or error}"
