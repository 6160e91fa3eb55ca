"""Connection pools: one per process for blocking calls, one per event loop for async ones.

They are made of httpx2 and the package below it where it is installed, else of httpx: see docs/decisions/0006. The
packages are imported on first use. Where the environment names a proxy, a pool is a client of the package, which alone
can choose one for each request.
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
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, cast
from urllib.request import getproxies

from chutes_core.secrets.frames import unseen
from chutes_core.wire.direct import AsyncPool, Packages, Pool
from chutes_core.wire.lanes import KEEP_ALIVE
from chutes_core.wire.through import AsyncThrough, Through

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


def _packages() -> Packages:
    package = http_package()
    return Packages(package, import_module(package.__name__.replace("httpx", "httpcore")))


def _has_proxy() -> bool:
    return any(scheme in ("http", "https", "all") for scheme in getproxies())


@unseen
def _client(kind: str) -> object:
    """Make a client; one that cannot use the proxies of the environment does not show their passwords."""
    package = http_package()
    limits = package.Limits(
        max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=KEEP_ALIVE
    )
    # Every request has its own key; this keeps the client from looking for credentials in URLs or .netrc.
    # To this machine, and unencrypted, requests go directly, whatever the environment says: a proxy could read them.
    direct = dict.fromkeys(("http://", "all://127.0.0.1", "all://localhost", "all://[::1]"))
    return getattr(package, kind)(verify=ssl_context(), auth=package.Auth(), limits=limits, mounts=direct)


def _through() -> Through:
    return Through(cast("httpx.Client", _client("Client")), http_package().Request)


def _async_through() -> AsyncThrough:
    return AsyncThrough(cast("httpx.AsyncClient", _client("AsyncClient")), http_package().Request)


def _pool() -> Pool | Through:
    return _through() if _has_proxy() else Pool(_packages(), ssl_context(), _through)


def _async_pool() -> AsyncPool | AsyncThrough:
    return _async_through() if _has_proxy() else AsyncPool(_packages(), ssl_context(), _async_through)


class SyncPools:
    """The shared blocking pool, closed together with the last client that uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: weakref.WeakSet[object] = weakref.WeakSet()
        self._http: Pool | Through | None = None

    def get(self, user: object) -> Pool | Through:
        """Return the shared pool."""
        http = self._http
        if http is not None and user in self._users:
            return http
        with self._lock:
            self._users.add(user)
            if self._http is None:
                self._http = _pool()
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

    async def get(self, user: object) -> AsyncPool | AsyncThrough:
        """Return the shared pool of the running loop."""
        loop = asyncio.get_running_loop()
        self._users.add(user)
        kept = self._by_loop.get(loop)
        if kept is None:
            http = _async_pool()
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

    def __init__(self, http: AsyncPool | AsyncThrough) -> None:
        self.http = http
        self._keeper = self._keep(http)

    @staticmethod
    async def _keep(http: AsyncPool | AsyncThrough) -> AsyncIterator[None]:
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
