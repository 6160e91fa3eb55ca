"""The gateway with the real models behind it: shapes and sums, never prose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.backends.choose import choose_backend
from tests.local.conftest import EMBEDDER, MODEL, events, spoken

pytestmark = pytest.mark.local

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather in a city", "parameters": CITY},
    }
]


@pytest.fixture(scope="module")
def real() -> Iterator[LocalChutes]:
    if not choose_backend("auto").is_model:
        pytest.skip("no wheel of the engine for this machine")
    with serve(backend="auto") as server:
        yield server


def ask(server: LocalChutes, text: str, **body: Any) -> httpx.Response:
    server.reset()
    return httpx.post(
        f"{server.base_url}/chat/completions",
        json={"model": MODEL, "messages": [{"role": "user", "content": text}], "temperature": 0, **body},
        headers={"Authorization": f"Bearer {server.api_key}"},
        timeout=120,
    )


def test_whole_and_streamed_answers_agree(real: LocalChutes) -> None:
    """The same question at temperature 0 has the same answer both ways, and the same bill."""
    whole = ask(real, "What is the capital of France?", max_tokens=16).json()
    chunks = events(ask(real, "What is the capital of France?", max_tokens=16, stream=True))
    assert spoken(chunks) == whole["choices"][0]["message"]["content"] != ""
    assert chunks[-2]["usage"] == whole["usage"]
    assert real.journal.wait(1)[0].billed.total == whole["usage"]["total_tokens"]


def test_a_tool_call_fits_its_schema(real: LocalChutes) -> None:
    """The forced call has valid arguments."""
    choice = ask(real, "What is the weather in Oslo?", tools=TOOLS).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert isinstance(json.loads(call["function"]["arguments"])["city"], str)


def test_structured_output_fits_its_schema(real: LocalChutes) -> None:
    """A schema is kept, and JSON mode returns the keys that were named."""
    asked = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY}}
    strict = ask(real, "I live in Oslo.", response_format=asked).json()
    loose = ask(real, "JSON with `city` for: I live in Oslo.", response_format={"type": "json_object"}).json()
    for reply in (strict, loose):
        assert set(json.loads(reply["choices"][0]["message"]["content"])) == {"city"}


def test_a_prompt_beyond_the_small_models_window(real: LocalChutes) -> None:
    """The refusal is the service's, with the true window."""
    response = ask(real, "word " * 9000)
    assert response.status_code == 400
    assert "maximum context length of 4096 tokens" in response.json()["detail"]


def test_embeddings_find_what_is_alike(real: LocalChutes) -> None:
    """The nearest of three sentences is the one that means the same."""
    texts = ["A cat sleeps on the sofa.", "Interest rates rose again.", "The kitten naps on the couch."]
    reply = httpx.post(
        f"{real.embedding_base_url}/embeddings",
        json={"model": EMBEDDER, "input": texts},
        headers={"Authorization": f"Bearer {real.api_key}"},
        timeout=60,
    ).json()
    cat, rates, kitten = (row["embedding"] for row in reply["data"])

    def likeness(other: list[float]) -> float:
        return sum(a * b for a, b in zip(cat, other, strict=True))

    assert likeness(kitten) > likeness(rates)
