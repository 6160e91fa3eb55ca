"""An answer of a fallback in either framework shows how it came about, and so does the error of one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from llama_index.core.llms import ChatMessage

from chutes_core import Attempts
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport
from langchain_chutes import ChatChutes
from langchain_chutes import ChutesFallback as LangChainFallback
from llama_index_chutes import Chutes
from llama_index_chutes import ChutesFallback as LlamaIndexFallback

MODELS = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"


def script(model: str) -> Any:
    return FaultScript(default=Fault("capacity") if model == MODELS[0] else Answer("Whole."))


def made(kind: Any, **options: Any) -> list[Any]:
    clients = [httpx.Client(transport=FaultyTransport(script(model))) for model in MODELS]
    return [
        kind(model=model, api_key="cpk_test", http_client=client, **options)
        for model, client in zip(MODELS, clients, strict=True)
    ]


def langchain() -> Any:
    return LangChainFallback(made(ChatChutes))


def llama_index() -> Any:
    return LlamaIndexFallback(made(Chutes))


def last(chunks: Any) -> Any:
    *_, chunk = chunks
    return chunk


ANSWERS = {
    "LangChain": lambda: langchain().invoke("Hi"),
    "LangChain, stream": lambda: last(langchain().stream("Hi")),
    "LlamaIndex": lambda: llama_index().chat([ChatMessage("Hi")]),
    "LlamaIndex, completion": lambda: llama_index().complete("Hi"),
    "LlamaIndex, stream": lambda: last(llama_index().stream_chat([ChatMessage("Hi")])),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_shows_its_attempts(name: str) -> None:
    """Who was busy, and who answered after it."""
    attempts = Attempts.of(ANSWERS[name]())
    assert [(each.outcome, str(each.kind)) for each in attempts] == [("failed", "capacity"), ("answered", "None")]
    busy, whole = attempts
    assert busy.began <= busy.began + busy.elapsed <= whole.began
    assert "capacity 429" in attempts._repr_html_()
