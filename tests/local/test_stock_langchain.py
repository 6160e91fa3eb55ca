"""Stock ChatOpenAI against the embedded Chutes: it works, and shows the defects it shows on Chutes.

These tests state what the client does, not what it should do: they prove that the gateway behaves as the
service, so that whoever passes here is prepared for it.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from typing import Any

import httpx
import openai
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL

stock: Any = pytest.importorskip("langchain_openai")

SAID = "one two three"
ANSWER = "This is the echo backend, not a model. You said: one two three"
PLACE = {
    "title": "place",
    "description": "Where somebody lives",
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


def pay(amount: int, to: str) -> str:
    """Pay an amount to someone."""
    return f"paid {amount} to {to}"


@pytest.fixture(autouse=True)
def _close_kept_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the HTTP clients that langchain_openai would keep for the next chat model in this process."""
    utils: Any = importlib.import_module("langchain_openai.chat_models._client_utils")
    build, built = utils._build_sync_httpx_client, []

    def noted(*args: Any) -> Any:
        built.append(build(*args))
        return built[-1]

    utils._cached_sync_httpx_client.cache_clear()
    monkeypatch.setattr(utils, "_build_sync_httpx_client", noted)
    yield
    utils._cached_sync_httpx_client.cache_clear()
    for client in built:
        client.close()


@pytest.fixture
def chat(server: LocalChutes) -> Any:
    return chat_at(server)


def chat_at(server: LocalChutes, **settings: Any) -> Any:
    given = {"model": MODEL, "base_url": server.base_url, "api_key": server.api_key, "max_retries": 0}
    return stock.ChatOpenAI(**{**given, **settings})


@pytest.fixture
def embedder(server: LocalChutes) -> Iterator[Any]:
    # Left to itself it would send token ids, by a tokenizer that has to be fetched and that fits another model.
    made = stock.OpenAIEmbeddings(
        model=EMBEDDER,
        base_url=server.embedding_base_url,
        api_key=server.api_key,
        max_retries=0,
        check_embedding_ctx_length=False,
    )
    yield made
    made.client._client.close()


def merged(chunks: Iterable[Any]) -> Any:
    """Add the chunks up, as LangChain does for everyone who streams."""
    return reduce(add, chunks)


# ------------------------------------------------------------------------------------------------- it works


def test_invoke_works(chat: Any, server: LocalChutes) -> None:
    """A whole answer, its reason to end, its model and what it cost."""
    reply = chat.invoke(SAID)
    billed = server.journal.wait(1)[0].billed
    assert reply.content == ANSWER
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.response_metadata["model_name"] == MODEL
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (3, 13)
    assert (billed.prompt, billed.completion) == (3, 13)


def test_stream_works(chat: Any) -> None:
    """The answer in pieces, and its reason to end on the whole."""
    chunks = list(chat.stream(SAID))
    assert [chunk.content for chunk in chunks if chunk.content][:3] == ["This", " is", " the"]
    assert merged(chunks).content == ANSWER
    assert merged(chunks).response_metadata["finish_reason"] == "stop"


async def test_async_works(server: LocalChutes) -> None:
    """The same without blocking."""
    # ChatOpenAI keeps one asynchronous client per address: a connection left open would outlive this test's loop.
    chat = chat_at(server, default_headers={"Connection": "close"})
    assert (await chat.ainvoke(SAID)).content == ANSWER
    assert merged([chunk async for chunk in chat.astream(SAID)]).content == ANSWER


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_work(chat: Any, streaming: bool) -> None:
    """A forced call arrives whole, with valid arguments."""
    bound = chat.bind_tools([pay], tool_choice="required")
    reply = merged(bound.stream("pay")) if streaming else bound.invoke("pay")
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("pay", {"amount": 0, "to": "echo"})
    assert reply.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("method", ["function_calling", "json_mode", "json_schema"])
def test_structured_output_works(chat: Any, method: str) -> None:
    """Each way to ask for a schema is answered in it."""
    asked = chat.with_structured_output(PLACE, method=method)
    assert asked.invoke("JSON with 'city' for: I live in Oslo.") == {"city": "echo"}


def test_embeddings_work(embedder: Any) -> None:
    """One vector per text, each in its place."""
    vectors = embedder.embed_documents(["a longer text", "b"])
    assert [len(vector) for vector in vectors] == [384, 384]


