"""Requests spread over many small pools, reuse connections, and leave none behind."""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chutes_core import ChutesClient, TimeLimits
from chutes_core.testing import Answer, VirtualClock
from chutes_core.wire import pools
from chutes_core.wire.lanes import KEEP_ALIVE, SIZE, Lanes, async_transport, sync_transport

PACKAGES = ["httpx", pools.http_package().__name__]


class Pool:
    """A pool that fails or answers, and tells what was asked of it."""

    def __init__(self, package: Any, fail: list[Exception]) -> None:
        self._package, self._fail = package, fail
        self.asked = 0
        self.closed = False

    def handle_request(self, request: Any) -> Any:
        self.asked += 1
        if self._fail:
            raise self._fail.pop()
        return self._package.Response(200, stream=self._package.ByteStream(b"hello"))

    async def handle_async_request(self, request: Any) -> Any:
        return self.handle_request(request)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class Rig:
    """A client of one of the packages over lanes of such pools."""

    def __init__(self, name: str) -> None:
        self.package: Any = importlib.import_module(name)
        self.fail: list[Exception] = []
        self.made: list[Pool] = []

    def make(self) -> Any:
        self.made.append(Pool(self.package, self.fail))
        return self.made[-1]


def test_the_first_lane_with_room_is_taken() -> None:
    """As many lanes are made as are needed at once, and later requests go to the first ones again."""
    lanes = Lanes(object, size=2)
    taken = [lanes.enter() for _ in range(5)]
    assert [taken[0] is taken[1], taken[1] is taken[2], taken[3] is taken[2], taken[4] is taken[3]] == [
        True, False, True, False,
    ]  # fmt: skip
    lanes.leave(taken[1])
    assert lanes.enter() is taken[0]
    assert len(lanes.all()) == 3


def test_a_lane_that_nobody_needs_is_retired() -> None:
    """The last lane goes once its connections have expired, the first one never."""
    now = [0.0]
    lanes = Lanes(object, size=1, now=lambda: now[0])
    first, second = lanes.enter(), lanes.enter()
    lanes.leave(second)
    now[0] = KEEP_ALIVE - 1
    assert lanes.retired() is None
    now[0] = KEEP_ALIVE
    assert lanes.retired() is second.pool
    lanes.leave(first)
    now[0] = 9 * KEEP_ALIVE
    assert lanes.retired() is None


def test_threads_never_crowd_a_lane() -> None:
    """However many threads come and go, no lane takes more than it should, and all places are given back."""
    lanes = Lanes(object, size=3)
    crowded: list[int] = []

    def work() -> None:
        for _ in range(200):
            lane = lanes.enter()
            if lane.busy > 3:
                crowded.append(lane.busy)
            lanes.leave(lane)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowded == []
    assert all(lanes.enter().busy <= 3 for _ in range(24))


@pytest.mark.parametrize("name", PACKAGES)
def test_blocking_requests_use_lanes(name: str) -> None:
    """Open replies fill lanes, closed and failed ones give their place back, and closing closes all pools."""
    rig = Rig(name)
    with rig.package.Client(transport=sync_transport(rig.package, rig.make)) as http:
        request = rig.package.Request("GET", "http://x/")
        replies = [http.send(request, stream=True) for _ in range(SIZE + 1)]
        assert len(rig.made) == 2
        for reply in replies:
            assert reply.read() == b"hello"
            reply.close()
            reply.close()
        rig.fail += [rig.package.ConnectError("no")] * SIZE
        for _ in range(SIZE):
            with pytest.raises(rig.package.ConnectError):
                http.send(request)
        assert http.send(request).content == b"hello"
        assert [pool.asked for pool in rig.made] == [2 * SIZE + 1, 1]
    assert all(pool.closed for pool in rig.made)


@pytest.mark.parametrize("name", PACKAGES)
async def test_async_requests_use_lanes(name: str) -> None:
    """The same on the event loop, and a cancelled request gives its place back too."""
    rig = Rig(name)
    async with rig.package.AsyncClient(transport=async_transport(rig.package, rig.make)) as http:
        request = rig.package.Request("GET", "http://x/")
        replies = [await http.send(request, stream=True) for _ in range(SIZE + 1)]
        assert len(rig.made) == 2
        for reply in replies:
            assert await reply.aread() == b"hello"
            await reply.aclose()
        rig.fail += [asyncio.CancelledError()] * SIZE  # type: ignore[list-item]
        for _ in range(SIZE):
            with pytest.raises(asyncio.CancelledError):
                await http.send(request)
        assert (await http.send(request)).content == b"hello"
        assert [pool.asked for pool in rig.made] == [2 * SIZE + 1, 1]
    assert all(pool.closed for pool in rig.made)


@pytest.mark.parametrize(
    ("kind", "send"),
    [
        (sync_transport, lambda http, request: http.send(request)),
        (async_transport, lambda http, request: asyncio.run(_closing(http, request))),
    ],
)
def test_a_retired_lane_is_closed(kind: Any, send: Callable[[Any, Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of a lane that was needed in a rush do not stay open for ever."""
    rig = Rig("httpx")
    clock = [0.0]
    monkeypatch.setattr("chutes_core.wire.lanes.Lanes.__init__.__kwdefaults__", {"size": SIZE, "now": lambda: clock[0]})
    transport = kind(rig.package, rig.make)
    lanes: Lanes[Any] = transport._lanes
    taken = [lanes.enter() for _ in range(SIZE + 1)]
    for lane in taken:
        lanes.leave(lane)
    clock[0] = KEEP_ALIVE + 1
    http = rig.package.Client(transport=transport) if kind is sync_transport else rig.package.AsyncClient(
        transport=transport
    )  # fmt: skip
    send(http, rig.package.Request("GET", "http://x/"))
    assert [pool.closed for pool in rig.made][1:] == [True]
    if kind is sync_transport:
        http.close()


async def _closing(http: Any, request: Any) -> None:
    async with http:
        await http.send(request)


def test_behind_a_proxy_the_client_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a proxy, requests go through it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    asked: list[object] = []
    options = pools._options(asked.append)
    assert "limits" in options
    assert asked == []
    monkeypatch.delenv("HTTPS_PROXY")
    assert "transport" in pools._options(asked.append)


def test_a_place_in_a_pool_of_ones_own_is_waited_for_as_long_as_for_an_answer() -> None:
    """Requests without an answer may hold all of its places that long, and must not fail those to other models."""
    seen: list[dict[str, float]] = []
    package: Any = pools.http_package()

    def answer(request: Any) -> Any:
        seen.append(dict(request.extensions["timeout"]))
        return package.Response(200, json=Answer("Hi").body("acme/one"))

    http = package.Client(transport=package.MockTransport(answer))
    with ChutesClient("cpk_test", http_client=http, clock=VirtualClock()) as client:
        client.chat([{"role": "user", "content": "Hi"}], model="acme/one", timeout=TimeLimits(connect=1, total=20))
        client.chat([{"role": "user", "content": "Hi"}], model="acme/one", timeout=TimeLimits(connect=30, total=20))
    assert [(each["connect"], each["pool"]) for each in seen] == [(1, 20), (20, 20)]
