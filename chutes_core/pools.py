"""HTTP connections: one pool per process for blocking calls, one per event loop for async ones.

The openai SDK is the transport for inference: it is what people's own ``http_client`` objects are made
for, in its 2.x (on httpx) and its 3.x (on httpx2). It is imported on first use, is never told a key, retries
nothing, and sends none of the headers that OPENAI_* variables ask for.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import weakref
from collections.abc import AsyncIterator
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import openai

__all__ = [
    "AsyncPools",
    "SyncPools",
    "async_pools",
    "async_sdk_client",
    "response_type",
    "sdk_client",
    "ssl_context",
    "sync_pools",
    "user_agent",
]

_KEEP_ALIVE = 60.0
_CONNECTIONS = 1000


@lru_cache(maxsize=1)
def user_agent() -> str:
    """How the library names itself to the service."""
    try:
        return f"chutes-connect/{version('chutes-connect')}"
    except PackageNotFoundError:  # used from a tree that was never installed
        return "chutes-connect"


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """The one TLS context of this process: making one costs more than a call."""
    import httpx

    return httpx.create_ssl_context()


def _plain_headers() -> dict[str, str]:
    return {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": user_agent()}


@lru_cache(maxsize=1)
def _sdk_classes() -> tuple[type[openai.OpenAI], type[openai.AsyncOpenAI]]:
    """The SDK's clients with only our own headers."""
    import openai

    class Transport(openai.OpenAI):
        @property
        def default_headers(self) -> dict[str, str | openai.Omit]:
            return {**_plain_headers()}

    class AsyncTransport(openai.AsyncOpenAI):
        @property
        def default_headers(self) -> dict[str, str | openai.Omit]:
            return {**_plain_headers()}

    return Transport, AsyncTransport


def sdk_client(http_client: object) -> openai.OpenAI:
    """Make a transport over a blocking HTTP client."""
    return _sdk_classes()[0](**_options(http_client))  # type: ignore[arg-type]


def async_sdk_client(http_client: object) -> openai.AsyncOpenAI:
    """Make a transport over an async HTTP client."""
    return _sdk_classes()[1](**_options(http_client))  # type: ignore[arg-type]


def _options(http_client: object) -> dict[str, object]:
    # Every request brings its own address and Authorization header: these two are never used.
    return {"api_key": "set-per-request", "base_url": "http://invalid/", "max_retries": 0, "http_client": http_client}


@lru_cache(maxsize=1)
def response_type() -> type:
    """The response class of the HTTP package that the installed SDK is built on."""
    import openai

    package = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    found: type = import_module(package).Response
    return found


def _http_options() -> dict[str, object]:
    limits = import_module(response_type().__module__.partition(".")[0]).Limits
    return {
        "verify": ssl_context(),
        "limits": limits(
            max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_KEEP_ALIVE
        ),
    }


class SyncPools:
    """The shared blocking pool; it is closed when the last client that uses it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._sdk: openai.OpenAI | None = None

    def get(self, user: object) -> openai.OpenAI:
        """Return the shared transport."""
        sdk = self._sdk
        if sdk is not None and user in self._users:
            return sdk
        with self._lock:
            self._users.add(user)
            if self._sdk is None:
                import openai

                self._sdk = sdk_client(openai.DefaultHttpxClient(**_http_options()))  # type: ignore[arg-type]
            return self._sdk

    def release(self, user: object) -> None:
        """Note that a client is closed."""
        with self._lock:
            self._users.discard(user)
            if self._users or self._sdk is None:
                return
            sdk, self._sdk = self._sdk, None
        sdk.close()


class AsyncPools:
    """A shared pool for each event loop, closed with the loop."""

    def __init__(self) -> None:
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, _Kept] = {}

    async def get(self, user: object) -> openai.AsyncOpenAI:
        """Return the shared transport of the running loop."""
        loop = asyncio.get_running_loop()
        self._users.add(user)
        kept = self._by_loop.get(loop)
        if kept is None:
            import openai

            sdk = async_sdk_client(openai.DefaultAsyncHttpxClient(**_http_options()))  # type: ignore[arg-type]
            with self._lock:
                # A transport refers to its loop: without this no loop that has ended would ever be let go of.
                for ended in [each for each in self._by_loop if each.is_closed()]:
                    del self._by_loop[ended]
                kept = self._by_loop[loop] = _Kept(sdk)
            await kept.begin()
        return kept.sdk

    async def release(self, user: object) -> None:
        """Note that a client is closed."""
        self._users.discard(user)
        with self._lock:
            kept = None if self._users else self._by_loop.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.end()


class _Kept:
    """A transport that closes when its event loop ends.

    ``asyncio.run`` closes every async generator that is still open: one that waits at its ``yield`` with
    the transport in hand is how to hear of the end of a loop.
    """

    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self.sdk = sdk
        self._keeper = self._keep(sdk)

    @staticmethod
    async def _keep(sdk: openai.AsyncOpenAI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await sdk.close()

    async def begin(self) -> None:
        await anext(self._keeper)

    async def end(self) -> None:
        await cast("_Closable", self._keeper).aclose()


if TYPE_CHECKING:
    from typing import Protocol

    class _Closable(Protocol):
        async def aclose(self) -> None: ...


class _Shared:
    sync = SyncPools()
    by_loop = AsyncPools()


def sync_pools() -> SyncPools:
    """The blocking pool of this process."""
    return _Shared.sync


def async_pools() -> AsyncPools:
    """The async pools of this process."""
    return _Shared.by_loop


_abandoned: list[object] = []


def _forget_after_fork() -> None:
    # The parent's sockets must not be shared: leave them alone, not even closed, and begin anew.
    _abandoned.append((_Shared.sync, _Shared.by_loop))
    _Shared.sync, _Shared.by_loop = SyncPools(), AsyncPools()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
