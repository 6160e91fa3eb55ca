"""One call: leaving it at any point, threads and event loops, and what a request needs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import replace
from typing import Any

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler

from chutes_core import RequestRefusedError
from chutes_core.testing import Fault
from llama_index_chutes import ChutesFallback, FallbackPolicy
from llama_index_chutes.fallback import AttemptEvent
from tests.llama_index_chutes.rigs import HELLO, Entry, ask, text_of
from tests.llama_index_chutes.stages import ANSWER, MEMBERS, OTHER, POLICY, RESTART, attempts, metered, stage
from tests.llama_index_chutes.strangers import Stranger


@pytest.mark.parametrize("taken", range(4))
@pytest.mark.parametrize("style", ["stream_chat", "astream_chat"])
def test_leaving_a_stream_is_no_failure(style: str, taken: int) -> None:
    """A reader who stops leaves no connection open and no mark on any member."""
    made = stage()

    def leave() -> None:
        chunks = made.llm.stream_chat(HELLO)
        for _ in range(taken):
            next(chunks)
        chunks.close()

    async def aleave() -> None:
        chunks: Any = await made.llm.astream_chat(HELLO)
        for _ in range(taken):
            await anext(chunks)
        await chunks.aclose()
        await asyncio.sleep(0)

    asyncio.run(aleave()) if style.startswith("a") else leave()
    assert made.transport.open_replies == 0
    assert made.llm.health.snapshot()["members"] == {}


# What happens to a call before it is answered: an early failure, one in the middle, and a wait between two rounds.
TROUBLE: list[Entry] = ["cold", Fault("reset", after=2, answer=OTHER), "stall", "capacity"]


class Cancelled:
    """Runs a coroutine in its task and cancels the task when it waits for the n-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        waiting = self._coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                wanted = next(waiting) if error is None else waiting.throw(error)
            except StopIteration as end:
                return end.value
            self.waits += 1
            if self.waits == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            error = None
            try:
                yield wanted
            except BaseException as given:
                error = given


async def whole(llm: ChutesFallback) -> None:
    """One call for a whole answer."""
    assert text_of(await llm.achat(HELLO)) == ANSWER.text


async def streamed(llm: ChutesFallback) -> None:
    """One stream to its end."""
    async for _ in await llm.astream_chat(HELLO):
        pass


def cancelled_at(ask: Callable[[ChutesFallback], Coroutine[Any, Any, None]], at: int) -> tuple[int, Any]:
    """Cancel a call at its n-th wait; return how often it waited, and what the health has recorded."""
    llm, meter, _ = metered(TROUBLE, policy=RESTART)
    told = Listener()
    get_dispatcher().add_event_handler(told)

    async def run() -> int:
        call = Cancelled(ask(llm), at)

        async def task() -> None:
            await call

        running = asyncio.create_task(task())
        await asyncio.wait([running])
        assert meter.open == 0, "at once, and not when the loop ends"
        assert running.cancelled() == (at > 0)
        if at == 0:
            running.result()
        return call.waits

    try:
        waits = asyncio.run(run())
    finally:
        get_dispatcher().event_handlers.remove(told)
    members: Any = llm.health.snapshot()["members"]
    marks = {name: (each["failures"], each["successes"]) for name, each in members.items() if name.startswith("|")}
    expected: dict[str, tuple[int, int]] = {}
    for attempt in told.heard:
        failures, successes = expected.get(f"|{attempt['model']}", (0, 0))
        if attempt["outcome"] != "cancelled":
            failed = attempt["outcome"] == "failed"
            expected[f"|{attempt['model']}"] = (failures + failed, successes + (not failed))
    assert marks == expected, "what was cancelled marks nobody"
    assert [attempt["outcome"] for attempt in told.heard].count("cancelled") <= 1
    return waits, told.heard


@pytest.mark.parametrize("ask", [whole, streamed])
def test_a_cancel_at_any_await_is_no_failure(ask: Callable[[ChutesFallback], Coroutine[Any, Any, None]]) -> None:
    """Wherever the caller cancels, nothing stays open and nobody is marked for it."""
    waits, attempts = cancelled_at(ask, 0)
    assert waits > 20, "the service gives others a turn at every step"
    assert [attempt["outcome"] for attempt in attempts] == [*["failed"] * 4, "answered"]
    for at in range(1, waits + 1):
        cancelled_at(ask, at)


