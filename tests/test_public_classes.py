"""Every public class can be made, called and streamed, blocking and async, over a real socket.

This is what the lowest versions that pyproject.toml declares are held to (`make test` runs it on them too), so it
imports nothing beside the declared dependencies and pytest.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

import chutes_core
import langchain_chutes
import llama_index_chutes
from chutes_core import (
    AsyncChutesClient,
    AsyncFallbackClient,
    ChutesClient,
    FallbackClient,
    async_openai_client,
    openai_client,
)
from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local
from langchain_chutes import ChatChutes, ChutesEmbeddings, CostCallback
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import Chutes, ChutesEmbedding, CostHandler
from llama_index_chutes import ChutesFallback as LlamaIndexFallback

from .llama_index_chutes.rigs import gather
from .parity.sealed import OwnClock

__all__ = ["chutes_faults", "chutes_local"]

ONE, TWO = "google/gemma-4-31B-turbo-TEE", "Qwen/Qwen3-32B-TEE"
HELLO = [{"role": "user", "content": "Say hello."}]
SAID = "You said: Say hello."
MODES = ("whole", "stream", "awhole", "astream")


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def pay(amount: int, to: str) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server, as new."""
    return chutes_local


# ------------------------------------------------------------------------------------------ chat, by package


def settings(server: LocalChutes, address: str = "base_url", **more: Any) -> dict[str, Any]:
    return {"api_key": server.api_key, address: server.base_url, "management_url": server.management_url, **more}


def langchain(make: Callable[..., Any], server: LocalChutes, **more: Any) -> Any:
    return make(**settings(server, **more))


def one(**options: Any) -> ChatChutes:
    return ChatChutes(model=ONE, **options)


def with_fallbacks(**options: Any) -> Any:
    return ChatChutes(model=ONE, **options).with_fallbacks([ChatChutes(model=TWO, **options)])


LANGCHAIN = {"model": one, "fallback": partial(LangChainFallback, [ONE, TWO]), "with_fallbacks": with_fallbacks}
LLAMA_INDEX = {"model": partial(Chutes, model=ONE), "fallback": partial(LlamaIndexFallback, [ONE, TWO])}


def asked(runnable: Any, mode: str, question: str = "Say hello.") -> list[Any]:
    """Call any runnable of LangChain; a whole answer is its only chunk."""

    async def waiting() -> list[Any]:
        if mode == "awhole":
            return [await runnable.ainvoke(question)]
        return [chunk async for chunk in runnable.astream(question)]

    if mode.startswith("a"):
        return asyncio.run(waiting())
    return [runnable.invoke(question)] if mode == "whole" else list(runnable.stream(question))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchain_answers(server: LocalChutes, name: str, mode: str) -> None:
    """In text, also from the next member when the first is busy, and the cost is counted."""
    model = langchain(LANGCHAIN[name], server)
    assert SAID in "".join(chunk.text for chunk in asked(model, mode))
    if name != "model":
        server.faults.add(ONE, "capacity")
    with CostCallback() as cost:
        assert SAID in "".join(chunk.text for chunk in asked(model, mode))
    assert cost.totals.calls == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchain_calls_tools(server: LocalChutes, name: str, mode: str) -> None:
    """A whole call, valid against its tool."""
    pieces = asked(langchain(LANGCHAIN[name], server).bind_tools([pay], tool_choice="any"), mode)
    (call,) = (pieces[0] if len(pieces) == 1 else pieces[0] + pieces[1:]).tool_calls
    assert (call["name"], set(call["args"])) == ("pay", {"amount", "to"})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchain_fills_a_form(server: LocalChutes, name: str, method: Any, mode: str) -> None:
    """An object of the class, by either method."""
    form = langchain(LANGCHAIN[name], server).with_structured_output(Person, method=method)
    assert isinstance(asked(form, mode, "Who is Ada?")[-1], Person)


@pytest.mark.parametrize("style", ["chat", "stream_chat", "achat", "astream_chat", "complete", "astream_complete"])
@pytest.mark.parametrize("name", LLAMA_INDEX)
def test_llama_index_answers(server: LocalChutes, name: str, style: str) -> None:
    """In text, also from the next member when the first is busy, and the cost is counted."""
    llm = LLAMA_INDEX[name](**settings(server, "api_base"))
    question: Any = "Say hello." if "complete" in style else [ChatMessage("Say hello.")]
    if name != "model":
        server.faults.add(ONE, "capacity")
    with CostHandler() as cost:
        outcome = gather(llm, style, question)
    assert outcome.error is None
    assert SAID in str(outcome.last)
    assert cost.totals.calls == 1


@pytest.mark.parametrize("method", ["chat", "stream_chat", "achat", "astream_chat"])
@pytest.mark.parametrize("name", LLAMA_INDEX)
def test_llama_index_calls_tools(server: LocalChutes, name: str, method: str) -> None:
    """A whole call, valid against its tool."""
    llm = LLAMA_INDEX[name](**settings(server, "api_base"))
    outcome = gather(llm, f"{method}_with_tools", [FunctionTool.from_defaults(pay)], "Pay.", tool_required=True)
    assert [call.tool_name for call in llm.get_tool_calls_from_response(outcome.last)] == ["pay"]


@pytest.mark.parametrize("method", ["", "stream_", "a", "astream_"])
@pytest.mark.parametrize("name", LLAMA_INDEX)
def test_llama_index_fills_a_form(server: LocalChutes, name: str, method: str) -> None:
    """An object of the class."""
    llm = LLAMA_INDEX[name](**settings(server, "api_base"))
    outcome = gather(llm, f"{method}structured_predict", Person, PromptTemplate("Who is {who}?"), who="Ada")
    assert isinstance(outcome.last, Person)


