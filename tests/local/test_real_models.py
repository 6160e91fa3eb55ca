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


def deliverable(arrived: str, last: str) -> str:
    """What of a text may be continued: without its last word, which may be half, and without the space before it."""
    text = arrived.rstrip()
    word = max(map(text.rfind, " \n\t")) + 1
    return (text[:word] if len(text) - word <= 32 else text.removesuffix(last)).rstrip()


@pytest.mark.parametrize(
    "question",
    [
        "Why is the sky blue? Answer in one sentence.",
        "Tell me about Oslo in one sentence.",
        "Write a two-line poem about rain.",
    ],
)
def test_an_answer_that_is_cut_anywhere_is_continued_to_the_same_answer(real: LocalChutes, question: str) -> None:
    """At every delta, what was delivered and its continuation are the answer that was not cut, and its bill."""
    chunks = [chunk for chunk in events(ask(real, question, stream=True))[:-2] if chunk["choices"]]
    pieces = [(chunk["choices"][0]["delta"].get("content") or "", chunk["usage"]) for chunk in chunks]
    uncut, usage, delivered = spoken(chunks), chunks[-1]["usage"], [""]
    for end in range(1, len(pieces) + 1):
        begun = deliverable("".join(piece for piece, _ in pieces[:end]), pieces[end - 1][0])
        if begun == delivered[-1]:
            continue
        delivered.append(begun)
        asked = [{"role": "user", "content": question}, {"role": "assistant", "content": begun}]
        reply = ask(real, "", messages=asked, continue_final_message=True, add_generation_prompt=False).json()
        assert begun + reply["choices"][0]["message"]["content"] == uncut
        assert reply["usage"]["prompt_tokens"] > usage["prompt_tokens"]
        assert reply["usage"]["total_tokens"] == usage["total_tokens"]
    assert len(pieces) > 20
    assert len(delivered) > 10
