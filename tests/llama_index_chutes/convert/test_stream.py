"""Chunks that are made without validation, and what a chunk and a call cost by counts no machine changes."""

from __future__ import annotations

import gc
import pickle
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from chutes_core import Delta
from chutes_core.response import ToolCallDelta
from chutes_core.testing import Answer
from llama_index_chutes._convert.stream import ChatDraft
from tests.llama_index_chutes.rigs import HELLO, ask, rig
from tests.llama_index_chutes.stages import stage

STEPS = [
    Delta(reasoning="Hm."),
    Delta(content="Hel"),
    Delta(content="lo"),
    Delta(tool_calls=[ToolCallDelta(0, "call_0", "add", '{"a": ')]),
    Delta(tool_calls=[ToolCallDelta(0, None, None, "1}")]),
]


def test_a_chunk_is_as_good_as_a_validated_one() -> None:
    """It equals one that went through the constructors, and copies, dumps and pickles like it."""
    draft = ChatDraft()
    for delta in STEPS:
        chunk = draft.add(delta)
        assert chunk is not None
        message = ChatMessage(
            role=chunk.message.role, blocks=chunk.message.blocks, additional_kwargs=chunk.message.additional_kwargs
        )
        same = ChatResponse(
            message=message, delta=chunk.delta, raw=chunk.raw, additional_kwargs=chunk.additional_kwargs
        )
        assert chunk == same
        assert chunk.model_dump() == same.model_dump()
        assert chunk.model_dump_json() == same.model_dump_json()
        assert ChatResponse.model_validate(chunk.model_dump()) == same
        assert pickle.loads(pickle.dumps(chunk)) == same
        assert chunk.model_copy(update={"delta": "other"}).delta == "other"
        assert chunk.model_copy(deep=True) == same
        assert chunk.logprobs is None
        assert (chunk.raw.choices[0].delta.content or "") == chunk.delta


def test_chunks_share_nothing_that_changes() -> None:
    """Whoever writes into one chunk does not write into another."""
    draft = ChatDraft()
    first, second = draft.add(STEPS[1]), draft.add(STEPS[2])
    assert first is not None
    assert second is not None
    first.additional_kwargs["mine"] = first.message.additional_kwargs["mine"] = True
    first.message.blocks.clear()
    third = draft.add(Delta(content="!"))
    assert third is not None
    assert (second.message.content, third.message.content) == ("Hello", "Hello!")
    assert not any(each.additional_kwargs or each.message.additional_kwargs for each in (second, third))


def calls_of(function: Callable[[], object]) -> int:
    """How many functions are called, in Python and in C."""
    count = 0

    def step(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(step)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def words(number: int) -> Answer:
    """An answer of so many chunks."""
    return Answer("word " * number, pieces=number)


def streamed(made: Any) -> Callable[[], object]:
    """Read a stream to its end."""
    return lambda: [None for _ in made.llm.stream_chat(HELLO)]


@pytest.mark.parametrize(("make", "most"), [(rig, 185), (stage, 192)], ids=["Chutes", "ChutesFallback"])
def test_a_chunk_costs_the_same_at_the_end_of_a_long_answer(make: Any, most: int) -> None:
    """The functions called for a chunk are few, the service's double among them, and do not grow with the answer."""
    made = make([words(10), words(100), words(200), words(400)])
    read = streamed(made)
    read()
    short, middle, long = calls_of(read), calls_of(read), calls_of(read)
    early, late = (middle - short) / 100, (long - middle) / 200
    assert early == pytest.approx(late, rel=0.05)
    assert late < most


def test_a_fallbacks_own_calls_are_few() -> None:
    """Around one of its members it calls little more than that member alone."""
    alone, several = rig([words(4)] * 2), stage([words(4)] * 2)
    for made in (alone, several):
        streamed(made)()
    assert calls_of(streamed(several)) - calls_of(streamed(alone)) <= 350


def test_nothing_is_made_anew_for_a_call() -> None:
    """The client and what the engine knows of the members are those of the call before."""
    made = stage()
    member = made.llm.members[0]
    kept = made.llm._sit(), member._client(), member._async_client()
    made.llm.chat(HELLO)
    now = made.llm._sit(), member._client(), member._async_client()
    assert all(one is other for one, other in zip(kept, now, strict=True))


def left_behind(call: Callable[[], object]) -> Counter[str]:
    """The types of the objects that every one of several calls leaves in cycles.

    What one of them alone leaves is of whatever else runs in this process.
    """
    found: list[Counter[str]] = []
    for _ in range(3):
        gc.disable()
        gc.freeze()  # what is there already is not looked at, which is also quicker
        try:
            call()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            found.append(Counter(type(each).__name__ for each in gc.garbage))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.unfreeze()
            gc.enable()
    return found[0] & found[1] & found[2]


@pytest.mark.parametrize("make", [rig, stage], ids=["Chutes", "ChutesFallback"])
@pytest.mark.parametrize("style", ["chat", "stream_chat", "complete"])
def test_a_call_leaves_nothing_for_the_garbage_collector(style: str, make: Any) -> None:
    """What a call holds, its messages among it, is gone when it is over."""
    made = make([words(4)] * 4)
    ask(made.llm, style)
    assert left_behind(lambda: ask(made.llm, style)) == Counter()


def test_what_stays_in_a_cycle_is_seen() -> None:
    """The test above can fail."""

    def leave() -> None:
        cycle: list[object] = []
        cycle.append(cycle)

    assert left_behind(leave) == Counter(list=1)
