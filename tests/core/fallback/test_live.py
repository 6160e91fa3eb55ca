"""Live statistics: fetched beside the calls, one fetch at a time, and never in anybody's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chutes_core import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.fallback import Call, FallbackPolicy, Health, LiveStats, Member, Try
from chutes_core.settings import Settings

SLOW, FAST = (Member(name, info=ModelInfo(id=name, ttft=ttft, tps=1 / ttft)) for name, ttft in (("s", 2.0), ("f", 0.5)))


class Stage:
    """Statistics on a clock of our own, whose jobs run when we say so."""

    def __init__(self, *answers: Any) -> None:
        self.now = 0.0
        self.jobs: list[Callable[[], None]] = []
        self.fetches = 0
        self.answers = list(answers)
        self.stats = LiveStats(self.fetch, every=300, now=lambda: self.now, spawn=self.jobs.append)

    def fetch(self) -> list[ModelInfo]:
        self.fetches += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()

    def first(self, order: Any) -> str:
        policy = FallbackPolicy(order=order)
        step = Call([SLOW, FAST], policy, Health(), now=lambda: self.now, stats=self.stats).next()
        assert isinstance(step, Try)
        return step.member.name


TURNED = [ModelInfo(id="s", ttft=0.1, tps=90.0), ModelInfo(id="f", ttft=3.0, tps=2.0)]


@pytest.mark.parametrize("order", ["latency", "throughput"])
def test_a_call_goes_on_with_what_there_is(order: Any) -> None:
    """The first call starts a fetch and does not wait for it; the next one has what it brought."""
    stage = Stage(TURNED)
    assert stage.first(order) == "f"
    assert (stage.fetches, len(stage.jobs)) == (0, 1)
    stage.work()
    assert stage.first(order) == "s"


@pytest.mark.parametrize("order", ["given", "price", "balanced"])
def test_other_orders_fetch_nothing(order: Any) -> None:
    """Only an order by speed asks for speeds."""
    stage = Stage()
    stage.first(order)
    assert stage.jobs == []


def test_one_fetch_at_a_time_and_not_too_often() -> None:
    """Any number of calls start one fetch, and another when it is due."""
    stage = Stage(TURNED, TURNED)
    for _ in range(5):
        stage.first("latency")
    assert len(stage.jobs) == 1
    stage.work()
    stage.now = 299
    stage.first("latency")
    assert stage.jobs == []
    stage.now = 300
    stage.first("latency")
    assert len(stage.jobs) == 1


def test_a_fetch_that_fails_is_tried_again_ever_later() -> None:
    """It raises nowhere, keeps what was known, and backs off."""
    stage = Stage(TURNED, OSError("down"), OSError("down"), TURNED)
    due = []
    for seconds in range(0, 1000, 10):
        stage.now = seconds
        stage.first("latency")
        if stage.jobs:
            due.append(seconds)
        stage.work()
        assert stage.first("latency") == "s"
        if len(due) == 2:
            assert str(stage.stats.error) == "down"
    assert due[:4] == [0, 300, 330, 390]
    assert stage.stats.error is None or len(due) > 4


def test_a_fetch_that_never_comes_back_is_given_up() -> None:
    """As in a process that was forked in the middle of one."""
    stage = Stage(TURNED)
    stage.first("latency")
    stage.jobs.clear()
    stage.now = 119
    stage.first("latency")
    assert stage.jobs == []
    stage.now = 121
    stage.first("latency")
    assert len(stage.jobs) == 1


def test_a_process_without_threads_goes_on() -> None:
    """Where no thread can be started, calls go on as they are."""

    def refuse(job: object) -> None:
        raise RuntimeError("can't start new thread")

    stats = LiveStats(list, spawn=refuse)
    stats.wanted()
    assert isinstance(stats.error, RuntimeError)


def test_what_this_health_has_seen_goes_first() -> None:
    """A latency that was measured here says more than one that the service published."""
    stage = Stage(TURNED)
    stage.first("latency")
    stage.work()
    health = Health()
    health.succeeded(FAST.target, ttft=0.01)
    policy = FallbackPolicy(order="latency")
    step = Call([SLOW, FAST], policy, health, now=lambda: 0.0, stats=stage.stats).next()
    assert isinstance(step, Try)
    assert step.member is FAST


def test_in_a_thread_of_its_own() -> None:
    """By default a fetch runs beside the caller."""
    names: list[str] = []
    done = threading.Event()

    def fetch() -> list[ModelInfo]:
        names.append(threading.current_thread().name)
        done.set()
        return []

    LiveStats(fetch).wanted()
    assert done.wait(60)
    assert names == ["chutes-statistics"]


def test_of_the_service() -> None:
    """The daily statistics of the management host, without a key; the newest day counts."""
    asked: list[httpx.Request] = []
    catalog = Catalog.bundled()
    name = "Qwen/Qwen3-32B-TEE"

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        row = {"name": name, "chute_id": catalog.model(name).chute_id, "average_ttft": 0.25, "average_tps": 80.0}
        return httpx.Response(
            200, json=[{**row, "date": "2026-08-22"}, {**row, "date": "2026-08-21", "average_tps": 1}]
        )

    http = httpx.Client(transport=httpx.MockTransport(answer))
    stats = LiveStats.of_service(Settings(), catalog, http_client=http)
    assert stats is not None
    stats._spawn = lambda job: job()
    stats.wanted()
    found = stats.of(catalog.model(name))
    assert (found.ttft, found.tps) == (0.25, 80.0)
    assert [request.url.path for request in asked] == ["/invocations/stats/llm"]
    assert "authorization" not in asked[0].headers
    unknown = ModelInfo(id="acme/new")
    assert stats.of(unknown) is unknown


def test_where_nothing_is_to_be_fetched() -> None:
    """Offline, and behind a gateway whose management host is not known; else one for the process."""
    catalog = Catalog.bundled()
    assert LiveStats.of_service(Settings(), Catalog.bundled(offline=True)) is None
    assert LiveStats.of_service(Settings(base_url="http://127.0.0.1:8000/v1"), catalog) is None
    local = Settings(base_url="http://127.0.0.1:8000/v1", management_url="http://127.0.0.1:8000")
    assert LiveStats.of_service(local, catalog) is not None
    shared = LiveStats.of_service(Settings(), catalog)
    assert LiveStats.of_service(Settings(), catalog) is shared
