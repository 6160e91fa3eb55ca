"""The shared pools: requests as they are sent, spread over lanes that give their places back."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

import pytest

from chutes_core.wire import pools
from chutes_core.wire.direct import AsyncPool, Packages, Pool, Request
from chutes_core.wire.lanes import KEEP_ALIVE, SIZE, Lanes
from chutes_core.wire.through import AsyncThrough, Through

NAMES = sorted({"httpx", pools.http_package().__name__})
PACKAGES = [Packages(import_module(name), import_module(name.replace("httpx", "httpcore"))) for name in NAMES]
ASKED = Request("POST", "http://x/v1?a=1", {"b": "ö"}, {"Accept": "*/*"}, b"{}", {})


class Fake:
    """A pool of the package that fails or answers."""

    def __init__(self, core: Any, fail: list[BaseException]) -> None:
        self._core, self._fail = core, fail
        self.asked: list[Any] = []
        self.closed = False
        self.connections: list[Any] = []

    def handle_request(self, request: Any) -> Any:
        self.asked.append(request)
        if self._fail:
            raise self._fail.pop()
        return self._core.Response(200, content=b"hello", extensions={"network_stream": Silent()})

    async def handle_async_request(self, request: Any) -> Any:
        return self.handle_request(request)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Silent:
    """A connection of which nothing is asked."""

    def limit(self, seconds: float | None) -> None:
        """Set no limit."""


class Rig:
    """A pool of ours, of either kind, over lanes of such pools; and a clock for them."""

    def __init__(self, kind: Any, packages: Packages) -> None:
        self.fail: list[BaseException] = []
        self.made: list[Fake] = []
        self.now = 0.0
        aside = pools._through if kind is Pool else pools._async_through
        self.pool: Any = kind(packages, pools.ssl_context(), aside)
        self.lanes: Lanes[Any] = Lanes(self.make, now=lambda: self.now)
        self.pool._lanes = self.lanes
        self.waits = kind is AsyncPool

    def make(self) -> Fake:
        self.made.append(Fake(self.pool._packages.core, self.fail))
        return self.made[-1]

    async def send(self) -> Any:
        return await self.pool.send(ASKED) if self.waits else self.pool.send(ASKED)

    async def close(self, what: Any) -> None:
        await what.aclose() if self.waits else what.close()

    async def read(self, reply: Any) -> bytes:
        blocks = [block async for block in reply.aiter_raw()] if self.waits else list(reply.iter_raw())
        return b"".join(blocks)


@pytest.fixture(params=PACKAGES, ids=NAMES)
def packages(request: pytest.FixtureRequest) -> Packages:
    """Each of the HTTP packages."""
    made: Packages = request.param
    return made


@pytest.fixture(params=[Pool, AsyncPool], ids=["blocking", "waiting"])
def rig(request: pytest.FixtureRequest, packages: Packages) -> Rig:
    """A rig of each kind."""
    return Rig(request.param, packages)


async def test_requests_use_lanes(rig: Rig) -> None:
    """Open replies fill lanes; closed and failed ones give their place back, once; closing closes all pools."""
    replies = [await rig.send() for _ in range(SIZE + 1)]
    assert len(rig.made) == 2
    for reply in replies:
        assert (reply.status_code, reply.is_success, await rig.read(reply)) == (200, True, b"hello")
        await rig.close(reply)
        await rig.close(reply)
    rig.fail += [asyncio.CancelledError()] * SIZE
    for _ in range(SIZE):
        with pytest.raises(asyncio.CancelledError):
            await rig.send()
    reply = await rig.send()
    assert [len(pool.asked) for pool in rig.made] == [2 * SIZE + 1, 1]
    await rig.close(reply)
    await rig.close(rig.pool)
    assert all(pool.closed for pool in rig.made)


async def test_a_retired_lane_is_closed(rig: Rig) -> None:
    """The connections of a lane that was needed in a rush do not stay open for ever."""
    for reply in [await rig.send() for _ in range(SIZE + 1)]:
        await rig.close(reply)
    rig.now = KEEP_ALIVE + 1
    await rig.close(await rig.send())
    assert [pool.closed for pool in rig.made] == [False, True]


async def test_what_is_sent(rig: Rig) -> None:
    """The headers that HTTP needs, and those of the call; parameters are added to the address."""
    await rig.close(await rig.send())
    (sent,) = rig.made[0].asked
    assert (sent.method, sent.url.host, sent.url.target) == (b"POST", b"x", b"/v1?b=%C3%B6")
    assert sent.headers == [(b"Host", b"x"), (b"Accept", b"*/*"), (b"Content-Length", b"2")]


async def test_a_header_that_cannot_be_sent_takes_no_place(rig: Rig) -> None:
    """It is refused before a lane is entered."""
    odd = ASKED._replace(headers={"X-Name": "ö"})
    for _ in range(SIZE + 1):
        with pytest.raises(UnicodeEncodeError):
            await rig.pool.send(odd) if rig.waits else rig.pool.send(odd)
    assert rig.made == []


async def test_a_tool_that_watches_the_packages_clients_sees_our_requests(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that records cassettes, mocks or traces replaces the transport's method, and only while it is needed."""
    package = rig.pool._packages.http
    if package is not pools.http_package():
        pytest.skip("the pools of this environment are made of the other package")
    seen: list[str] = []

    def answer(self: Any, request: Any) -> Any:
        seen.append(str(request.url))
        return package.Response(200, content=b"recorded")

    async def waited(self: Any, request: Any) -> Any:
        return answer(self, request)

    with monkeypatch.context() as tool:
        tool.setattr(package.HTTPTransport, "handle_request", answer)
        tool.setattr(package.AsyncHTTPTransport, "handle_async_request", waited)
        assert (await rig.send()).status_code == 200
    assert seen == ["http://x/v1?b=%C3%B6"]
    await rig.close(await rig.send())
    assert len(rig.made[0].asked) == 1
    await rig.close(rig.pool)


def test_behind_a_proxy_a_client_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a proxy, requests go through it: only a client knows for which."""
    assert (type(pools._pool()), type(pools._async_pool())) == (Pool, AsyncPool)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    through = pools._pool()
    assert (type(through), type(pools._async_pool())) == (Through, AsyncThrough)
    through.close()
