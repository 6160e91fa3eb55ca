"""Streams in which an answer begins anew."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core import PromptTemplate

from chutes_core import APIError, MalformedReplyError
from chutes_core.testing import Answer, Fault
from llama_index_chutes import FallbackPolicy
from llama_index_chutes.fallback import acollect, arender, collect, is_restart, render
from tests.llama_index_chutes.rigs import HELLO, STREAMS, TOOLS, ask, gather, text_of
from tests.llama_index_chutes.stages import (
    ANSWER,
    BERN,
    CITY,
    MEMBERS,
    OTHER,
    PAID,
    PAYING,
    POLICY,
    PREDICT,
    PROMPT,
    RESTART,
    City,
    last_text,
    selections,
    stage,
)


@pytest.mark.parametrize("style", STREAMS)
def test_a_restart_is_marked(style: str) -> None:
    """The marker says that what came before is void; what follows is the whole answer."""
    made = stage([Fault("reset", after=2, answer=OTHER)], policy=RESTART)
    outcome = ask(made.llm, style)
    assert outcome.error is None
    marks = [chunk for chunk in outcome.chunks if is_restart(chunk)]
    assert [mark.raw for mark in marks] == [{"chutes_restart": MEMBERS[1]}]
    assert last_text(outcome.chunks) == text_of(outcome.last) == ANSWER.text
    assert list(render(outcome.chunks))[-1] == ANSWER.text
    assert "" in list(render(outcome.chunks))
    assert collect(outcome.chunks) is outcome.last


async def test_a_restarted_async_stream_is_read_the_same() -> None:
    """The helpers for async streams."""
    fault = Fault("reset", after=2, answer=OTHER)
    whole = await acollect(await stage([fault], policy=RESTART).llm.astream_chat(HELLO))
    assert whole.message.content == ANSWER.text
    shown = [text async for text in arender(await stage([fault], policy=RESTART).llm.astream_chat(HELLO))]
    assert shown[-1] == ANSWER.text
    with pytest.raises(ValueError, match="no chunks"):
        collect([])


@pytest.mark.parametrize("after", range(6))
def test_a_tool_call_is_held_until_it_is_whole(after: int) -> None:
    """Where an answer may begin anew no part of a call is seen early."""
    made = stage([Fault("reset", after=after, answer=PAYING), PAYING], policy=RESTART)
    outcome = ask(made.llm, "stream_chat", tools=TOOLS)
    seen = [block for chunk in outcome.chunks[:-4] for block in chunk.message.blocks if block.block_type == "tool_call"]
    assert outcome.error is None
    assert seen == []
    assert [call.tool_kwargs for call in selections(made.llm, outcome.last)] == [PAID]


def test_words_alone_have_no_room_for_a_marker() -> None:
    """Where only words come out, as in query engines, a broken answer is raised and never joined with another."""
    made = stage([Fault("reset", after=2, answer=OTHER)] * 2, policy=RESTART)
    words: list[str] = []
    with pytest.raises(APIError):
        words.extend(made.llm.stream(PromptTemplate("Hello")))

    async def listen() -> None:
        async for word in await made.llm.astream(PromptTemplate("Hello")):
            words.append(word)

    with pytest.raises(APIError):
        asyncio.run(listen())
    assert made.llm.policy.after_commit == "restart"


# ------------------------------------------------------------------------------------------- streams of objects


@pytest.mark.parametrize("policy", [POLICY, RESTART])
@pytest.mark.parametrize("said", ["I am sorry, no can do.", "For {place} I know nothing.", "[1, 2]"])
@pytest.mark.parametrize("method", PREDICT)
def test_words_of_which_no_piece_was_made_are_no_answer_yet(method: str, said: str, policy: FallbackPolicy) -> None:
    """Nobody has seen them, so the next member takes over, as it does where the object is waited for."""
    made = stage([Answer(said, reasoning="Hm."), CITY], policy=policy)
    outcome = gather(made.llm, method, City, PROMPT, place="Bern")
    assert outcome.error is None
    assert outcome.last == BERN
    assert made.asked == MEMBERS[:2]
    names = [getattr(piece, "name", None) or "" for piece in outcome.chunks]
    assert all("Bern".startswith(name) for name in names)


@pytest.mark.parametrize("method", PREDICT[2:])
def test_pieces_that_were_seen_are_an_answer_that_broke(method: str) -> None:
    """After the first piece the policy decides: raise, or begin anew with pieces that replace those before."""
    wrong = Answer('{"name": "Berlin", "people": "many"}', pieces=6)
    outcome = gather(stage([wrong, CITY]).llm, method, City, PROMPT, place="Bern")
    assert isinstance(outcome.error, MalformedReplyError)
    assert outcome.error.partial == wrong.text
    assert outcome.last.name == "Berlin"
    made = stage([wrong, CITY], policy=RESTART)
    outcome = gather(made.llm, method, City, PROMPT, place="Bern")
    assert outcome.error is None
    assert outcome.last == BERN
