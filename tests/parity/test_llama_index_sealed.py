"""The encrypted path through Chutes and ChutesEmbedding of LlamaIndex: the same as on the plain path, in every mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.prompts import PromptTemplate

from chutes_core import APIError, ChutesError
from chutes_local import LocalChutes
from llama_index_chutes import Chutes, ChutesEmbedding
from tests.llama_index_chutes.rigs import ask, text_of

from .sealed import CASES, EMBEDDER, FAULTS, MODEL, MODES, Case, connection, running, server
from .test_llama_index import STYLES, message

__all__ = ["running", "server"]

HELLO = [ChatMessage("Please say something of a few words.")]


def told(answer: Any) -> dict[str, Any]:
    """What must be the same on both paths."""
    blocks = answer.message.blocks
    usage = answer.raw["usage"]
    return {
        "text": text_of(answer),
        "reasoning": "".join(block.content or "" for block in blocks if isinstance(block, ThinkingBlock)),
        "tool_calls": [(block.tool_name, block.tool_kwargs) for block in blocks if isinstance(block, ToolCallBlock)],
        "usage": (usage["prompt_tokens"], usage["completion_tokens"]),
        "finish_reason": answer.raw["choices"][0]["finish_reason"],
        "model": answer.raw["model"],
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sealed_is_as_plain(server: LocalChutes, case: Case, mode: str) -> None:
    """The same answer; in a stream its usage comes once, at the end."""
    given = {**case.params, **({"tools": list(case.tools), "tool_choice": "required"} if case.tools else {})}
    found = []
    for e2ee in (False, True):
        llm = Chutes(model=case.model, **connection(server, e2ee=e2ee))
        outcome = ask(llm, STYLES[mode], [message(turn) for turn in case.ask], **given)
        assert outcome.error is None
        assert [chunk for chunk in outcome.chunks if "usage" in chunk.raw] == [outcome.last]
        found.append(told(outcome.last))
    plain, sealed = found
    assert plain.get(case.shows) or plain["finish_reason"] == case.shows
    assert sealed == plain
    assert sealed["usage"][1] > 0
    assert len(server.journal.to("/e2e/invoke")) == len(server.journal.to("/chat/completions")) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_whole_answer_or_the_right_error(server: LocalChutes, fault: str, mode: str) -> None:
    """What was given out of the stream is a true beginning, and is in ``.partial``."""
    llm = Chutes(model=MODEL, max_retries=0, **connection(server))
    truth = text_of(llm.chat(HELLO))
    server.faults.parse(f"{MODEL}={fault}")
    kind = FAULTS[fault][0 if mode.endswith("stream") else 1]
    outcome = ask(llm, STYLES[mode], HELLO)
    if kind is None:
        assert outcome.error is None
        assert text_of(outcome.last) == truth
        return
    error = outcome.error
    assert isinstance(error, APIError)
    assert error.kind is kind
    if mode.endswith("stream"):
        assert outcome.streamed == error.partial
        assert truth.startswith(outcome.streamed)
    assert "few words" not in str(error) + repr(error) + repr(error.body) + repr(error.partial_reply)


class Place(BaseModel):
    """A place."""

    name: str
    visitors: int


@pytest.mark.parametrize("mode", MODES)
def test_answers_of_a_form_are_sealed_too(server: LocalChutes, mode: str) -> None:
    """Whole, and growing."""

    def asked(llm: Chutes) -> Any:
        prompt = PromptTemplate("Where?")

        async def waiting() -> Any:
            if mode == "async-whole":
                return await llm.astructured_predict(Place, prompt)
            return [place async for place in await llm.astream_structured_predict(Place, prompt)][-1]

        if mode.startswith("async"):
            return asyncio.run(waiting())
        if mode == "sync-whole":
            return llm.structured_predict(Place, prompt)
        return list(llm.stream_structured_predict(Place, prompt))[-1]

    plain, sealed = (asked(Chutes(model=MODEL, **connection(server, e2ee=e2ee))) for e2ee in (False, True))
    assert sealed == plain
    assert isinstance(sealed, Place)
    assert len(server.journal.to("/e2e/invoke")) == 1


def test_embeddings_are_sealed_too(server: LocalChutes) -> None:
    """Texts and queries, blocking and not."""
    texts = [f"text number {number}" for number in range(5)]
    at: dict[str, Any] = {"model": EMBEDDER, "embed_batch_size": 2}
    plain = ChutesEmbedding(**at, **connection(server, e2ee=False, base_url=server.embedding_base_url))
    sealed = ChutesEmbedding(**at, **connection(server, base_url=server.embedding_base_url))
    wanted = plain.get_text_embedding_batch(texts), plain.get_query_embedding("text")
    before = len(server.journal.to("/embeddings"))
    assert (sealed.get_text_embedding_batch(texts), sealed.get_query_embedding("text")) == wanted

    async def waiting() -> tuple[Any, Any]:
        return await sealed.aget_text_embedding_batch(texts), await sealed.aget_query_embedding("text")

    assert asyncio.run(waiting()) == wanted
    assert len(server.journal.to("/embeddings")) == before
    assert len(server.journal.to("/e2e/invoke")) == 8


def test_an_image_by_address_is_fetched_here(server: LocalChutes) -> None:
    """From public addresses only: nobody else could fetch it, for nobody else sees it."""
    llm = Chutes(model=CASES[-1].model, **connection(server))
    with pytest.raises(ChutesError, match="not at a public address"):
        llm.chat([ChatMessage(role="user", blocks=[ImageBlock(url="http://127.0.0.1:9/private.png")])])
    assert not server.journal.to("/e2e/invoke")
