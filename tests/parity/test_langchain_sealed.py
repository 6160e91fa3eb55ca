"""The encrypted path through ChatChutes and ChutesEmbeddings: the same as on the plain path, in every mode."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AIMessageChunk
from pydantic import BaseModel

from chutes_core import APIError, ChutesError
from chutes_local import LocalChutes
from langchain_chutes import ChatChutes, ChutesEmbeddings

from .sealed import CASES, EMBEDDER, FAULTS, MODEL, MODES, Case, connection, running, server
from .test_langchain import message

__all__ = ["running", "server"]


def ask(mode: str, runnable: Any, messages: Any) -> tuple[AIMessage, list[AIMessageChunk]]:
    """Make one call in one of the four modes: the message, and the chunks that it came in."""

    async def waiting() -> list[AIMessageChunk]:
        return [chunk async for chunk in runnable.astream(messages)]

    if mode == "sync-whole":
        return runnable.invoke(messages), []
    if mode == "async-whole":
        return asyncio.run(runnable.ainvoke(messages)), []
    chunks = list(runnable.stream(messages)) if mode == "sync-stream" else asyncio.run(waiting())
    return chunks[0] + chunks[1:], chunks


def told(answer: AIMessage) -> dict[str, Any]:
    """What must be the same on both paths."""
    return {
        "text": answer.content,
        "reasoning": answer.additional_kwargs.get("reasoning_content"),
        "tool_calls": [(call["name"], call["args"]) for call in answer.tool_calls],
        "usage": answer.usage_metadata,
        "finish_reason": answer.response_metadata["finish_reason"],
        "model": answer.response_metadata["model_name"],
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sealed_is_as_plain(server: LocalChutes, case: Case, mode: str) -> None:
    """The same answer; in a stream its usage comes once."""
    found = []
    for e2ee in (False, True):
        model: Any = ChatChutes(model=case.model, **connection(server, e2ee=e2ee), **case.params)
        runnable = model.bind_tools(list(case.tools), tool_choice="any") if case.tools else model
        answer, chunks = ask(mode, runnable, [message(turn) for turn in case.ask])
        found.append(told(answer))
        if chunks:
            assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1
    plain, sealed = found
    assert plain.get(case.shows) or plain["finish_reason"] == case.shows
    assert sealed == plain
    assert sealed["usage"]["output_tokens"] > 0
    assert len(server.journal.to("/e2e/invoke")) == len(server.journal.to("/chat/completions")) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_whole_answer_or_the_right_error(server: LocalChutes, fault: str, mode: str) -> None:
    """The error is LangChain's too; what was given out of the stream is a true beginning, and is in ``.partial``."""
    model = ChatChutes(model=MODEL, max_retries=0, **connection(server))
    question = "Please say something of a few words."
    truth = str(model.invoke(question).content)
    server.faults.parse(f"{MODEL}={fault}")
    kind = FAULTS[fault][0 if mode.endswith("stream") else 1]
    if kind is None:
        assert ask(mode, model, question)[0].content == truth
        return
    given: list[str] = []
    with pytest.raises(APIError) as caught:
        _give_out(mode, model, question, given)
    error = caught.value
    assert isinstance(error, ModelError)
    assert error.kind is kind
    assert "".join(given) == error.partial or not mode.endswith("stream")
    assert truth.startswith("".join(given))
    assert "few words" not in str(error) + repr(error) + repr(error.body) + repr(error.partial_reply)


def _give_out(mode: str, model: ChatChutes, question: str, given: list[str]) -> None:
    async def waiting() -> None:
        async for chunk in model.astream(question):
            given.append(chunk.text)

    if mode.endswith("whole"):
        ask(mode, model, question)
    elif mode == "async-stream":
        asyncio.run(waiting())
    else:
        for chunk in model.stream(question):
            given.append(chunk.text)


class Place(BaseModel):
    """A place."""

    name: str
    visitors: int


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("mode", ["sync-whole", "async-whole"])
def test_answers_of_a_form_are_sealed_too(server: LocalChutes, method: str, mode: str) -> None:
    """By each method that the model has."""
    found = []
    for e2ee in (False, True):
        asked = ChatChutes(model=MODEL, **connection(server, e2ee=e2ee)).with_structured_output(
            Place,
            method=method,  # type: ignore[arg-type]
            include_raw=True,
        )
        reply = asked.invoke("Where?") if mode == "sync-whole" else asyncio.run(asked.ainvoke("Where?"))
        found.append((reply["parsed"], reply["raw"].content))
    assert found[0] == found[1]
    assert method == "json_mode" or isinstance(found[1][0], Place)
    assert len(server.journal.to("/e2e/invoke")) == 1


def test_embeddings_are_sealed_too(server: LocalChutes) -> None:
    """Documents and queries, blocking and not."""
    texts = [f"text number {number}" for number in range(5)]
    plain, sealed = (
        ChutesEmbeddings(
            model=EMBEDDER, embedding_base_url=server.embedding_base_url, **connection(server, e2ee=e2ee, batch_size=2)
        )
        for e2ee in (False, True)
    )
    wanted = plain.embed_documents(texts), plain.embed_query("text")
    before = len(server.journal.to("/embeddings"))
    assert (sealed.embed_documents(texts), sealed.embed_query("text")) == wanted

    async def waiting() -> tuple[list[list[float]], list[float]]:
        return await sealed.aembed_documents(texts), await sealed.aembed_query("text")

    assert asyncio.run(waiting()) == wanted
    assert len(server.journal.to("/embeddings")) == before
    assert len(server.journal.to("/e2e/invoke")) == 8


def test_an_image_by_address_is_fetched_here(server: LocalChutes) -> None:
    """From public addresses only: nobody else could fetch it, for nobody else sees it."""
    model = ChatChutes(model=CASES[-1].model, **connection(server))
    image = {"type": "image", "url": "http://127.0.0.1:9/private.png"}
    with pytest.raises(ChutesError, match="not at a public address"):
        model.invoke([{"role": "user", "content": [image]}])
    assert not server.journal.to("/e2e/invoke")
