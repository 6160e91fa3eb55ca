"""HTTP connections: one pool per process for blocking calls, one per event loop for async ones.

The pools are clients of the HTTP package that the installed openai SDK is built on (httpx2 for 3.x, httpx for 2.x),
so that people's own ``http_client`` objects, proxies and certificates fit. The SDK itself stays out of the way of a
call: see docs/decisions/0006. The package is imported on first use.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, cast
from urllib.request import getproxies

from chutes_core import lanes

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncPools", "SyncPools", "async_pools", "http_package", "ssl_context", "sync_pools", "user_agent"]

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
    made: ssl.SSLContext = http_package().create_ssl_context()
    return made


@lru_cache(maxsize=1)
def http_package() -> ModuleType:
    """The HTTP package of the shared pools: httpx2 where it is installed, else httpx."""
    return import_module("httpx2" if find_spec("httpx2") else "httpx")


def _options(transport: Callable[[ModuleType], object]) -> dict[str, object]:
    package = http_package()
    # Every request brings its own key: with this the client looks for none in addresses.
    options: dict[str, object] = {"verify": ssl_context(), "follow_redirects": True, "auth": package.Auth()}
    if any(scheme in ("http", "https", "all") for scheme in getproxies()):
        return {**options, "limits": _limits(_CONNECTIONS)}  # only the client itself knows which goes where
    return {**options, "transport": transport(package)}


def _limits(connections: int) -> object:
    return http_package().Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=lanes.KEEP_ALIVE
    )


def _sync_transport(package: ModuleType) -> object:
    return lanes.sync_transport(
        package, lambda: package.HTTPTransport(verify=ssl_context(), limits=_limits(lanes.SIZE))
    )


def _async_transport(package: ModuleType) -> object:
    return lanes.async_transport(
        package, lambda: package.AsyncHTTPTransport(verify=ssl_context(), limits=_limits(lanes.SIZE))
    )


class SyncPools:
    """The shared blocking pool; it is closed when the last client that uses it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._http: httpx.Client | None = None

    def get(self, user: object) -> httpx.Client:
        """Return the shared pool."""
        http = self._http
        if http is not None and user in self._users:
            return http
        with self._lock:
            self._users.add(user)
            if self._http is None:
                self._http = cast("httpx.Client", http_package().Client(**_options(_sync_transport)))
            return self._http

    def release(self, user: object) -> None:
        """Note that a client is closed."""
        with self._lock:
            self._users.discard(user)
            if self._users or self._http is None:
                return
            http, self._http = self._http, None
        http.close()


class AsyncPools:
    """A shared pool for each event loop, closed with the loop."""

    def __init__(self) -> None:
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, _Kept] = {}

    async def get(self, user: object) -> httpx.AsyncClient:
        """Return the shared pool of the running loop."""
        loop = asyncio.get_running_loop()
        self._users.add(user)
        kept = self._by_loop.get(loop)
        if kept is None:
            http = cast("httpx.AsyncClient", http_package().AsyncClient(**_options(_async_transport)))
            with self._lock:
                # A pool refers to its loop: without this no loop that has ended would ever be let go of.
                for ended in [each for each in self._by_loop if each.is_closed()]:
                    del self._by_loop[ended]
                kept = self._by_loop[loop] = _Kept(http)
            await kept.begin()
        return kept.http

    async def release(self, user: object) -> None:
        """Note that a client is closed."""
        self._users.discard(user)
        with self._lock:
            kept = None if self._users else self._by_loop.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.end()


class _Kept:
    """A pool that closes when its event loop ends.

    ``asyncio.run`` closes every async generator that is still open: one that waits at its ``yield`` with
    the pool in hand is how to hear of the end of a loop.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self._keeper = self._keep(http)

    @staticmethod
    async def _keep(http: httpx.AsyncClient) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await http.aclose()

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
