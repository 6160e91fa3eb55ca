"""Retrieval with ChutesEmbeddings over a local vector store, in a chain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel, RunnablePassthrough
from langchain_qdrant import QdrantVectorStore

from chutes_local import LocalChutes
from langchain_chutes import ChatChutes, ChutesEmbeddings

LIBRARY = [
    Document("The bridge over the river is painted red.", metadata={"file": "bridge"}),
    Document("The bakery sells rye bread every morning.", metadata={"file": "bakery"}),
    Document("The library lends books for four weeks.", metadata={"file": "library"}),
]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_chain_answers_from_what_was_found(server: LocalChutes, asynchronous: bool) -> None:
    """Documents are embedded raw, the question with its instruction, and the nearest text reaches the model."""
    embeddings = ChutesEmbeddings(
        api_key=server.api_key, base_url=server.base_url, embedding_base_url=server.embedding_base_url
    )
    store = QdrantVectorStore.from_documents(LIBRARY, embeddings, location=":memory:", collection_name="town")
    model = ChatChutes(model="Qwen/Qwen3-32B-TEE", api_key=server.api_key, base_url=server.base_url)
    prompt = ChatPromptTemplate.from_template("{notes}\n\nWho sells {question}?")
    retriever: Any = store.as_retriever(search_kwargs={"k": 1})
    chain = RunnableParallel(notes=retriever, question=RunnablePassthrough()) | prompt | model | StrOutputParser()
    answer = asyncio.run(chain.ainvoke("rye bread")) if asynchronous else chain.invoke("rye bread")
    assert "The bakery sells rye bread" in answer
    asked = [entry.body["input"] for entry in server.journal.to("embeddings") if entry.body]
    assert [document.page_content for document in LIBRARY] in asked
    assert asked[-1] == [embeddings.query_text("rye bread")]
    assert "".join(chain.stream("rye bread")) == answer