# ------------------------------------------------------------------------------------------------- defects


@pytest.mark.parametrize("kind", ["error_line", "no_finish", "done_only"])
def test_defect_a_truncated_answer_is_a_success(chat: Any, server: LocalChutes, kind: str) -> None:
    """A stream that breaks off is an answer like any other: no exception, and nobody misses its finish_reason.

    This is why an integration has to look for the end itself, and to raise when there is none.
    """
    server.faults.parse(f"*={kind}(after=3)")
    reply = merged(chat.stream(SAID))
    assert reply.content == "This is the"
    assert reply.chunk_position == "last"
    assert "finish_reason" not in reply.response_metadata


def test_defect_a_restarted_answer_is_doubled(chat: Any, server: LocalChutes) -> None:
    """Another machine begins again in the same stream, and both beginnings are in the answer.

    This is why the change of a chunk's id has to be watched; ChatOpenAI replaces the id by one of its own.
    """
    server.faults.parse("*=restart(after=3, value=same)")
    chunks = list(chat.stream(SAID))
    assert merged(chunks).content == "This is the" + ANSWER
    assert merged(chunks).response_metadata["finish_reason"] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_defect_the_usage_of_a_stream_is_the_sum_of_sums(server: LocalChutes, wanted: bool) -> None:
    """Usage so far comes on every chunk, and is added up as if each were a share: 48 and 117 for 3 and 13.

    This is why the last usage has to be taken, not their sum. Declining usage does not help: it comes anyway.
    """
    counted = merged(chat_at(server, stream_usage=wanted).stream(SAID)).usage_metadata
    billed = server.journal.wait(1)[0].billed
    assert (billed.prompt, billed.completion) == (3, 13)
    # The role counts no word yet; each word counts itself and those before; the finish and the usage count all again.
    chunks = 1 + billed.completion + 2
    assert counted["input_tokens"] == chunks * billed.prompt == 48
    assert counted["output_tokens"] == sum(range(billed.completion + 1)) + 2 * billed.completion == 117
    assert counted["total_tokens"] == 48 + 117


def test_usage_on_the_last_event_alone_is_right(chat: Any, server: LocalChutes) -> None:
    """The counterpart: with one usage at the end nothing is counted twice."""
    server.faults.parse("*=final_usage")
    counted = merged(chat.stream(SAID)).usage_metadata
    billed = server.journal.wait(1)[0].billed
    assert (counted["input_tokens"], counted["output_tokens"]) == (billed.prompt, billed.completion)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("shape", ["reasoning_content", "reasoning"])
def test_defect_reasoning_is_lost(server: LocalChutes, shape: str, streaming: bool) -> None:
    """Neither field of the reasoning is read: it is paid for, and nowhere in the message.

    This is why both fields have to be read by hand; so has the count, which is not where OpenAI has it.
    """
    chat = chat_at(server, default_headers={"X-Local-Reasoning": shape})
    reply = merged(chat.stream(SAID)) if streaming else chat.invoke(SAID)
    entry = server.journal.wait(1)[0]
    assert "rehearsal of reasoning" in entry.text
    assert entry.billed.completion > 13
    assert reply.content == ANSWER
    assert "rehearsal" not in repr(reply)
    assert "reasoning" not in reply.usage_metadata["output_token_details"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("shape", "beginning"), [("think", "<think>\n"), ("close_only", "")])
def test_defect_tags_stay_in_the_answer(server: LocalChutes, shape: str, beginning: str, streaming: bool) -> None:
    """Reasoning between tags is taken for the answer, tags and all.

    This is why the text has to be split, also where a tag is spread over chunks, or opens nowhere.
    """
    chat = chat_at(server, default_headers={"X-Local-Reasoning": shape})
    reply = merged(chat.stream(SAID)) if streaming else chat.invoke(SAID)
    assert reply.content.startswith(f"{beginning}This is a rehearsal of reasoning")
    assert reply.content.endswith(f"\n</think>\n\n{ANSWER}")


