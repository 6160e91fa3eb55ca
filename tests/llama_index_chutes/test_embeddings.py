"""Embeddings: order, instructions, batches, workers, what the framework's cache makes of them, and faults."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.schema import Document, QueryBundle, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore

from chutes_core import APIError, Catalog, ConfigurationError, Kind, MalformedReplyError
from chutes_core.testing import VirtualClock
from chutes_core.wire.pools import ssl_context
from llama_index_chutes import ChutesEmbedding
from tests.core.spoiled import TEXTS as SPOILED
from tests.core.spoiled import assert_right, replies, text_of

from .test_observability import Observer

INSTRUCTED = "Instruct: {task}\nQuery: {query}"


def vector_of(text: str) -> list[float]:
    """A vector that tells its text."""
    return [float(len(text)), float(text.startswith("Instruct")), float("\n" in text), 1.0]


class Machine:
    """A scripted embedding host: answers in reverse order, remembers what it was asked and how many at a time."""

    def __init__(
        self,
        *,
        fail: list[int] | None = None,
        refuse_dimensions: bool = False,
        turns: int = 50,
        narrow: str | None = None,
    ) -> None:
        self._narrow = narrow
        self._turns = turns
        self.bodies: list[dict[str, Any]] = []
        self.hosts: list[str] = []
        self.busy = self.busiest = 0
        self.threads: set[int] = set()
        self._fail = list(fail or [])
        self._refuse_dimensions = refuse_dimensions

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        self.threads.add(threading.get_ident())
        body = json.loads(request.content)
        self.bodies.append(body)
        if self._fail:
            return httpx.Response(self._fail.pop(0), json={"detail": "Infrastructure is at maximum capacity"})
        if self._refuse_dimensions and "dimensions" in body:
            return httpx.Response(400, json={"detail": "unsupported option"})
        size = body.get("dimensions", 4)
        rows = [
            {"index": n, "embedding": vector_of(text)[: 2 if text == self._narrow else size]}
            for n, text in enumerate(body["input"])
        ]
        usage = {"prompt_tokens": 3 * len(rows), "total_tokens": 3 * len(rows)}
        return httpx.Response(200, json={"model": body["model"], "data": rows[::-1], "usage": usage})

    def blocking(self, request: httpx.Request) -> httpx.Response:
        return self._answer(request)

    async def waiting(self, request: httpx.Request) -> httpx.Response:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        for _ in range(self._turns):
            await asyncio.sleep(0)
        self.busy -= 1
        return self._answer(request)

    @property
    def texts(self) -> list[str]:
        return [text for body in self.bodies for text in body["input"]]

    def embedding(self, **settings: Any) -> ChutesEmbedding:
        return ChutesEmbedding(
            **{
                "api_key": "cpk_test",
                "http_client": httpx.Client(transport=httpx.MockTransport(self.blocking), verify=ssl_context()),
                "async_http_client": httpx.AsyncClient(
                    transport=httpx.MockTransport(self.waiting), verify=ssl_context()
                ),
                "catalog": Catalog.bundled(),
                "clock": VirtualClock(),
                **settings,
            }
        )


def embed(embedding: ChutesEmbedding, method: str, *args: Any, **kwargs: Any) -> Any:
    result = getattr(embedding, method)(*args, **kwargs)
    return asyncio.run(result) if method.startswith("a") else result


TEXTS = [f"{'x' * number}" for number in range(1, 11)]
WAYS = ["", "a"]


@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_in_the_order_of_their_texts(way: str) -> None:
    """However the rows come, and in however many batches, each text has its own vector."""
    machine = Machine()
    vectors = embed(machine.embedding(embed_batch_size=3), f"{way}get_text_embedding_batch", TEXTS)
    assert vectors == [vector_of(text) for text in TEXTS]
    assert sorted(len(body["input"]) for body in machine.bodies) == [1, 3, 3, 3]


@pytest.mark.parametrize("way", WAYS)
def test_vectors_of_one_call_have_one_width(way: str) -> None:
    """The framework makes a request of its own for each batch, and a cache may hold the vectors of another time."""
    machine = Machine(narrow="odd")
    embedding = machine.embedding(embed_batch_size=2, max_retries=0)
    assert len(embed(embedding, f"{way}get_text_embedding_batch", ["odd", "odd"])) == 2
    for texts in (["a", "b", "odd"], ["a", "odd"]):
        with pytest.raises(MalformedReplyError, match=r"differ in width: . have 4 numbers, and that of text . has 2"):
            embed(embedding, f"{way}get_text_embedding_batch", texts)
    cache = SimpleKVStore()
    cache.put("kept", {"0": [1.0, 2.0]}, collection="embeddings")
    cached = machine.embedding(embeddings_cache=cache)
    with pytest.raises(MalformedReplyError, match="differ in width"):
        embed(cached, f"{way}get_text_embedding_batch", ["a", "kept", "b"])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=50, deadline=None)
@given(reply=replies("acme/embed"))
def test_one_value_of_a_reply_replaced_gives_the_vectors_or_a_typed_failure(way: str, reply: Any) -> None:
    """Never another's vector, never an exception of Python's."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=text_of(reply)))
    embedding = ChutesEmbedding(
        model_name="acme/embed",
        api_key="cpk_test",
        http_client=httpx.Client(transport=transport, verify=ssl_context()),
        async_http_client=httpx.AsyncClient(transport=transport, verify=ssl_context()),
        max_retries=0,
    )
    try:
        vectors = embed(embedding, f"{way}get_text_embedding_batch", SPOILED)
    except APIError:
        return
    assert_right(vectors, reply)


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_texts_are_one_request(way: str) -> None:
    """Batches are of a hundred by default, in base64 where the machine takes it."""
    machine = Machine()
    embed(machine.embedding(), f"{way}get_text_embedding_batch", ["x"] * 250)
    assert sorted(len(body["input"]) for body in machine.bodies) == [50, 100, 100]
    assert {body["encoding_format"] for body in machine.bodies} == {"base64"}


