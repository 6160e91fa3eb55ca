"""Connection pools: one per process for blocking calls, one per event loop for async ones.

The pools are clients of httpx2 where it is installed, else of httpx: see docs/decisions/0006. The package is imported
on first use.
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

from chutes_core.secrets.frames import unseen
from chutes_core.wire import lanes

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncPools", "SyncPools", "async_pools", "http_package", "ssl_context", "sync_pools", "user_agent"]

_CONNECTIONS = 1000


@lru_cache(maxsize=1)
def user_agent() -> str:
    """Return the library's User-Agent."""
    try:
        return f"chutes-connect/{version('chutes-connect')}"
    except PackageNotFoundError:  # used from a source tree, not installed
        return "chutes-connect"


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """Return the TLS context of this process; creating one costs more than a call."""
    made: ssl.SSLContext = http_package().create_ssl_context()
    return made


@lru_cache(maxsize=1)
def http_package() -> ModuleType:
    """Return the HTTP package of the shared pools: httpx2 if installed, else httpx."""
    return import_module("httpx2" if find_spec("httpx2") else "httpx")


def _options(transport: Callable[[ModuleType], object]) -> dict[str, object]:
    package = http_package()
    # Every request has its own key; this keeps the client from looking for credentials in URLs or .netrc.
    options: dict[str, object] = {"verify": ssl_context(), "auth": package.Auth()}
    if any(scheme in ("http", "https", "all") for scheme in getproxies()):
        return {**options, "limits": _limits(_CONNECTIONS)}  # only the client itself can choose a proxy per request
    return {**options, "transport": transport(package)}


@unseen
def _client(kind: str, transport: Callable[[ModuleType], object]) -> object:
    """Make a client; one that cannot use the proxies of the environment does not show their passwords."""
    return getattr(http_package(), kind)(**_options(transport))


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
    """The shared blocking pool, closed together with the last client that uses it."""

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
                self._http = cast("httpx.Client", _client("Client", _sync_transport))
            return self._http

    def release(self, user: object) -> None:
        """Record that a client is closed."""
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
            http = cast("httpx.AsyncClient", _client("AsyncClient", _async_transport))
            with self._lock:
                # A pool refers to its loop, so without this a closed loop would never be freed.
                for ended in [each for each in self._by_loop if each.is_closed()]:
                    del self._by_loop[ended]
                kept = self._by_loop[loop] = _Kept(http)
            await kept.begin()
        return kept.http

    async def release(self, user: object) -> None:
        """Record that a client is closed."""
        self._users.discard(user)
        with self._lock:
            kept = None if self._users else self._by_loop.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept.end()


class _Kept:
    """A pool that closes when its event loop ends.

    ``asyncio.run`` closes every open async generator, so one that is suspended at its ``yield`` and holds the pool
    learns of the end of the loop.
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
    """Return the blocking pool of this process."""
    return _Shared.sync


def async_pools() -> AsyncPools:
    """Return the async pools of this process."""
    return _Shared.by_loop


_abandoned: list[object] = []


def _forget_after_fork() -> None:
    # The parent's sockets must not be shared: leave them alone, without even closing them, and start fresh.
    _abandoned.append((_Shared.sync, _Shared.by_loop))
    _Shared.sync, _Shared.by_loop = SyncPools(), AsyncPools()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
