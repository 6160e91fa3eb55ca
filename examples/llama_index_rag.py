"""Retrieval on Chutes: a pipeline with a cache, an index, a query engine, and a chat that streams.

    python examples/llama_index_rag.py

With CHUTES_API_KEY set the service embeds and answers. Without it nothing leaves this machine: the embedded Chutes
does, with small models where they can run, else with an echo. The vectors are kept in an embedded Qdrant where
`llama-index-vector-stores-qdrant` is installed, else in memory.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from llama_index.core import Document, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.vector_stores import SimpleVectorStore

from llama_index_chutes import Chutes, ChutesEmbedding

LIBRARY = {
    "bridge.txt": "The bridge over the Alder river was built in 1931 and is painted red.",
    "bakery.txt": "The bakery on Mill Street opens at six in the morning and sells rye bread.",
    "library.txt": "The town library lends books for four weeks and is closed on Mondays.",
}


def vector_store() -> Any:
    """An embedded Qdrant, or the framework's own store in memory."""
    try:
        from llama_index.vector_stores.qdrant import QdrantVectorStore
        from qdrant_client import QdrantClient
    except ImportError:
        return SimpleVectorStore()
    return QdrantVectorStore("library", client=QdrantClient(location=":memory:"))


def main() -> None:
    with ExitStack() as stack:
        if not os.environ.get("CHUTES_API_KEY"):
            from chutes_local import serve

            os.environ.update(stack.enter_context(serve()).env)
        llm = Chutes(model="google/gemma-4-31B-turbo-TEE", temperature=0, max_tokens=100)
        embedding = ChutesEmbedding()
        documents = [Document(text=text, id_=name, metadata={"file": name}) for name, text in LIBRARY.items()]

        pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding], cache=IngestionCache())
        nodes = pipeline.run(documents=documents)
        pipeline.run(documents=documents)  # comes out of the cache
        print(f"Embedded {len(nodes)} texts in {embedding.ledger.totals().calls} call")

        store = StorageContext.from_defaults(vector_store=vector_store())
        index = VectorStoreIndex(nodes, storage_context=store, embed_model=embedding)

        answer = index.as_query_engine(llm=llm, similarity_top_k=1).query("When was the bridge built?")
        print(f"Query: {answer}\n  source: {answer.source_nodes[0].metadata['file']}")

        chat = index.as_chat_engine(chat_mode="context", llm=llm, similarity_top_k=1)
        for question in ("When does the bakery open?", "What does it sell?"):
            print(f"Chat: {question}\n  ", end="")
            for token in chat.stream_chat(question).response_gen:
                print(token, end="", flush=True)
            print()
        print("All of it:", llm.ledger)


if __name__ == "__main__":
    main()