class Listener(BaseEventHandler):
    """Remembers the attempts."""

    heard: list[dict[str, Any]] = Field(default_factory=list)

    def handle(self, event: Any, **kwargs: Any) -> None:
        if isinstance(event, AttemptEvent):
            self.heard.append(event.attempt)


def test_sixteen_threads_share_a_model_and_its_health() -> None:
    """Each call gets a whole answer, every outcome is recorded, and no reply stays open."""
    faults: list[Entry] = ["capacity", Fault("reset", after=1, answer=OTHER), ANSWER] * 40
    policy = FallbackPolicy(burst=1000, max_attempts=50, deadline=None)
    llm, meter, _ = metered(faults, policy=policy)
    start, answers = threading.Barrier(16), list[str]()

    def work() -> None:
        start.wait()
        for style in ("chat", "stream_chat", "chat", "complete"):
            outcome = ask(llm, style)
            answers.append("" if outcome.error is not None else text_of(outcome.last))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A stream that breaks after its first words is raised: these end so, and all others are whole.
    whole = answers.count(ANSWER.text)
    assert len(answers) == 64
    assert whole + answers.count("") == 64
    assert whole >= 48
    members: Any = llm.health.snapshot()["members"]
    recorded = [each for name, each in members.items() if name.startswith("|")]
    assert sum(each["successes"] for each in recorded) == whole
    assert sum(each["failures"] + each["successes"] for each in recorded) == len(meter.sent)
    assert meter.open == 0


def test_two_event_loops_at_a_time() -> None:
    """One fallback serves several loops, one after the other and at once, and blocking calls beside them."""
    llm, meter, _ = metered(["cold", "capacity"], policy=replace(POLICY, burst=100))
    answers: list[str] = []

    async def several() -> None:
        for response in await asyncio.gather(*(llm.achat(HELLO) for _ in range(3))):
            answers.append(text_of(response))

    def loop() -> None:
        asyncio.run(several())

    loop()
    threads = [threading.Thread(target=loop) for _ in range(2)]
    for thread in threads:
        thread.start()
    answers.append(text_of(llm.chat(HELLO)))
    for thread in threads:
        thread.join()
    assert answers == [ANSWER.text] * 10
    assert meter.open == 0


def test_who_cannot_is_not_asked() -> None:
    """A member whose window is too small is skipped, and the reason is told."""
    made = stage()
    long = [ChatMessage("word and word " * 25_000)]
    outcome = ask(made.llm, "chat", long)
    skipped = [row for row in attempts(outcome) if row["outcome"] == "skipped"]
    assert [row["model"] for row in skipped] == [MEMBERS[0]]
    assert "window" in skipped[0]["detail"]
    assert made.asked == [MEMBERS[1]]


def test_nothing_is_sent_when_nobody_can() -> None:
    """Constraints hold, and say so."""
    made = stage(policy=replace(POLICY, max_price=0.000001))
    error = ask(made.llm, "chat").error
    assert isinstance(error, RequestRefusedError)
    assert made.asked == []


def test_the_system_prompt_comes_once() -> None:
    """Whether the framework has put it in or not."""
    made = stage(system_prompt="Be brief.")
    made.llm.chat(HELLO)
    made.llm.predict(PromptTemplate("Hello"))
    made.llm.chat([ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), *HELLO])
    for request in made.transport.requests:
        messages: Any = request.body["messages"]
        assert [message["role"] for message in messages] == ["system", "user"]


def test_a_mistake_of_the_callers_code_is_raised_as_it_is() -> None:
    """An exception that is no failure of a model ends the call at once and marks nobody."""
    made = stage(members=[Stranger(plays=[KeyError("typo")]), MEMBERS[0]])
    with pytest.raises(KeyError):
        made.llm.chat(HELLO)
    assert made.asked == []
    assert made.llm.health.snapshot()["members"] == {}
