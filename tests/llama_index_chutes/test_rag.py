"""Retrieval over the embedded Chutes: index, query engine, chat engine, pipeline; whole and streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.vector_stores import SimpleVectorStore

from chutes_core import CapacityError, StreamFailedError
from chutes_local import LocalChutes
from chutes_local.pytest_plugin import chutes_faults, chutes_local
from llama_index_chutes import Chutes, ChutesEmbedding

from .rigs import MODEL

__all__ = ["chutes_faults", "chutes_local"]

LIBRARY = {
    "bridge": "The bridge over the Alder river was built in 1931 and is painted red.",
    "bakery": "The bakery on Mill Street opens at six in the morning and sells rye bread.",
    "library": "The town library lends books for four weeks and is closed on Mondays.",
}
QUESTION = "When does the bakery open and what bread does it sell?"


@pytest.fixture(autouse=True)
def _loop() -> Iterator[None]:
    """The framework's blocking helpers take the thread's event loop, and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def server(chutes_local: LocalChutes, chutes_faults: object) -> LocalChutes:
    """The session's server, as new."""
    return chutes_local


@pytest.fixture
def llm(server: LocalChutes) -> Chutes:
    return Chutes(model=MODEL, api_key=server.api_key, api_base=server.base_url, max_retries=0)


@pytest.fixture
def embedding(server: LocalChutes) -> ChutesEmbedding:
    return ChutesEmbedding(
        api_key=server.api_key, api_base=server.embedding_base_url, embed_batch_size=2, max_retries=0
    )


@pytest.fixture
def index(embedding: ChutesEmbedding) -> VectorStoreIndex:
    documents = [Document(text=text, id_=name) for name, text in LIBRARY.items()]
    return VectorStoreIndex.from_documents(documents, embed_model=embedding)


def vector_stores() -> list[Any]:
    """The framework's own store in memory, and an embedded Qdrant where one is installed."""
    stores = [pytest.param(SimpleVectorStore, id="memory")]
    try:
        import qdrant_client
        from llama_index.vector_stores.qdrant import QdrantVectorStore
    except ImportError:
        return stores

    def qdrant() -> Any:
        return QdrantVectorStore("library", client=qdrant_client.QdrantClient(location=":memory:"))

    return [*stores, pytest.param(qdrant, id="qdrant")]


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
@pytest.mark.parametrize("store", vector_stores())
def test_a_query_engine_answers_from_the_right_source(store: Any, llm: Chutes, embedding: ChutesEmbedding) -> None:
    """The nearest text is in the prompt and named as the source, whichever store holds the vectors."""
    documents = [Document(text=text, id_=name) for name, text in LIBRARY.items()]
    context = StorageContext.from_defaults(vector_store=store())
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)
    answer = index.as_query_engine(llm=llm, similarity_top_k=1).query(QUESTION)
    assert "rye bread" in str(answer)
    assert "rye bread" in answer.source_nodes[0].get_content()


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
def test_every_way_to_synthesize(mode: str, index: VectorStoreIndex, llm: Chutes) -> None:
    """The window of the catalogue leaves room for the prompts of each."""
    engine = index.as_query_engine(llm=llm, similarity_top_k=2, response_mode=mode)
    assert str(engine.query(QUESTION))


def test_a_streaming_query(index: VectorStoreIndex, llm: Chutes) -> None:
    """The answer comes in pieces."""
    pieces = list(index.as_query_engine(llm=llm, streaming=True).query(QUESTION).response_gen)
    assert len(pieces) > 3
    assert "rye bread" in "".join(pieces)


def test_an_async_query(index: VectorStoreIndex, llm: Chutes) -> None:
    """The same on the event loop."""

    async def ask() -> str:
        return str(await index.as_query_engine(llm=llm).aquery(QUESTION))

    assert "rye bread" in asyncio.run(ask())


@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
def test_a_streaming_chat_engine_over_two_turns(mode: str, index: VectorStoreIndex, llm: Chutes) -> None:
    """A conversation about the texts remembers what was said."""
    memory = ChatMemoryBuffer.from_defaults(llm=llm)
    engine = index.as_chat_engine(chat_mode=mode, llm=llm, memory=memory, similarity_top_k=1)
    for question in (QUESTION, "And on Sundays?"):
        said = "".join(engine.stream_chat(question).response_gen)
        assert "echo" in said
    assert [message.role.value for message in engine.chat_history] == ["user", "assistant"] * 2


def test_an_async_streaming_chat_engine(index: VectorStoreIndex, llm: Chutes) -> None:
    """The same on the event loop."""

    async def talk() -> str:
        engine = index.as_chat_engine(chat_mode="context", llm=llm, memory=ChatMemoryBuffer.from_defaults(llm=llm))
        response = await engine.astream_chat(QUESTION)
        return "".join([token async for token in response.async_response_gen()])

    assert "echo" in asyncio.run(talk())


def test_a_query_whose_stream_breaks_raises(index: VectorStoreIndex, llm: Chutes, server: LocalChutes) -> None:
    """The core's error comes out of a streaming engine; half an answer is not taken for a whole one."""
    server.faults.add(MODEL, "error_line", times=1)
    with pytest.raises(StreamFailedError) as caught:
        list(index.as_query_engine(llm=llm, streaming=True).query(QUESTION).response_gen)
    assert caught.value.partial


def test_a_busy_embedding_host_is_an_error(embedding: ChutesEmbedding, server: LocalChutes) -> None:
    """An index is not built over vectors that never came."""
    server.faults.add("Qwen/Qwen3-Embedding-8B-TEE", "capacity")
    with pytest.raises(CapacityError):
        VectorStoreIndex.from_documents([Document(text="x")], embed_model=embedding)
