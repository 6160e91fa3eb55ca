"""A web service that streams a model's answer: when its browser leaves, the machine's connection is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from chutes_core import AsyncChutesClient, AsyncFallbackClient
from langchain_chutes import ChatChutes
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import Chutes
from llama_index_chutes import ChutesFallback as LlamaIndexFallback
from tests.core.raw_server import HEAD, RawServer, event, raw_server
from tests.core.raw_server import Request as Asked

KEY, MODEL, OTHER = "cpk_test", "Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE"
HELLO = [{"role": "user", "content": "Say hello."}]


def a_word_and_no_more(connection: socket.socket, request: Asked, server: RawServer) -> None:
    connection.sendall(HEAD + event({"role": "assistant", "content": "Hello"}))
    connection.recv(1)  # nothing, once the client has closed it


async def core(url: str) -> AsyncIterator[str]:
    async with AsyncChutesClient(KEY, base_url=url) as client, client.stream(HELLO, model=MODEL) as stream:
        async for delta in stream:
            yield delta.content


async def core_fallback(url: str) -> AsyncIterator[str]:
    async with AsyncFallbackClient([MODEL, OTHER], KEY, base_url=url) as client, client.stream(HELLO) as stream:
        async for delta in stream:
            yield delta.content


async def langchain(url: str) -> AsyncIterator[str]:
    async for chunk in ChatChutes(model=MODEL, api_key=KEY, base_url=url).astream("Say hello."):
        yield chunk.text


async def langchain_fallback(url: str) -> AsyncIterator[str]:
    async for chunk in LangChainFallback([MODEL, OTHER], api_key=KEY, base_url=url).astream("Say hello."):
        yield chunk.text


async def llama_index(url: str) -> AsyncIterator[str]:
    async for response in await Chutes(model=MODEL, api_key=KEY, api_base=url).astream_complete("Say hello."):
        yield response.delta or ""


async def llama_index_fallback(url: str) -> AsyncIterator[str]:
    llm = LlamaIndexFallback([MODEL, OTHER], api_key=KEY, api_base=url)
    async for response in await llm.astream_complete("Say hello."):
        yield response.delta or ""


@contextmanager
def served(app: Any) -> Iterator[int]:
    """An application behind uvicorn, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=60))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    "answer", [core, core_fallback, langchain, langchain_fallback, llama_index, llama_index_fallback]
)
def test_a_browser_that_leaves_ends_the_answer(answer: Callable[[str], AsyncIterator[str]]) -> None:
    with raw_server(a_word_and_no_more) as machine:

        async def chat(request: Request) -> StreamingResponse:
            return StreamingResponse(answer(machine.base_url), media_type="text/event-stream")

        app = Starlette(routes=[Route("/", chat)])
        with served(app) as port:
            with socket.create_connection(("127.0.0.1", port)) as browser:
                browser.sendall(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
                seen = b""
                while b"Hello" not in seen:
                    seen += browser.recv(4096)
            assert machine.wait_for_close()
