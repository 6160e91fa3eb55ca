"""Limits for any iterator: each passes under its own name, and what is late is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from chutes_core import Kind, TimeLimitError, TimeLimits
from chutes_core.calls.stopping import Stop, Stopped, stopping
from chutes_core.fallback.bounded import abounded, bounded, threaded

Parts = Callable[[threading.Event], Iterator[str]]


def shows(part: str) -> bool:
    return bool(part)


def silent(over: threading.Event) -> Iterator[str]:
    over.wait(60)
    yield "late"


def empty_parts(over: threading.Event) -> Iterator[str]:
    while not over.wait(0.01):
        yield ""


def stalling(over: threading.Event) -> Iterator[str]:
    yield "a"
    over.wait(60)


def chatty(over: threading.Event) -> Iterator[str]:
    while not over.wait(0.01):
        yield "a"


CASES: list[tuple[Parts, TimeLimits, Kind]] = [
    (silent, TimeLimits(first_token=0.05), Kind.FIRST_TOKEN_TIMEOUT),
    (empty_parts, TimeLimits(first_token=0.05), Kind.FIRST_TOKEN_TIMEOUT),
    (stalling, TimeLimits(gap=0.05), Kind.STALL),
    (chatty, TimeLimits(gap=10, total=0.1), Kind.TOTAL_TIMEOUT),
    (silent, TimeLimits(first_token=None, total=0.05), Kind.TOTAL_TIMEOUT),
]


@pytest.mark.parametrize(("parts", "limits", "kind"), CASES)
def test_a_late_part_is_a_failure(parts: Parts, limits: TimeLimits, kind: Kind) -> None:
    """A blocking model that is late fails under the name of the limit, and its thread ends with its next part."""
    over = threading.Event()
    with pytest.raises(TimeLimitError) as caught:
        list(bounded(lambda: parts(over), limits, shows=shows, model="other/model"))
    assert caught.value.kind is kind
    assert "other/model" in str(caught.value)
    over.set()
    for thread in threading.enumerate():
        if thread.name == "chutes-member":
            thread.join(60)
            assert not thread.is_alive()


@pytest.mark.parametrize(("parts", "limits", "kind"), CASES)
async def test_a_late_part_is_a_failure_on_the_event_loop(parts: Parts, limits: TimeLimits, kind: Kind) -> None:
    """The same for async models, which are closed at once."""
    closed = []

    async def waiting() -> AsyncIterator[str]:
        try:
            if parts in (silent, stalling):
                if parts is stalling:
                    yield "a"
                await asyncio.Event().wait()
            while True:
                await asyncio.sleep(0.01)
                yield "" if parts is empty_parts else "a"
        finally:
            closed.append(True)

    with pytest.raises(TimeLimitError) as caught:
        async for _ in abounded(waiting, limits, shows=shows, model="other/model"):
            pass
    assert caught.value.kind is kind
    assert closed == [True]


async def test_without_limits_everything_passes() -> None:
    """Parts and the model's own failures go through unchanged."""
    limits = TimeLimits(first_token=None, gap=None)

    def failing() -> Iterator[str]:
        yield "a"
        raise TimeoutError("the model's own")

    async def afailing() -> AsyncIterator[str]:
        for part in failing():
            yield part

    blocking = bounded(failing, limits, shows=shows, model="m")
    assert next(blocking) == "a"
    with pytest.raises(TimeoutError, match="own"):
        next(blocking)
    waiting = abounded(afailing, limits, shows=shows, model="m")
    assert await anext(waiting) == "a"
    with pytest.raises(TimeoutError, match="own"):
        await anext(waiting)
    assert list(bounded(lambda: iter("ab"), limits, shows=shows, model="m")) == ["a", "b"]


def test_leaving_early_leaves_no_thread() -> None:
    """A reader who stops lets the thread end with the next part, and the model's iterator is closed."""
    closed = threading.Event()

    def parts() -> Iterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.set()

    stream = bounded(parts, TimeLimits(), shows=shows, model="m")
    assert next(stream) == "a"
    stream.close()
    assert closed.wait(60)


async def test_blocking_models_on_an_event_loop_have_threads_of_their_own() -> None:
    """However many are silent, the next one is heard; each ends with its own reader."""
    over, closed = threading.Event(), []

    def silence() -> Iterator[str]:
        try:
            over.wait()
            yield "late"
            yield "later"
        finally:
            closed.append(True)

    waiting = [asyncio.ensure_future(anext(threaded(silence))) for _ in range(64)]
    assert [part async for part in threaded(lambda: iter("ab"))] == ["a", "b"]
    over.set()
    assert await asyncio.gather(*waiting) == ["late"] * 64
    for thread in threading.enumerate():
        if thread.name == "chutes-member":
            await asyncio.to_thread(thread.join, 5)
    assert len(closed) == 64


async def test_what_a_threads_model_raises_is_raised_here() -> None:
    """After the parts before it."""

    def failing() -> Iterator[str]:
        yield "a"
        raise TimeoutError("the model's own")

    parts = threaded(failing)
    assert await anext(parts) == "a"
    with pytest.raises(TimeoutError, match="own"):
        await anext(parts)


def test_a_reader_that_is_stopped_waits_no_longer() -> None:
    """The member's thread is left behind, and ends with its next part."""
    over, waits, stop = threading.Event(), threading.Event(), Stop()
    ended: list[BaseException] = []

    def parts() -> Iterator[str]:
        waits.set()
        yield from silent(over)

    def read() -> None:
        stopping.set(stop)
        try:
            list(bounded(parts, TimeLimits(), shows=shows, model="m"))
        except Stopped as error:
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert waits.wait(60)
    stop.stop()
    reader.join(60)
    assert len(ended) == 1
    over.set()
    for thread in threading.enumerate():
        if thread.name == "chutes-member":
            thread.join(5)
