"""No word of a prompt or an answer leaves in the clear, whichever public operation is used with ``e2ee``."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

import langchain_chutes as lc
import llama_index_chutes as li
from chutes_core import ChutesClient, FallbackClient, FallbackPolicy, RequestRefusedError
from chutes_local import LocalChutes

from .scenarios import PIXEL, TOOLS
from .sealed import EMBEDDER, MODEL, OTHER, OwnClock, running, server

__all__ = ["running", "server"]

SECRET = "grey walruses"
ASK: Any = [{"role": "user", "content": f"Where do {SECRET} sleep?"}]
WORDS = (b"walrus", b"echo backend", b"Where do", base64.b64encode(SECRET.encode())[:12])


class Tap(httpx.HTTPTransport):
    """Keeps the bytes that leave and come, with where they went."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.seen.append((path, str(request.url).encode() + repr(request.headers.raw).encode() + request.read()))
        response = super().handle_request(request)
        body = response.read()
        self.seen.append((path, body))
        return httpx.Response(response.status_code, headers=response.headers, content=body)


class Place(BaseModel):
    """Where something is."""

    name: str = "a floe"


def pay(amount: int) -> str:
    """Pay an amount."""
    return str(amount)


def _core(client: ChutesClient) -> dict[str, Callable[[], Any]]:
    form: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": Place.model_json_schema()}}
    shown = [{"type": "text", "text": SECRET}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    image: Any = [{"role": "user", "content": shown}]
    return {
        "chat": lambda: client.chat(ASK, model=MODEL),
        "stream": lambda: list(client.stream(ASK, model=MODEL)),
        "stream reasoning": lambda: list(client.stream(ASK, model=MODEL, reasoning=True)),
        "stream tools": lambda: list(client.stream(ASK, model=MODEL, tools=TOOLS)),
        "stream form": lambda: list(client.stream(ASK, model=MODEL, response_format=form)),
        "image": lambda: client.chat(image, model=OTHER),
        "embed": lambda: client.embed([SECRET], model=EMBEDDER),
    }


def _fallback(given: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    def made(**policy: Any) -> FallbackClient:
        options: Any = {name: value for name, value in given.items() if name != "api_key"}
        return FallbackClient([MODEL, OTHER], given["api_key"], policy=FallbackPolicy(**policy), **options)

    return {
        "fallback chat": lambda: made().chat(ASK),
        "fallback hedge": lambda: list(made(hedge=5).stream(ASK)),
        "fallback hold": lambda: list(made(after_commit="hold").stream(ASK)),
        "fallback resume": lambda: list(made(after_commit="resume_or_hold").stream(ASK)),
        "fallback tools": lambda: made().chat(ASK, tools=TOOLS),
    }


def _langchain(given: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    model = lc.ChatChutes(model=MODEL, **given)
    both = lc.ChutesFallback([model, lc.ChatChutes(model=OTHER, **given)])
    return {
        "langchain invoke": lambda: model.invoke(ASK),
        "langchain stream": lambda: list(model.stream(ASK)),
        "langchain batch": lambda: model.batch([ASK, ASK]),
        "langchain tools": lambda: model.bind_tools([pay]).invoke(ASK),
        "langchain object": lambda: list(model.with_structured_output(Place).stream(ASK)),
        "langchain embeddings": lambda: lc.ChutesEmbeddings(model=EMBEDDER, **given).embed_query(SECRET),
        "langchain fallback": lambda: both.invoke(ASK),
        "langchain fallback stream": lambda: list(both.stream(ASK)),
    }


def _llama_index(given: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    given = {**given, "api_base": given["base_url"]}
    del given["base_url"]
    llm = li.Chutes(model=MODEL, **given)
    sees = li.Chutes(model=OTHER, **given)
    both = li.ChutesFallback([llm, sees])
    tool, question = FunctionTool.from_defaults(pay), ChatMessage(f"Where do {SECRET} sleep?")
    return {
        "llama_index chat": lambda: llm.chat([question]),
        "llama_index complete": lambda: llm.complete(SECRET),
        "llama_index stream": lambda: list(llm.stream_chat([question])),
        "llama_index image": lambda: sees.chat([ChatMessage(blocks=[TextBlock(text=SECRET), ImageBlock(url=PIXEL)])]),
        "llama_index object": lambda: llm.structured_predict(Place, PromptTemplate(SECRET)),
        "llama_index tools": lambda: llm.predict_and_call([tool], SECRET, tool_required=True),
        "llama_index embeddings": lambda: li.ChutesEmbedding(model=EMBEDDER, **given).get_text_embedding(SECRET),
        "llama_index fallback": lambda: both.chat([question]),
    }


@pytest.fixture
def tap() -> Iterator[Tap]:
    with Tap() as made:
        yield made


def test_no_operation_lets_a_word_out(server: LocalChutes, tap: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sends what it asks to the sealed path alone, and only what is shown as it comes is streamed."""
    monkeypatch.setattr(server.world.sealed, "per_minute", 1000)
    with httpx.Client(transport=tap, timeout=60) as own:
        given: dict[str, Any] = {
            "api_key": server.api_key, "base_url": server.base_url, "management_url": server.management_url,
            "embedding_base_url": server.embedding_base_url, "http_client": own, "clock": OwnClock(), "e2ee": True,
        }  # fmt: skip
        chat = {name: value for name, value in given.items() if name != "embedding_base_url"}
        core = ChutesClient(**given)
        streamed = {}
        for name, operation in {**_core(core), **_fallback(chat), **_langchain(chat), **_llama_index(chat)}.items():
            tap.seen.clear()
            server.journal.clear()
            operation()
            assert [path for path, _ in tap.seen if path.endswith("/e2e/invoke")], name
            assert not [path for path, _ in tap.seen if "/v1/" in path and not path.endswith("/v1/models")], name
            assert [(word, path) for path, sent in tap.seen for word in WORDS if word in sent] == [], name
            streamed[name] = any(entry.body.get("stream") for entry in server.journal.to("/e2e/invoke"))
        with pytest.raises(RequestRefusedError, match="Nothing was sent"):
            core.call(MODEL, "/v1/chat/completions", {"messages": ASK})
    assert [name for name, value in streamed.items() if value] == [
        "stream", "stream reasoning", "fallback hedge", "langchain stream", "langchain fallback stream",
        "llama_index stream",
    ]  # fmt: skip


def test_the_tap_would_see_it(server: LocalChutes, tap: Tap) -> None:
    """Unsealed, all of it passes there."""
    with httpx.Client(transport=tap) as own:
        client = ChutesClient(server.api_key, base_url=server.base_url, http_client=own)
        client.chat(ASK, model=MODEL)
    seen = b"".join(sent for _, sent in tap.seen)
    assert [word for word in WORDS[:3] if word not in seen] == []
