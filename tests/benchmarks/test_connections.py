"""How many connections and requests calls make: one each, on a connection that stays open."""

from __future__ import annotations

import asyncio
import socket

import pytest

from chutes_core import AsyncChutesClient, ChutesClient
from langchain_chutes import ChatChutes
from tests.core.raw_server import DONE, END, HEAD, RawServer, Request, event, raw_server, reply

CALLS = 5
MESSAGES = [{"role": "user", "content": "Say something."}]
MODEL = "acme/one"


def answer(connection: socket.socket, request: Request, server: RawServer) -> None:
    """Answer as it was asked for: in one piece or as a stream."""
    if request.body.get("stream"):
        connection.sendall(HEAD + event({"content": "Yes."}) + event({}, "stop") + DONE + END)
    else:
        connection.sendall(reply("Yes."))


def calls_of_the_client(url: str) -> None:
    with ChutesClient("cpk_none", base_url=url) as client:
        for _ in range(CALLS):
            assert client.chat(MESSAGES, model=MODEL).content == "Yes."


def streams_of_the_client(url: str) -> None:
    with ChutesClient("cpk_none", base_url=url) as client:
        for _ in range(CALLS):
            assert "".join(delta.content for delta in client.stream(MESSAGES, model=MODEL)) == "Yes."


def calls_on_the_loop(url: str) -> None:
    async def main() -> None:
        async with AsyncChutesClient("cpk_none", base_url=url) as client:
            for _ in range(CALLS):
                assert (await client.chat(MESSAGES, model=MODEL)).content == "Yes."

    asyncio.run(main())


def streams_on_the_loop(url: str) -> None:
    async def main() -> None:
        async with AsyncChutesClient("cpk_none", base_url=url) as client:
            for _ in range(CALLS):
                deltas = [delta.content async for delta in client.stream(MESSAGES, model=MODEL)]
                assert "".join(deltas) == "Yes."

    asyncio.run(main())


def calls_of_models_made_anew(url: str) -> None:
    for _ in range(CALLS):  # a model for each call, as web programs make them
        assert ChatChutes(model=MODEL, api_key="cpk_none", base_url=url).invoke("Hello").content == "Yes."


@pytest.mark.parametrize("work", [calls_of_the_client, streams_of_the_client, calls_on_the_loop, streams_on_the_loop])
def test_one_connection_for_all_calls(work: object) -> None:
    """Calls that follow one another make one request each and share one connection."""
    assert callable(work)
    with raw_server(answer) as server:
        work(server.base_url)
        assert (len(server.requests), server.connections) == (CALLS, 1)


def test_one_connection_for_models_made_anew() -> None:
    """Models share the connections of the process, as long as one of them is there."""
    with raw_server(answer) as server:
        kept = ChatChutes(model=MODEL, api_key="cpk_none", base_url=server.base_url)
        kept.invoke("Hello")
        calls_of_models_made_anew(server.base_url)
        assert (len(server.requests), server.connections) == (CALLS + 1, 1)
