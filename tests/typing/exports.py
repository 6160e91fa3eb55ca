"""Read by mypy alone: what a user's type checker infers from the public names."""

from __future__ import annotations

from typing import assert_type

import chutes_core
from chutes_core import (
    APIError,
    AsyncChutesClient,
    Catalog,
    ChuteReply,
    ChutesClient,
    Delta,
    Embeddings,
    Kind,
    Ledger,
    ModelInfo,
    Reply,
    Retry,
    Scope,
    ToolCall,
    Usage,
)
from chutes_core.account import Profile, Quota

assert_type(chutes_core.__version__, str)

MESSAGES = [{"role": "user", "content": "Hi"}]


def blocking(client: ChutesClient) -> None:
    """The blocking client's calls."""
    reply = client.chat(MESSAGES, model="acme/one", temperature=0.1, reasoning="low", tools=[{"type": "function"}])
    assert_type(reply, Reply)
    assert_type(reply.content, str)
    assert_type(reply.tool_calls, tuple[ToolCall, ...])
    assert_type(reply.tool_calls[0].args, dict[str, object])
    assert_type(reply.usage, Usage | None)
    with client.stream(MESSAGES, model="acme/one") as stream:
        for delta in stream:
            assert_type(delta, Delta)
        assert_type(stream.reply, Reply)
    assert_type(client.embed(["a"], model="acme/embed"), Embeddings)
    assert_type(client.call("painter", "/generate", {"prompt": "a cat"}), ChuteReply)
    assert_type(client.embed(["a"], model="acme/embed").vectors, list[list[float]])
    assert_type(client.models(), list[ModelInfo])
    assert_type(client.catalog, Catalog)
    assert_type(client.ledger, Ledger)
    assert_type(client.account.me(), Profile)
    assert_type(client.account.quotas(), list[Quota])
    client.chat(MESSAGES, model="acme/one", temprature=0.1)  # type: ignore[call-arg]
    client.chat(MESSAGES, model="acme/one", temperature="hot")  # type: ignore[arg-type]


async def waiting(client: AsyncChutesClient) -> None:
    """The async client's calls."""
    assert_type(await client.chat(MESSAGES, model="acme/one", max_tokens=5), Reply)
    async with client.stream(MESSAGES, model="acme/one") as stream:
        async for delta in stream:
            assert_type(delta, Delta)
        assert_type(stream.reply, Reply)
    assert_type(await client.embed(["a"], model="acme/embed"), Embeddings)
    assert_type(await client.account.me(), Profile)


def failures(error: APIError) -> None:
    """What an error carries."""
    assert_type(error.kind, Kind)
    assert_type(error.scope, Scope)
    assert_type(error.retry, Retry)
    assert_type(error.partial, str)
    assert_type(error.status_code, int | None)