@pytest.mark.parametrize("way", WAYS)
def test_the_instruction_stands_around_queries_only(way: str) -> None:
    """A query goes as the model was trained for it; a text goes as it is, newlines too."""
    machine = Machine()
    embedding = machine.embedding(task="Find it")
    embed(embedding, f"{way}get_query_embedding", "who {ate} it?")
    embed(embedding, f"{way}get_text_embedding", "one\ntwo\n")
    embed(embedding, f"{way}get_agg_embedding_from_queries", ["a", "b"])
    assert machine.texts == [
        "Instruct: Find it\nQuery: who {ate} it?",
        "one\ntwo\n",
        "Instruct: Find it\nQuery: a",
        "Instruct: Find it\nQuery: b",
    ]


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"query_instruction": ""}, "cats"),
        ({"query_instruction": "query: {query}"}, "query: cats"),
        ({"model_name": "acme/plain-embedder"}, "cats"),
        ({"model_name": "Qwen/Qwen3-Embedding-4B", "task": "T"}, "Instruct: T\nQuery: cats"),
    ],
)
def test_other_instructions(settings: dict[str, Any], sent: str) -> None:
    """None where it is switched off or the model has none; the family's for a model that is not listed."""
    machine = Machine()
    machine.embedding(**settings).get_query_embedding("cats")
    assert machine.texts == [sent]


def test_the_private_ways_instruct_once() -> None:
    """Adapters call the hooks directly: a query is instructed there too, and never twice."""
    machine = Machine()
    embedding = machine.embedding(task="T")
    embedding._get_query_embedding("a")
    asyncio.run(embedding._aget_query_embedding("b"))
    assert machine.texts == ["Instruct: T\nQuery: a", "Instruct: T\nQuery: b"]


@pytest.mark.parametrize("way", WAYS)
def test_a_cache_keeps_queries_and_texts_apart(way: str) -> None:
    """The same words as query and as text have two vectors, whichever was cached first."""
    for order in (("query", "text"), ("text", "query")):
        machine = Machine()
        embedding = machine.embedding(embeddings_cache=SimpleKVStore(), task="T")
        found = {side: embed(embedding, f"{way}get_{side}_embedding", "cats") for side in order * 2}
        assert found["text"] == vector_of("cats")
        assert found["query"] == vector_of("Instruct: T\nQuery: cats")
        assert len(machine.bodies) == 2, "the second round came out of the cache"


@pytest.mark.parametrize(("workers", "busiest"), [(1, 1), (2, 2), (3, 3), (None, 4)])
def test_workers_are_honoured(workers: int | None, busiest: int) -> None:
    """So many requests at a time as there are workers, one of them too; None sets no limit."""
    machine = Machine(turns=2000)
    embedding = machine.embedding(num_workers=workers, embed_batch_size=3)
    embed(embedding, "aget_text_embedding_batch", TEXTS)
    assert machine.busiest == busiest


def test_the_loop_is_not_blocked() -> None:
    """While the service thinks, the loop does other things, in one thread."""
    machine = Machine()

    async def both() -> int:
        task = asyncio.create_task(machine.embedding().aget_text_embedding("x"))
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        await task
        return turns

    assert asyncio.run(both()) > 3
    assert machine.threads == {threading.get_ident()}


