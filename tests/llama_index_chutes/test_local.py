"""Over real sockets, against the embedded Chutes: every public way, and, marked `local`, with a model behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.prompts import PromptTemplate

from chutes_core import ChutesError
from chutes_local import LocalChutes, serve
from chutes_local.pytest_plugin import chutes_faults, chutes_local
from llama_index_chutes import Chutes, ChutesEmbedding

from .convert.test_tools import WITH_TOOLS
from .rigs import CHAT_STYLES, STREAMS, STYLES, TOOLS, ask, gather, text_of
from .test_chat import PIXEL

__all__ = ["chutes_faults", "chutes_local"]

MODEL = "google/gemma-4-31B-turbo-TEE"


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server, as new."""
    return chutes_local


@pytest.fixture
def llm(server: LocalChutes) -> Chutes:
    return model_at(server)


def model_at(server: LocalChutes, **settings: Any) -> Chutes:
    return Chutes(**{"model": MODEL, "api_key": server.api_key, "api_base": server.base_url, **settings})


@pytest.mark.parametrize("style", STYLES)
def test_text(style: str, llm: Chutes, server: LocalChutes) -> None:
    """The answer and the tokens that the server billed."""
    outcome = ask(llm, style)
    assert outcome.error is None
    assert "You said: Say hello." in text_of(outcome.last)
    if style in STREAMS:
        assert outcome.streamed == text_of(outcome.last)
    assert outcome.last.raw["model"] == MODEL
    assert outcome.last.raw["usage"]["completion_tokens"] == server.journal.entries[-1].billed.completion


@contextmanager
def shaped(server: LocalChutes, **changes: object) -> Iterator[None]:
    """Let the model's answers have another shape inside."""
    chute = server.fleet.find(MODEL)
    assert chute is not None
    before = chute.shape
    server.change(MODEL, **changes)
    yield
    chute.shape = before


# An opening tag that never comes cannot be missed before the end: in streams the catalogue must say who does that.
FORMS = [(form, style) for form in ("reasoning_content", "reasoning", "think") for style in CHAT_STYLES]
FORMS += [("close_only", "chat"), ("close_only", "achat")]


@pytest.mark.parametrize(("form", "style"), FORMS)
def test_reasoning(form: str, style: str, llm: Chutes, server: LocalChutes) -> None:
    """In each form that engines give it, reasoning is a block of its own."""
    with shaped(server, reasoning=form):
        last = ask(llm, style).last
    assert isinstance(last.message.blocks[0], ThinkingBlock)
    assert "</think>" not in last.message.content


@pytest.mark.parametrize("deltas", ["sequential", "interleaved", "whole"])
@pytest.mark.parametrize("method", WITH_TOOLS)
def test_two_tool_calls(method: str, deltas: str, llm: Chutes, server: LocalChutes) -> None:
    """However the pieces of two calls come, both are whole."""
    with shaped(server, tool_calls=2, tool_deltas=deltas):
        outcome = gather(llm, method, TOOLS, "Add, and pay.", tool_required=True, allow_parallel_tool_calls=True)
    calls = llm.get_tool_calls_from_response(outcome.last)
    assert [call.tool_name for call in calls] == ["add", "pay"]
    assert [set(call.tool_kwargs) for call in calls] == [{"a", "b"}, {"amount", "to"}]


@pytest.mark.parametrize(
    "method",
    ["structured_predict", "stream_structured_predict", "astructured_predict", "astream_structured_predict"],
)
def test_structured(method: str, llm: Chutes) -> None:
    """An object of the class."""
    last = gather(llm, method, Person, PromptTemplate("Who is {who}?"), who="Ada").last
    assert isinstance(last, Person)


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_images(style: str, llm: Chutes) -> None:
    """An image is taken by a model that sees."""
    message = ChatMessage([TextBlock(text="What is this?"), ImageBlock(url=PIXEL)])
    assert "What is this?" in text_of(ask(llm, style, [message]).last)


@pytest.mark.parametrize("fault", ["capacity", "error_line", "no_finish", "restart", "reset"])
@pytest.mark.parametrize("style", STREAMS)
def test_a_fault_on_a_real_socket(style: str, fault: str, server: LocalChutes) -> None:
    """A broken stream is an error here too, with what was delivered."""
    server.faults.add(MODEL, fault)
    outcome = ask(model_at(server, max_retries=0), style)
    assert isinstance(outcome.error, ChutesError)
    assert getattr(outcome.error, "partial", "") == outcome.streamed


def test_connections_come_back(llm: Chutes, server: LocalChutes) -> None:
    """Leaving streams early does not pile connections up."""
    for _ in range(5):
        stream = llm.stream_chat([ChatMessage("one two three four five six")])
        next(stream)
        stream.close()
    assert server.connections <= 2


def test_many_loops_and_threads_at_once(server: LocalChutes) -> None:
    """One object in several threads, each with an event loop of its own."""
    llm, said = model_at(server), list[str]()

    def work(number: int) -> None:
        async def talk() -> None:
            answers = await asyncio.gather(*[llm.achat([ChatMessage(f"n{number}")]) for _ in range(3)])
            said.extend(answer.message.content or "" for answer in answers)

        asyncio.run(talk())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text[-2:] for text in said) == ["n0"] * 3 + ["n1"] * 3 + ["n2"] * 3


# --------------------------------------------------------------------------------------------- with a real model


@pytest.fixture(scope="module")
def real() -> Iterator[LocalChutes]:
    """A server with the small model behind it."""
    with serve(backend="llama") as chutes:
        yield chutes


@pytest.mark.local
@pytest.mark.parametrize("style", STYLES)
def test_a_real_model_answers(style: str, real: LocalChutes) -> None:
    """Words, and what they cost."""
    outcome = ask(model_at(real, temperature=0, max_tokens=30), style, [ChatMessage("What is the capital of France?")])
    assert "Paris" in text_of(outcome.last)
    assert outcome.last.raw["usage"]["completion_tokens"] > 3


@pytest.mark.local
@pytest.mark.parametrize("method", WITH_TOOLS)
def test_a_real_model_calls_a_tool(method: str, real: LocalChutes) -> None:
    """A call with arguments of the tool's schema."""
    llm = model_at(real, temperature=0, max_tokens=200)
    outcome = gather(llm, method, [TOOLS[0]], "What is 2 plus 3? Use the tool.", tool_required=True)
    (selection,) = llm.get_tool_calls_from_response(outcome.last)
    assert (selection.tool_name, set(selection.tool_kwargs)) == ("add", {"a", "b"})


@pytest.mark.local
@pytest.mark.parametrize("method", ["structured_predict", "astream_structured_predict"])
def test_a_real_model_fills_a_form(method: str, real: LocalChutes) -> None:
    """An object of the class, from a schema."""
    prompt = PromptTemplate("Ada Lovelace is 36 years old. Who is {who}?")
    last = gather(model_at(real, temperature=0, max_tokens=200), method, Person, prompt, who="she").last
    assert "Ada" in last.name


@pytest.mark.local
def test_a_real_embedding_knows_what_belongs_together(real: LocalChutes) -> None:
    """Near in meaning is near in the vectors."""
    embedding = ChutesEmbedding(api_key=real.api_key, api_base=real.embedding_base_url)
    cat, kitten, stocks = embedding.get_text_embedding_batch(["a black cat", "a small kitten", "the stock market"])
    assert embedding.similarity(cat, kitten) > embedding.similarity(cat, stocks)
