"""One model, many callers: cancelled tasks, threads, event loops, and retries in the long run."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chutes_core.testing import Answer, Fault
from langchain_chutes import FallbackError, FallbackPolicy, Health
from tests.langchain_chutes.fallback_stage import ANSWER, NAMES, Other, Stage, stage

SHORT = Answer("Hi there.", pieces=2)
DRIP = Fault("slow_drip", answer=SHORT)  # it gives other tasks a turn at every read
BROKEN = Fault("reset", after=1, answer=SHORT)


async def consumed(made: Stage, style: str) -> None:
    if style == "ainvoke":
        await made.model.ainvoke("Hi")
        return
    async for _ in made.model.astream("Hi"):
        pass


@pytest.mark.parametrize("style", ["ainvoke", "astream"])
@pytest.mark.parametrize(
    "script", [[DRIP], ["hang", DRIP], [BROKEN, DRIP]], ids=["one attempt", "after a silent one", "after a broken one"]
)
async def test_a_cancel_at_every_await(script: list[Any], style: str) -> None:
    """Wherever it comes, nothing is left open, and nobody is marked for it."""
    policy = FallbackPolicy(first_token=5, gap=5, deadline=60, after_commit="restart")
    for steps in range(1000):
        made = stage(list(script), policy=policy)
        task = asyncio.create_task(consumed(made, style))
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert made.transport.open_replies == 0
        failures = [made.model.health.vitals(f"|{name}").failures for name in NAMES]
        assert sum(failures) <= len(script) - 1
        assert failures[1:] == [0, 0]
        if finished:
            assert task.exception() is None
            assert steps > 30, "there were awaits to be cancelled at"
            return
        assert task.cancelled()
    pytest.fail("the call never ended")


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_a_cancelled_model_of_another_provider(steps: int) -> None:
    """Its stream is closed too."""
    closed: list[str] = []

    class Slow(Other):
        async def _astream(self, *given: Any, **options: Any) -> Any:
            try:
                for chunk in self._stream(*given, **options):
                    await asyncio.sleep(0)
                    yield chunk
            finally:
                closed.append("closed")

    made = stage([], [Slow.of(*"abcdefghijkl"), "acme/one"])
    task = asyncio.create_task(consumed(made, "astream"))
    for _ in range(steps):
        await asyncio.sleep(0)
    begun = bool(made.model.members[0]._asked)  # type: ignore[attr-defined]
    task.cancel()
    await asyncio.wait([task])
    assert closed == ["closed"] * begun
    assert made.transport.requests == []


def test_threads_share_a_model_and_its_health() -> None:
    """Every call of 16 threads has one whole answer, and every outcome is counted once."""
    # Without limits of time: every wait of one thread moves the clock of all.
    policy = FallbackPolicy(first_token=None, gap=None, deadline=None, max_attempts=200, burst=1000)
    made = stage(["capacity", "cold", "reset"] * 40, policy=policy)

    def ask(number: int) -> list[str]:
        message = made.model.invoke(f"Question {number}")
        assert message.text == ANSWER.text
        return [attempt["outcome"] for attempt in message.response_metadata["chutes_attempts"]]

    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(ask, range(160)))
    vitals = [made.model.health.vitals(f"|{name}") for name in NAMES]
    assert all(each[-1] == "answered" for each in outcomes)
    assert sum(each.successes for each in vitals) == 160
    assert sum(each.failures for each in vitals) == sum(each.count("failed") for each in outcomes)
    assert len(made.transport.requests) == sum(map(len, outcomes))


def test_two_event_loops_at_once() -> None:
    """One model serves event loops that run at the same time."""
    made = stage(["cold"])

    async def several() -> list[str]:
        return [message.text for message in await made.model.abatch(["Hi"] * 5)]

    def loop(_: int) -> list[str]:
        return asyncio.run(several())

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(loop, range(2)))
    assert answers == [[ANSWER.text] * 5] * 2


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_retries_stay_within_the_budget(budget: float) -> None:
    """Models that share a health share the budget for asking members again; to ask each once is free."""
    health = Health()
    policy = FallbackPolicy(budget=budget, burst=3, max_attempts=4, deadline=None)
    made = [stage(["capacity"] * 500, policy=policy, health=health) for _ in range(2)]
    calls = 0
    for _ in range(30):
        for each in made:
            calls += 1
            with pytest.raises(FallbackError):
                each.model.invoke("Hi")
            requests = sum(len(each.transport.requests) for each in made)
            assert requests - 3 * calls <= 3 + budget * calls
    assert requests > 3 * calls


async def test_a_batch_is_as_many_calls() -> None:
    """Each input has its own attempts, in its own order."""
    made = stage(["capacity"])
    messages = await made.model.abatch(["a", "b", "c"])
    told = [message.response_metadata["chutes_attempts"] for message in messages]
    assert sorted(len(each) for each in told) == [1, 1, 2]
    assert all(each[-1]["outcome"] == "answered" for each in told)
