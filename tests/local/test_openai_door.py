"""The stock openai clients behind the door, against the embedded Chutes: no defect is left of those without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from chutes_core import IncompleteAnswerError, Kind, Ledger, async_openai_client, openai_client
from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL
from tests.local.test_stock_openai import ANSWER, PAY, SAID


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def client(server: LocalChutes, ledger: Ledger) -> Iterator[openai.OpenAI]:
    with openai_client(
        server.api_key,
        base_url=server.base_url,
        embedding_base_url=server.embedding_base_url,
        max_retries=0,
        ledger=ledger,
    ) as made:
        yield made


def streamed(client: openai.OpenAI, **settings: Any) -> list[Any]:
    return list(client.chat.completions.create(model=MODEL, messages=SAID, stream=True, **settings))


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_it_is_the_stock_client(client: openai.OpenAI) -> None:
    """Whole and streamed answers, reasoning, a tool call, vectors and the list of models, as the SDK gives them."""
    assert type(client) is openai.OpenAI
    reply = client.chat.completions.create(model=MODEL, messages=SAID)
    assert reply.choices[0].message.content == ANSWER
    assert text(streamed(client)) == ANSWER
    called: Any = client.chat.completions.create(model=MODEL, messages=SAID, tools=PAY, tool_choice="required")
    assert called.choices[0].message.tool_calls[0].function.name == "pay"
    assert len(client.embeddings.create(model=EMBEDDER, input=["a", "b"]).data) == 2
    assert MODEL in [model.id for model in client.models.list()]


FAULTS = [
    ("error_line", Kind.STREAM_ERROR),
    ("error_event", Kind.STREAM_ERROR),
    ("no_finish", Kind.TRUNCATED),
    ("done_only", Kind.TRUNCATED),
    ("restart", Kind.RESTARTED),
    ("reset", Kind.RESET),
    ("malformed", Kind.MALFORMED),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_a_truncated_answer_is_a_failure(client: openai.OpenAI, server: LocalChutes, fault: str, kind: Kind) -> None:
    """What came is handed over chunk by chunk, and then the failure, whose kind and text say what happened."""
    server.faults.parse(f"*={fault}(after=3)")
    stream, heard = client.chat.completions.create(model=MODEL, messages=SAID, stream=True), []
    with pytest.raises(IncompleteAnswerError) as caught:
        heard.extend(stream)
    assert isinstance(caught.value, openai.APIError)
    assert caught.value.kind is kind
    assert text(heard) == caught.value.partial == "This is the"


def test_a_restarted_tool_call_is_a_failure(client: openai.OpenAI, server: LocalChutes) -> None:
    """Fragments of two machines never become one call, in the SDK's own helper either."""
    server.faults.parse("*=restart(after=2)")
    with (
        client.chat.completions.stream(model=MODEL, messages=SAID, tools=PAY, tool_choice="required") as stream,
        pytest.raises(IncompleteAnswerError),
    ):
        stream.until_done()


def test_a_restart_before_the_first_word_is_unseen(client: openai.OpenAI, server: LocalChutes) -> None:
    """A machine that dies after its greeting leaves one answer, with one opening and one id."""
    server.faults.parse("*=restart(after=0)")
    chunks = streamed(client)
    assert text(chunks) == ANSWER
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1


@pytest.mark.parametrize("asked", [{}, {"stream_options": {"include_usage": True}}])
def test_the_sum_of_usage_is_what_was_billed(
    client: openai.OpenAI, server: LocalChutes, ledger: Ledger, asked: dict[str, Any]
) -> None:
    """Running totals do not add up to several times the bill, and the ledger agrees."""
    chunks = streamed(client, **asked)
    billed = server.journal.wait(1)[0].billed
    assert sum(chunk.usage.total_tokens for chunk in chunks if chunk.usage) == billed.total
    assert ledger.totals().usage.total_tokens == billed.total


@pytest.mark.parametrize("fault", ["no_finish", "malformed"])
def test_a_whole_reply_is_checked(client: openai.OpenAI, server: LocalChutes, fault: str) -> None:
    """An answer in one piece that is none is a failure too."""
    server.faults.add(MODEL, fault)
    with pytest.raises(IncompleteAnswerError):
        client.chat.completions.create(model=MODEL, messages=SAID)


def test_an_unseen_401_is_renewed(server: LocalChutes) -> None:
    """A key function is asked again after a refusal, as it is for our own client."""
    keys = iter(["cak_old", server.api_key])
    with openai_client(lambda: next(keys), base_url=server.base_url, max_retries=0) as client:
        assert client.chat.completions.create(model=MODEL, messages=SAID).choices[0].message.content == ANSWER


def test_the_async_client(server: LocalChutes) -> None:
    """Streams, failures and vectors on one event loop after the other, with one client."""
    client = async_openai_client(
        server.api_key,
        base_url=server.base_url,
        embedding_base_url=server.embedding_base_url,
        max_retries=0,
    )

    async def talk() -> tuple[str, int]:
        stream = await client.chat.completions.create(model=MODEL, messages=SAID, stream=True)
        said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        vectors = await client.embeddings.create(model=EMBEDDER, input=["a"])
        return said, len(vectors.data)

    async def fail() -> None:
        async with client.chat.completions.stream(model=MODEL, messages=SAID) as stream:
            await stream.until_done()

    for _ in range(2):
        assert asyncio.run(talk()) == (ANSWER, 1)
    server.faults.parse("*=error_line(after=3)")
    with pytest.raises(IncompleteAnswerError):
        asyncio.run(fail())


def test_connections_are_given_back(client: openai.OpenAI, server: LocalChutes) -> None:
    """Twenty answers in a row, streamed and not, leave no pile of open connections."""
    before = server.connections
    for _ in range(10):
        streamed(client)
        client.chat.completions.create(model=MODEL, messages=SAID)
    assert server.connections <= before + 2
