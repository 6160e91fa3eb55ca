"""ChutesEmbeddings against the embedded Chutes, with faults."""

from __future__ import annotations

import asyncio
import json
import pickle
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from langchain_core.exceptions import ModelError
from pydantic import ValidationError

from chutes_core import APIError, ConfigurationError, Ledger, MalformedReplyError, RequestRefusedError
from chutes_core.wire.pools import ssl_context
from chutes_local import LocalChutes
from langchain_chutes import ChutesEmbeddings
from tests.core.spoiled import TEXTS as SPOILED
from tests.core.spoiled import assert_right, replies, text_of

MODEL = "Qwen/Qwen3-Embedding-8B-TEE"


def made(server: LocalChutes, **options: Any) -> ChutesEmbeddings:
    base: dict[str, Any] = {
        "api_key": server.api_key,
        "base_url": server.base_url,
        "embedding_base_url": server.embedding_base_url,
    }
    return ChutesEmbeddings(**{**base, **options})


def embed(embeddings: ChutesEmbeddings, texts: list[str], mode: str) -> list[list[float]]:
    return embeddings.embed_documents(texts) if mode == "sync" else asyncio.run(embeddings.aembed_documents(texts))


TEXTS = [f"Text number {number}." for number in range(10)]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vectors_come_in_the_order_of_their_texts(server: LocalChutes, mode: str) -> None:
    """However many requests it takes, some at a time."""
    alone = [made(server, batch_size=1, max_concurrency=1).embed_documents([text])[0] for text in TEXTS]
    assert embed(made(server, batch_size=3, max_concurrency=4), TEXTS, mode) == alone


@pytest.mark.parametrize("mode", ["sync", "async"])
@settings(max_examples=50, deadline=None)
@given(reply=replies(MODEL))
def test_one_value_of_a_reply_replaced_gives_the_vectors_or_a_typed_failure(mode: str, reply: Any) -> None:
    """Never another's vector, never an exception of Python's."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=text_of(reply)))
    client = httpx.Client(transport=transport, verify=ssl_context())
    waiting = httpx.AsyncClient(transport=transport, verify=ssl_context())
    embeddings = ChutesEmbeddings(api_key="cpk_test", http_client=client, http_async_client=waiting, max_retries=0)
    try:
        vectors = embed(embeddings, SPOILED, mode)
    except APIError:
        return
    assert_right(vectors, reply)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vectors_of_one_call_have_one_width(mode: str) -> None:
    """However many requests it takes."""

    def answer(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        rows = [{"index": n, "embedding": [1.0] * (2 + ("odd" in texts))} for n in range(len(texts))]
        return httpx.Response(200, json={"data": rows})

    client = httpx.Client(transport=httpx.MockTransport(answer), verify=ssl_context())
    waiting = httpx.AsyncClient(transport=httpx.MockTransport(answer), verify=ssl_context())
    embeddings = ChutesEmbeddings(
        api_key="cpk_test",
        http_client=client,
        http_async_client=waiting,
        max_retries=0,
        batch_size=2,
        max_concurrency=1,
    )
    with pytest.raises(MalformedReplyError, match="the width is 3 for text 2 and 2 for others"):
        embed(embeddings, ["a", "b", "odd"], mode)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("fault", ["capacity", "exhausted", "bad_gateway"])
def test_only_the_request_that_failed_is_made_again(server: LocalChutes, fault: str, mode: str) -> None:
    """Vectors are neither lost nor swapped, and what succeeded is not asked twice."""
    expected = made(server).embed_documents(TEXTS)
    server.reset()
    server.faults.add(MODEL, fault, times=1)
    embeddings = made(server, batch_size=4, max_concurrency=1, clock=_Clock())
    # After a bare 500 the vectors come as decimals instead of base64, which rounds the last digit otherwise.
    for vector, whole in zip(embed(embeddings, TEXTS, mode), expected, strict=True):
        assert vector == pytest.approx(whole, abs=1e-6)
    assert len(server.journal.entries) in (4, 5)


class _Clock:
    """Real time, without the waits."""

    def now(self) -> float:
        import time

        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for nothing."""

    async def asleep(self, seconds: float) -> None:
        """Wait for nothing."""


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_failure_is_typed_and_gives_no_vectors(server: LocalChutes, mode: str) -> None:
    """The error is ours and LangChain's."""
    server.faults.add(MODEL, "auth")
    with pytest.raises(APIError) as caught:
        embed(made(server, batch_size=4), TEXTS, mode)
    assert isinstance(caught.value, ModelError)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_dimensions_are_cut_and_normalised(server: LocalChutes, mode: str) -> None:
    """Whether the machine does it or the client."""
    (vector,) = embed(made(server, dimensions=32), ["hello"], mode)
    assert len(vector) == 32
    assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_nothing_in_is_nothing_out(server: LocalChutes, mode: str) -> None:
    """An empty list costs no request."""
    assert embed(made(server), [], mode) == []
    assert server.journal.entries == []  # type: ignore[comparison-overlap]


def test_a_query_has_its_instruction_and_a_document_none(server: LocalChutes) -> None:
    """The model's own by default, another one, another task, or none."""
    query = "Who wrote Faust?"
    own = made(server)
    assert own.query_text(query) == (
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: Who wrote Faust?"
    )
    assert made(server, task="Find songs").query_text(query) == f"Instruct: Find songs\nQuery: {query}"
    assert made(server, query_instruction="q: {query}").query_text("{task}") == "q: {task}"
    assert made(server, query_instruction=False).query_text(query) == query
    assert made(server, model="acme/plain").query_text(query) == query
    assert own.embed_query(query) == own.embed_documents([own.query_text(query)])[0]
    assert own.embed_query(query) == asyncio.run(own.aembed_query(query))
    with pytest.raises(ConfigurationError, match="query"):
        made(server, query_instruction="no place").query_text(query)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_progress_bar_counts_texts(server: LocalChutes, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends at the number of texts."""
    embed(made(server, show_progress_bar=True, batch_size=4), TEXTS, mode)
    assert "10/10" in capsys.readouterr().err


def test_without_tqdm_a_progress_bar_says_what_to_install(server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option names its need."""
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    with pytest.raises(ConfigurationError, match="pip install tqdm"):
        made(server, show_progress_bar=True).embed_documents(TEXTS)


def test_a_very_long_text_goes_through(server: LocalChutes) -> None:
    """Length is the service's to judge; nothing is cut here."""
    text = "word " * 30_000
    with suppress(APIError):
        made(server).embed_documents([text])
    assert (server.journal.entries[0].body or {})["input"] == [text]


def test_what_is_no_text_is_refused(server: LocalChutes) -> None:
    """Before anything is sent."""
    with pytest.raises(RequestRefusedError, match="Text 1"):
        made(server).embed_documents(["a", 2])  # type: ignore[list-item]


def test_arguments(server: LocalChutes) -> None:
    """Other names are understood, wrong ones refused; the key stays out of pickles; usage is added up."""
    ledger = Ledger()
    embeddings = made(server, chunk_size=5, ledger=ledger)
    assert embeddings.batch_size == 5
    embeddings.embed_documents(TEXTS)
    assert ledger.totals().usage.prompt_tokens > 0
    with pytest.raises(ValidationError, match="Did you mean 'dimensions'"):
        ChutesEmbeddings(dimension=3)  # type: ignore[call-arg]
    assert server.api_key.encode() not in pickle.dumps(embeddings)
    assert server.api_key not in repr(embeddings)