def core(make: Callable[..., Any], server: LocalChutes, mode: str, **more: Any) -> str:
    """What a client of the core says."""
    asked = {} if isinstance(make, partial) else {"model": ONE}  # a fallback knows its models

    async def waiting() -> str:
        async with make(**settings(server, **more)) as client:
            if mode == "awhole":
                return str((await client.chat(HELLO, **asked)).content)
            async with client.stream(HELLO, **asked) as stream:
                return "".join([delta.content async for delta in stream])

    if mode.startswith("a"):
        return asyncio.run(waiting())
    with make(**settings(server, **more)) as client:
        if mode == "whole":
            return str(client.chat(HELLO, **asked).content)
        with client.stream(HELLO, **asked) as stream:
            return "".join(delta.content for delta in stream)


@pytest.mark.parametrize("mode", MODES)
def test_the_cores_clients_answer(server: LocalChutes, mode: str) -> None:
    """In text."""
    assert SAID in core(AsyncChutesClient if mode.startswith("a") else ChutesClient, server, mode)
    server.faults.add(ONE, "capacity")
    fallback = AsyncFallbackClient if mode.startswith("a") else FallbackClient
    assert SAID in core(partial(fallback, [ONE, TWO]), server, mode)


@pytest.mark.parametrize("mode", MODES)
def test_the_sdks_clients_answer(server: LocalChutes, mode: str) -> None:
    """In text."""
    given: dict[str, Any] = {"model": ONE, "messages": HELLO}

    async def waiting() -> str:
        async with async_openai_client(**settings(server)) as client:
            if mode == "awhole":
                return str((await client.chat.completions.create(**given)).choices[0].message.content)
            stream = await client.chat.completions.create(**given, stream=True)
            return "".join([text_of(chunk) async for chunk in stream])

    def said() -> str:
        with openai_client(**settings(server)) as client:
            if mode == "whole":
                return str(client.chat.completions.create(**given).choices[0].message.content)
            return "".join(text_of(chunk) for chunk in client.chat.completions.create(**given, stream=True))

    assert SAID in (asyncio.run(waiting()) if mode.startswith("a") else said())


def text_of(chunk: Any) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


# ------------------------------------------------------------------------------------------------ embeddings


def test_all_embed(server: LocalChutes) -> None:
    """The same vectors through every door, for texts and for a query."""
    address, texts = {"embedding_base_url": server.embedding_base_url}, ["one", "two"]
    model = "Qwen/Qwen3-Embedding-8B-TEE"
    with ChutesClient(**settings(server, **address)) as client:
        expected = [list(vector) for vector in client.embed(texts, model=model).vectors]

    async def waiting() -> list[list[float]]:
        async with AsyncChutesClient(**settings(server, **address)) as other:
            return [list(vector) for vector in (await other.embed(texts, model=model)).vectors]

    assert asyncio.run(waiting()) == expected
    theirs = ChutesEmbeddings(**settings(server, **address))
    assert theirs.embed_documents(texts) == expected
    assert asyncio.run(theirs.aembed_documents(texts)) == expected
    assert len(theirs.embed_query("one")) == len(expected[0])
    ours = ChutesEmbedding(**settings(server, "api_base") | {"api_base": server.embedding_base_url})
    assert ours.get_text_embedding_batch(texts) == expected
    assert asyncio.run(ours.aget_text_embedding_batch(texts)) == expected
    assert len(ours.get_query_embedding("one")) == len(expected[0])


# ------------------------------------------------------------------------------------------------ encryption


@pytest.mark.parametrize(
    "make",
    [
        ChutesClient,
        AsyncChutesClient,
        partial(FallbackClient, [ONE]),
        ChutesEmbeddings,
        ChutesEmbedding,
        *LANGCHAIN.values(),
        *LLAMA_INDEX.values(),
    ],
)
def test_all_can_be_made_to_seal(make: Callable[..., Any]) -> None:
    """Nothing is asked for it."""
    assert make(api_key="cpk_test", e2ee=True)


@pytest.mark.parametrize("package", ["core", "langchain", "llama-index"])
def test_a_sealed_call_is_answered(server: LocalChutes, package: str) -> None:
    """Encrypted for the machine, and whole."""
    sealed: dict[str, Any] = {"e2ee": True, "clock": OwnClock()}
    if package == "core":
        said = core(ChutesClient, server, "whole", **sealed)
    elif package == "langchain":
        said = asked(langchain(one, server, **sealed), "whole")[0].text
    else:
        said = str(Chutes(model=ONE, **settings(server, "api_base", **sealed)).chat([ChatMessage("Say hello.")]))
    assert SAID in said
    assert len(server.journal.to("/e2e/invoke")) == 1


# ---------------------------------------------------------------------------------------------------- all


def test_none_is_left_out() -> None:
    """Every public model and client is called above."""
    called = {
        ChutesClient, AsyncChutesClient, FallbackClient, AsyncFallbackClient, ChatChutes, ChutesEmbeddings,
        LangChainFallback, Chutes, ChutesEmbedding, LlamaIndexFallback,
    }  # fmt: skip
    packages = (chutes_core, langchain_chutes, llama_index_chutes)
    public = {getattr(package, name) for package in packages for name in package.__all__}
    classes = {each for each in public if inspect.isclass(each)}
    assert {each for each in classes if issubclass(each, BaseModel) or each.__name__.endswith("Client")} == called
