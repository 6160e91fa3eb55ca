"""Calls through both frameworks tell hooks once, and name their framework: an instrumentation of it makes the span."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage

from chutes_core.testing import Answer, FaultScript, FaultyTransport
from langchain_chutes import ChatChutes
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import Chutes
from llama_index_chutes import ChutesFallback as LlamaIndexFallback
from tests.core.listening import listening, told

KEY, ONE, TWO = "cpk_test", "Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE"
SAID = [ChatMessage(role="user", content="Say hello.")]


def transport() -> FaultyTransport:
    return FaultyTransport(FaultScript(["capacity"], default=Answer("Hello!", pieces=2)))


def langchain(fallback: bool, style: str) -> None:
    http, ahttp = httpx.Client(transport=transport()), httpx.AsyncClient(transport=transport())
    clients: Any = {"http_client": http, "http_async_client": ahttp, "api_key": KEY}
    model: Any = LangChainFallback([ONE, TWO], **clients) if fallback else ChatChutes(model=ONE, **clients)

    async def stream() -> None:
        assert "".join([chunk.text async for chunk in model.astream("Say hello.")]) == "Hello!"

    {
        "whole": lambda: model.invoke("Say hello."),
        "stream": lambda: list(model.stream("Say hello.")),
        "awhole": lambda: asyncio.run(model.ainvoke("Say hello.")),
        "astream": lambda: asyncio.run(stream()),
    }[style]()


def llama_index(fallback: bool, style: str) -> None:
    http, ahttp = httpx.Client(transport=transport()), httpx.AsyncClient(transport=transport())
    clients: Any = {"http_client": http, "async_http_client": ahttp, "api_key": KEY}
    llm: Any = LlamaIndexFallback([ONE, TWO], **clients) if fallback else Chutes(model=ONE, **clients)

    async def stream() -> None:
        assert [response async for response in await llm.astream_chat(SAID)][-1].message.content == "Hello!"

    {
        "whole": lambda: llm.chat(SAID),
        "stream": lambda: list(llm.stream_chat(SAID)),
        "awhole": lambda: asyncio.run(llm.achat(SAID)),
        "astream": lambda: asyncio.run(stream()),
    }[style]()


@pytest.mark.parametrize("style", ["whole", "stream", "awhole", "astream"])
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("ask", [langchain, llama_index])
def test_a_call_is_told_of_once(ask: Callable[[bool, str], None], fallback: bool, style: str) -> None:
    with listening() as heard:
        ask(fallback, style)
    turn = "takeover" if fallback else "retry"
    assert told(heard) == ["start", "attempt failed", turn, "attempt answered", "end"]
    assert {event.face for _, event in heard} == {ask.__name__}
    assert {event.fallback for _, event in heard} == {fallback}
    assert len({id(event.call) for _, event in heard}) == 1
