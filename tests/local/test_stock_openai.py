"""The stock openai client against the embedded Chutes: it works, and shows the defects it shows on Chutes.

These tests state what the client does, not what it should do: they prove that the gateway behaves as the
service, so that whoever passes here is prepared for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL

SAID: Any = [{"role": "user", "content": "one two three"}]
ANSWER = "This is the echo backend, not a model. You said: one two three"
PAY: Any = [
    {
        "type": "function",
        "function": {
            "name": "pay",
            "description": "Pay an amount",
            "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
        },
    }
]


@pytest.fixture
def client(server: LocalChutes) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0) as made:
        yield made


def streamed(client: openai.OpenAI, **settings: Any) -> list[Any]:
    return list(client.chat.completions.create(model=MODEL, messages=SAID, stream=True, **settings))


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def finish(chunks: list[Any]) -> str | None:
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    return next((reason for reason in reasons if reason), None)


def test_it_works(client: openai.OpenAI) -> None:
    """Whole and streamed answers, the list of models, and the extras of the service as extra fields."""
    reply = client.chat.completions.create(model="Qwen/Qwen3-32B", messages=SAID)
    assert reply.choices[0].message.content == ANSWER
    assert reply.model == MODEL
    assert reply.model_extra
    assert reply.model_extra["chutes_verification"]
    assert text(streamed(client)) == ANSWER
    assert MODEL in [model.id for model in client.models.list()]


def test_tools_and_structured_output_work(client: openai.OpenAI) -> None:
    """A forced call and a parsed answer."""
    reply = client.chat.completions.create(model=MODEL, messages=SAID, tools=PAY, tool_choice="required")
    calls: Any = reply.choices[0].message.tool_calls
    assert calls[0].function.name == "pay"


def test_embeddings_work(server: LocalChutes) -> None:
    """The client asks for base64 unasked, and decodes it."""
    with openai.OpenAI(base_url=server.embedding_base_url, api_key=server.api_key, max_retries=0) as client:
        reply = client.embeddings.create(model=EMBEDDER, input=["a longer text", "b"])
    assert [len(row.embedding) for row in reply.data] == [384, 384]
    body: Any = server.journal.wait(1)[0].body
    assert body["encoding_format"] == "base64"


def test_the_detail_is_hidden_in_the_body(client: openai.OpenAI, server: LocalChutes) -> None:
    """A status error has the detail in its body, since there is no OpenAI envelope."""
    server.faults.add(MODEL, "capacity")
    with pytest.raises(openai.RateLimitError) as error:
        streamed(client)
    assert error.value.body == {"detail": "Infrastructure is at maximum capacity, try again later"}
    assert "retry-after" not in error.value.response.headers


@pytest.mark.parametrize("kind", ["error_line", "no_finish", "done_only"])
def test_defect_a_truncated_answer_is_a_success(client: openai.OpenAI, server: LocalChutes, kind: str) -> None:
    """A stream that breaks off, with or without the bare error line, ends without any exception."""
    server.faults.parse(f"*={kind}(after=3)")
    chunks = streamed(client)
    assert text(chunks) == "This is the"
    assert finish(chunks) is None


def test_defect_a_restarted_answer_is_doubled(client: openai.OpenAI, server: LocalChutes) -> None:
    """A restart on another machine is concatenated, and reported as a finished answer."""
    server.faults.parse("*=restart(after=3, value=same)")
    chunks = streamed(client)
    assert text(chunks) == "This is the" + ANSWER
    assert finish(chunks) == "stop"
    assert len({chunk.id for chunk in chunks}) == 2


def test_defect_summed_usage_is_wrong(client: openai.OpenAI, server: LocalChutes) -> None:
    """Usage comes on every chunk and is cumulative: its sum is not what was billed, its last value is."""
    chunks = streamed(client)
    billed = server.journal.wait(1)[0].billed
    assert chunks[-1].usage.total_tokens == billed.total
    assert sum(chunk.usage.total_tokens for chunk in chunks) > 2 * billed.total


def test_defect_a_restarted_tool_call_is_spliced(client: openai.OpenAI, server: LocalChutes) -> None:
    """The fragments of two machines become one text that is no JSON, or worse."""
    server.faults.parse("*=restart(after=2)")
    chunks = streamed(client, tools=PAY, tool_choice="required")
    parts = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    joined = "".join(part.function.arguments or "" for part in parts)
    assert joined.startswith('{"amount{"amount": ')
    assert {part.index for part in parts} == {0}
    assert finish(chunks) == "tool_calls"


def test_an_error_event_is_an_api_error(client: openai.OpenAI, server: LocalChutes) -> None:
    """The one failure inside a stream that the client does report, with no status."""
    server.faults.add(MODEL, "error_event")
    with pytest.raises(openai.APIError) as error:
        streamed(client)
    assert not isinstance(error.value, openai.APIStatusError)


def test_reasoning_is_an_extra_field(client: openai.OpenAI) -> None:
    """The client passes reasoning_content on, untyped."""
    chunks = streamed(client, extra_headers={"X-Local-Reasoning": "reasoning_content"})
    deltas = [chunk.choices[0].delta.model_extra for chunk in chunks if chunk.choices]
    assert "rehearsal of reasoning" in "".join(extra.get("reasoning_content") or "" for extra in deltas)
    assert text(chunks) == ANSWER