@pytest.mark.parametrize(
    ("kind", "finish"), [("error_line", None), ("no_finish", None), ("broken_arguments", "tool_calls")]
)
def test_defect_a_cut_tool_call_is_valid(chat: Any, server: LocalChutes, kind: str, finish: str | None) -> None:
    """A call cut in mid-argument is completed by guess: it has fewer arguments, and counts as valid.

    This is why arguments have to be parsed strictly once the end is known. Whoever runs this call pays nobody.
    """
    server.faults.parse(f"*={kind}(after=3)")
    reply = merged(chat.bind_tools([pay], tool_choice="required").stream("pay"))
    assert reply.tool_call_chunks[0]["args"] == '{"amount": 0, "t'
    assert [call["args"] for call in reply.tool_calls] == [{"amount": 0}]
    assert reply.invalid_tool_calls == []
    assert reply.response_metadata.get("finish_reason") == finish


def test_a_cut_tool_call_is_invalid_without_a_stream(chat: Any, server: LocalChutes) -> None:
    """The counterpart: of a whole reply, the same arguments are refused."""
    server.faults.parse("*=broken_arguments(after=3)")
    reply = chat.bind_tools([pay], tool_choice="required").invoke("pay")
    assert reply.tool_calls == []
    assert reply.invalid_tool_calls[0]["args"] == '{"amount": 0, "t'


def test_defect_a_restarted_tool_call_is_two(chat: Any, server: LocalChutes) -> None:
    """The call of the machine that died and that of the next stand side by side, their arguments mixed up.

    This is why nothing of a stream that began again may be kept.
    """
    server.faults.parse("*=restart(after=3)")
    reply = merged(chat.bind_tools([pay], tool_choice="required").stream("pay"))
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("pay", {"amount": 0}), ("pay", {})]
    assert reply.invalid_tool_calls == []
    assert reply.response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("kind", ["role_only", "reasoning_only"])
def test_defect_an_answer_without_a_word_is_a_success(chat: Any, server: LocalChutes, kind: str) -> None:
    """An empty answer is finished like any other.

    This is why emptiness has to be looked for; after thinking too long it is common.
    """
    server.faults.parse(f"*={kind}")
    reply = merged(chat.stream(SAID))
    assert reply.content == ""
    assert reply.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("kind", ["capacity", "account_limit"])
def test_defect_what_waiting_cannot_help_looks_busy(chat: Any, server: LocalChutes, kind: str) -> None:
    """A busy model and a spent account are the same exception, apart only in the detail of the body.

    This is why the detail has to be read: the one is to be asked again, the other not. No header tells them apart.
    """
    server.faults.add(MODEL, kind)
    with pytest.raises(openai.RateLimitError) as error:
        chat.invoke(SAID)
    body: Any = error.value.body
    assert ("maximum capacity" in body["detail"]) == (kind == "capacity")
    assert error.value.code is None
    assert "retry-after" not in error.value.response.headers


def test_defect_a_missing_key_looks_busy(server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a key in the right header is a 429 in HTML, and is asked again like a busy model.

    This is why a missing key has to be refused before anything is sent. ``X-API-Key`` is not looked at.
    """
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    headers = {"Authorization": "", "X-API-Key": server.api_key}
    chat = chat_at(server, max_retries=2, default_headers=headers)
    with pytest.raises(openai.RateLimitError) as error:
        chat.invoke(SAID)
    assert "<html>" in error.value.response.text
    assert [(entry.status, entry.key_kind) for entry in server.journal.wait(3)] == [(429, None)] * 3
    assert len(waits) == 2


def test_defect_vectors_change_places(embedder: Any, server: LocalChutes) -> None:
    """Embeddings are taken in the order they come, whatever their index says; one that is missing is not missed.

    This is why they have to be sorted and counted: otherwise a search finds the wrong text.
    """
    texts = ["one", "two", "three"]
    right = embedder.embed_documents(texts)
    server.faults.parse(f"{EMBEDDER}=shuffled > short")
    assert [right.index(vector) for vector in embedder.embed_documents(texts)] == [0, 2, 1]
    assert [right.index(vector) for vector in embedder.embed_documents(texts)] == [0, 1]


@pytest.mark.parametrize("kind", ["reset", "half_close", "error_event"])
def test_a_broken_connection_is_an_error(chat: Any, server: LocalChutes, kind: str) -> None:
    """What the client does report: a cut below HTTP, which openai 2.x leaves to httpx, and an error as an event."""
    server.faults.parse(f"*={kind}(after=3)")
    with pytest.raises((openai.APIError, httpx.TransportError)):
        list(chat.stream(SAID))
