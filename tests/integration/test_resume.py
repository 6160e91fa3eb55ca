"""Streams over real connections whose machine dies in mid-sentence: in all three fallbacks, the same answer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.output_parsers import StrOutputParser
from llama_index.core.llms import ChatMessage

from chutes_core import Catalog, FallbackClient, FallbackPolicy
from chutes_core.catalog.prefill import applied, measured_now
from chutes_local import LocalChutes, serve
from chutes_local.backends.echo import EchoBackend
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import ChutesFallback as LlamaIndexFallback

NAMES = ["google/gemma-4-31B-turbo-TEE", "Qwen/Qwen3-32B-TEE"]
ANSWER = "The sky is blue, since light of short waves is scattered most.\n\nAt dusk it is red: its way is longer."
QUESTION = "Why is the sky blue?"
RESUME = FallbackPolicy(after_commit="resume")


@pytest.fixture(scope="module")
def server() -> Iterator[LocalChutes]:
    """Models that know the answer, and go on with it."""
    with serve(backend=EchoBackend(lambda request: ANSWER)) as made:
        yield made


def options(server: LocalChutes, **more: Any) -> dict[str, Any]:
    catalog = Catalog.load(offline=True)
    measured = [measured_now(info, "as_is") for info in catalog.models if info.id in NAMES]
    known = replace(catalog, models=applied(catalog.models, measured))
    return {"api_key": server.api_key, "catalog": known, "policy": RESUME, **more}


def in_core(server: LocalChutes) -> tuple[str, Any]:
    with FallbackClient(NAMES, **options(server, base_url=server.base_url)) as client:
        with client.stream([{"role": "user", "content": QUESTION}]) as stream:
            text = "".join(delta.content for delta in stream)
        assert stream.reply.content == text
        return text, stream.reply.extra["chutes_resumed"]


def in_langchain(server: LocalChutes) -> tuple[str, Any]:
    model = LangChainFallback(NAMES, **options(server, base_url=server.base_url))
    chunks = list(model.stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return str(whole.text), whole.response_metadata["chutes_resumed"]


def in_a_chain(server: LocalChutes) -> tuple[str, Any]:
    chain = LangChainFallback(NAMES, **options(server, base_url=server.base_url)) | StrOutputParser()

    async def read() -> str:
        return "".join([text async for text in chain.astream(QUESTION)])

    return asyncio.run(read()), None


def in_llama_index(server: LocalChutes) -> tuple[str, Any]:
    llm = LlamaIndexFallback(NAMES, **options(server, api_base=server.base_url))
    *_, last = chunks = list(llm.stream_chat([ChatMessage(QUESTION)]))
    assert "".join(chunk.delta or "" for chunk in chunks) == last.message.content
    return str(last.message.content), last.raw["chutes_resumed"]  # type: ignore[index]


@pytest.mark.parametrize("read", [in_core, in_langchain, in_a_chain, in_llama_index])
@pytest.mark.parametrize("how", ["error_line", "reset", "no_finish", "restart", "malformed"])
def test_a_stream_goes_on(server: LocalChutes, read: Callable[[LocalChutes], tuple[str, Any]], how: str) -> None:
    """Early and late, once and by both models: no word is lost or comes twice, and nobody is told."""
    for after, times in ((6, 1), (9, 1), (15, 1), (6, 2)):
        server.reset()
        server.faults.parse(f"*={how}(after={after}) x{times}")
        text, links = read(server)
        assert text == ANSWER
        assert links is None or 1 <= len(links) <= times
        asked = [entry for entry in server.journal if entry.path.endswith("/chat/completions")]
        assert len(asked) == times + 1
