"""The live service: a few cheap calls of each kind, recorded into build/live.jsonl; docs/recording.md has the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chutes_core import APIError, AsyncChutesClient, ChutesClient, Kind, openai_client
from chutes_core.account import Profile
from chutes_core.exchanges.replaying import made_of, read_exchanges

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:CHUTES_RECORD")]

MODEL = os.environ.get("CHUTES_LIVE_MODEL", "Qwen/Qwen3-32B-TEE")
EMBEDDER = os.environ.get("CHUTES_LIVE_EMBEDDER", "Qwen/Qwen3-Embedding-8B-TEE")
HELLO: Any = [{"role": "user", "content": "Say: one two three."}]
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}


@pytest.fixture(scope="module", autouse=True)
def file(pytestconfig: pytest.Config) -> Iterator[Path]:
    """Record into a file, unless one was named."""
    path = Path(os.environ.get("CHUTES_RECORD", pytestconfig.rootpath / "build" / "live.jsonl"))
    path.parent.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHUTES_RECORD", str(path))
        yield path


def test_chat(file: Path) -> None:
    """A whole answer, which comes out of the recording as it came."""
    with ChutesClient() as client:
        reply = client.chat(HELLO, model=MODEL, max_tokens=400)
    assert reply.usage is not None
    assert made_of(read_exchanges(file)[-1])["text"] == reply.content


async def test_stream(file: Path) -> None:
    """A streamed answer."""
    async with AsyncChutesClient() as client, client.stream(HELLO, model=MODEL, max_tokens=400) as stream:
        async for _ in stream:
            pass
    assert stream.reply.usage is not None
    assert made_of(read_exchanges(file)[-1])["text"] == stream.reply.content


def test_tools() -> None:
    """A tool call in pieces."""
    ask: Any = [{"role": "user", "content": "Add 2 and 3 with the tool."}]
    with ChutesClient() as client, client.stream(ask, model=MODEL, max_tokens=800, tools=[ADD]) as stream:
        for _ in stream:
            pass
    assert [call.name for call in stream.reply.tool_calls] == ["add"]


def test_stock_client() -> None:
    """The stock client of the openai SDK, left midway."""
    with (
        openai_client() as client,
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, max_tokens=400) as stream,
    ):
        assert next(iter(stream)).id


def test_embeddings() -> None:
    """Vectors."""
    with ChutesClient() as client:
        assert len(client.embed(["one", "two"], model=EMBEDDER).vectors) == 2


def test_unknown_model() -> None:
    """A refusal."""
    with ChutesClient(max_retries=0) as client, pytest.raises(APIError) as failed:
        client.chat(HELLO, model="acme/none")
    assert failed.value.kind is Kind.MODEL_NOT_FOUND


def test_account() -> None:
    """The pages of an account, or that the key may not read them."""
    with ChutesClient(max_retries=0) as client:
        try:
            found: object = client.account.me()
        except APIError as error:
            found = error.kind
    assert isinstance(found, Profile) or found in (Kind.PERMISSION, Kind.AUTHENTICATION)
