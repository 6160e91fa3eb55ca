"""Retrieval on Chutes: vectors in a local Qdrant, and an answer from what was found.

    pip install langchain-qdrant
    python examples/langchain_rag.py

With CHUTES_API_KEY set the service embeds and answers. Without it nothing leaves this machine: the embedded Chutes
does, with small models where they can run, else with an echo. Without Qdrant the vectors are kept in LangChain's
in-memory store.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from operator import itemgetter

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from langchain_chutes import ChatChutes, ChutesEmbeddings

LIBRARY = {
    "bridge.txt": "The bridge over the Alder river was built in 1931 and is painted red.",
    "bakery.txt": "The bakery on Mill Street opens at six in the morning and sells rye bread.",
    "library.txt": "The town library lends books for four weeks and is closed on Mondays.",
}
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer from these notes:\n{notes}"), ("user", "{question}")],
)


def vector_store(embeddings: ChutesEmbeddings, documents: list[Document]) -> VectorStore:
    """An embedded Qdrant, or the framework's own store in memory."""
    try:
        from langchain_qdrant import QdrantVectorStore
    except ImportError:
        return InMemoryVectorStore.from_documents(documents, embeddings)
    store: VectorStore = QdrantVectorStore.from_documents(
        documents, embeddings, location=":memory:", collection_name="town"
    )
    return store


def main() -> None:
    with ExitStack() as stack:
        if not os.environ.get("CHUTES_API_KEY"):
            from chutes_local import serve

            os.environ.update(stack.enter_context(serve()).env)
        model = ChatChutes(model="google/gemma-4-31B-turbo-TEE", temperature=0, max_tokens=80)
        embeddings = ChutesEmbeddings(ledger=model.ledger)
        documents = [Document(text, metadata={"file": name}) for name, text in LIBRARY.items()]
        store = vector_store(embeddings, documents)
        print(f"Embedded {len(documents)} texts into a {type(store).__name__}")

        found = RunnablePassthrough.assign(found=itemgetter("question") | store.as_retriever(search_kwargs={"k": 1}))
        notes = found.assign(notes=lambda step: "\n".join(document.page_content for document in step["found"]))
        chain = notes.assign(answer=PROMPT | model | StrOutputParser())
        for question in ("When was the bridge built?", "When does the bakery open?"):
            result = chain.invoke({"question": question})
            print(f"You: {question}\n  {result['answer']}\n  source: {result['found'][0].metadata['file']}")
        print("All of it:", model.ledger)


if __name__ == "__main__":
    main()