@pytest.mark.parametrize("refuse", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_fewer_dimensions(way: str, refuse: bool) -> None:
    """The vectors have as many numbers as were asked for, also where the machine cannot do it."""
    machine = Machine(refuse_dimensions=refuse)
    vector = embed(machine.embedding(dimensions=2), f"{way}get_text_embedding", "xxx")
    assert len(vector) == 2
    assert machine.bodies[0]["dimensions"] == 2
    assert len(machine.bodies) == 1 + refuse


@pytest.mark.parametrize("way", WAYS)
def test_faults(way: str) -> None:
    """A busy host is asked again by the core alone; at the end there is its typed error."""
    machine = Machine(fail=[429, 503])
    embedding = machine.embedding(max_retries=1)
    with pytest.raises(APIError) as caught:
        embed(embedding, f"{way}get_text_embedding", "x")
    assert caught.value.kind in (Kind.COLD, Kind.UPSTREAM, Kind.CAPACITY)
    assert len(machine.bodies) == 2
    assert embed(embedding, f"{way}get_text_embedding", "x") == vector_of("x")


def test_no_texts_are_no_request() -> None:
    """An empty list is an empty list."""
    machine = Machine()
    assert machine.embedding().get_text_embedding_batch([]) == []
    assert asyncio.run(machine.embedding().aget_text_embedding_batch([])) == []
    assert machine.bodies == []


def test_the_host_is_the_models_own() -> None:
    """Embeddings do not live where chat does."""
    machine = Machine()
    machine.embedding().get_text_embedding("x")
    machine.embedding(api_base="https://embed.example.org/v1").get_text_embedding("x")
    assert machine.hosts[0] != "llm.chutes.ai"
    assert machine.hosts[1] == "embed.example.org"


def test_unusable_settings_are_refused() -> None:
    """A batch of none, a dimension of none."""
    for options in ({"embed_batch_size": 0}, {"dimensions": 0}, {"max_retries": -1}, {"num_workers": 0}):
        with pytest.raises(ValueError, match=r"greater than"):
            Machine().embedding(**options)
    with pytest.raises(ValueError, match="where the query goes"):
        Machine().embedding(query_instruction="Find:")
    with pytest.raises(ConfigurationError, match="given 'embed_batch_size' twice"):
        Machine().embedding(batch_size=3, embed_batch_size=4)


# ---------------------------------------------------------------------------------------- what observers see


@pytest.mark.parametrize("way", WAYS)
def test_events_have_the_right_counts(way: str) -> None:
    """An event for each batch, with its texts and vectors, and one span for the whole."""
    debug, observer = LlamaDebugHandler(print_trace_on_end=False), Observer()
    get_dispatcher().add_event_handler(observer)
    try:
        embedding = Machine().embedding(embed_batch_size=4, callback_manager=CallbackManager([debug]))
        embed(embedding, f"{way}get_text_embedding_batch", TEXTS)
        embed(embedding, f"{way}get_query_embedding", "cats")
    finally:
        get_dispatcher().event_handlers.remove(observer)
    assert [len(end.payload["chunks"]) for _, end in debug.get_event_pairs(CBEventType.EMBEDDING)] == [4, 4, 2, 1]
    assert observer.names() == Counter(EmbeddingStartEvent=4, EmbeddingEndEvent=4)
    spans = {event.span_id.rpartition("-")[0].partition("-")[0] for event in observer.seen}
    assert spans == {f"ChutesEmbedding.{way}get_text_embedding_batch", f"ChutesEmbedding.{way}get_query_embedding"}


@pytest.mark.parametrize("way", WAYS)
def test_progress_is_shown_where_it_is_asked_for(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The framework's bar, only with show_progress."""
    embedding = Machine().embedding(embed_batch_size=5)
    embed(embedding, f"{way}get_text_embedding_batch", TEXTS)
    assert "Generating embeddings" not in capfd.readouterr().err
    assert embed(embedding, f"{way}get_text_embedding_batch", TEXTS, show_progress=True)[0] == vector_of("x")
    assert "Generating embeddings" in capfd.readouterr().err


def test_usage_is_in_the_ledger() -> None:
    """Embeddings count too."""
    embedding = Machine().embedding()
    embedding.get_text_embedding_batch(["a", "b"])
    assert embedding.ledger.totals().usage.prompt_tokens == 6


# -------------------------------------------------------------------------------------------------- pipelines


@pytest.mark.parametrize("way", WAYS)
def test_an_ingestion_pipeline_with_a_cache(way: str) -> None:
    """What was embedded is not embedded again; another model is another entry of the cache."""
    machine, cache = Machine(), IngestionCache()
    documents = [Document(text=text, id_=text) for text in ("a", "bb", "ccc")]

    def run(**settings: Any) -> Any:
        pipeline = IngestionPipeline(transformations=[machine.embedding(**settings)], cache=cache)
        return asyncio.run(pipeline.arun(documents=documents)) if way else pipeline.run(documents=documents)

    for _ in range(2):
        assert [node.embedding for node in run()] == [vector_of(text) for text in ("a", "bb", "ccc")]
    assert len(machine.bodies) == 1
    run(dimensions=2)
    assert len(machine.bodies) == 2


def test_nodes_get_their_vectors() -> None:
    """An embedding is a transformation."""
    nodes = Machine().embedding()([TextNode(text="a"), TextNode(text="bb")])
    assert [node.embedding for node in nodes] == [vector_of("a"), vector_of("bb")]
    assert QueryBundle("x").embedding is None
