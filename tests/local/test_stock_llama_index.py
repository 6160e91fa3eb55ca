"""Stock OpenAILike and OpenAILikeEmbedding against the embedded Chutes: they work, and show their defects on Chutes.

These tests state what the clients do, not what they should do: they prove that the gateway behaves as the
service, so that whoever passes here is prepared for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from chutes_local import LocalChutes
from tests.local.conftest import EMBEDDER, MODEL

core: Any = pytest.importorskip("llama_index.core.llms")
tools: Any = pytest.importorskip("llama_index.core.tools")
stock: Any = pytest.importorskip("llama_index.llms.openai_like")

SAID = [core.ChatMessage(role="user", content="one two three")]
ANSWER = "This is the echo backend, not a model. You said: one two three"


class Place(BaseModel):
    city: str


def pay(amount: int, to: str) -> str:
    """Pay an amount to someone."""
    return f"paid {amount} to {to}"


PAY = tools.FunctionTool.from_defaults(pay)


@pytest.fixture
def llm_at(server: LocalChutes) -> Iterator[Any]:
    """Makes a stock client with settings, and closes it after the test."""
    made: list[Any] = []

    def make(**settings: Any) -> Any:
        given = {"model": MODEL, "api_base": server.base_url, "api_key": server.api_key, "max_retries": 0}
        given |= {"is_chat_model": True, "is_function_calling_model": True, **settings}
        made.append(stock.OpenAILike(**given))
        return made[-1]

    yield make
    for each in made:
        each._get_client().close()


@pytest.fixture
def llm(llm_at: Any) -> Any:
    return llm_at()


@pytest.fixture
def embedder(server: LocalChutes) -> Iterator[Any]:
    module: Any = pytest.importorskip("llama_index.embeddings.openai_like")
    made = module.OpenAILikeEmbedding(
        model_name=EMBEDDER, api_base=server.embedding_base_url, api_key=server.api_key, max_retries=0
    )
    yield made
    made._get_client().close()


def finishes(replies: list[Any]) -> list[str]:
    """List the reasons to end that came in a stream; one is what there should be."""
    reasons = [choice.finish_reason for reply in replies for choice in reply.raw.choices]
    return [reason for reason in reasons if reason]


def called(llm: Any, *, streaming: bool = True) -> tuple[Any, list[Any]]:
    """Ask for a call of ``pay``: the last reply, and the calls that the framework reads from it."""
    ask = llm.stream_chat_with_tools if streaming else llm.chat_with_tools
    answered = ask([PAY], user_msg="pay", tool_required=True)
    reply = list(answered)[-1] if streaming else answered
    return reply, llm.get_tool_calls_from_response(reply)


# ------------------------------------------------------------------------------------------------- it works


def test_chat_works(llm: Any, server: LocalChutes) -> None:
    """A whole answer, its reason to end, and what it cost."""
    reply = llm.chat(SAID)
    billed = server.journal.wait(1)[0].billed
    assert reply.message.content == ANSWER
    assert finishes([reply]) == ["stop"]
    counted = reply.additional_kwargs
    assert (counted["prompt_tokens"], counted["completion_tokens"]) == (billed.prompt, billed.completion) == (3, 13)


def test_stream_chat_works(llm: Any) -> None:
    """The answer in pieces that add up to the whole."""
    replies = list(llm.stream_chat(SAID))
    assert [reply.delta for reply in replies if reply.delta][:3] == ["This", " is", " the"]
    assert "".join(reply.delta for reply in replies) == replies[-1].message.content == ANSWER
    assert finishes(replies) == ["stop"]


async def test_async_works(llm: Any) -> None:
    """The same without blocking."""
    assert (await llm.achat(SAID)).message.content == ANSWER
    replies = [reply async for reply in await llm.astream_chat(SAID)]
    assert replies[-1].message.content == ANSWER


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_work(llm: Any, streaming: bool) -> None:
    """A forced call arrives whole, and can be run."""
    _, (call,) = called(llm, streaming=streaming)
    assert (call.tool_name, call.tool_kwargs) == ("pay", {"amount": 0, "to": "echo"})
    assert str(llm.predict_and_call([PAY], user_msg="pay", tool_required=True)) == "paid 0 to echo"


@pytest.mark.parametrize("by_schema", [False, True])
def test_structured_output_works(llm_at: Any, server: LocalChutes, by_schema: bool) -> None:
    """A model of pydantic is filled in, through a tool or through a schema."""
    llm = llm_at(should_use_structured_outputs=by_schema).as_structured_llm(Place)
    assert llm.complete("I live in Oslo: city?").raw == Place(city="echo")
    body: Any = server.journal.wait(1)[0].body
    assert ("response_format" in body, "tools" in body) == (by_schema, not by_schema)


def test_embeddings_work(embedder: Any) -> None:
    """One vector per text, each in its place."""
    vectors = embedder.get_text_embedding_batch(["a longer text", "b"])
    assert [len(vector) for vector in vectors] == [384, 384]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("shape", ["reasoning_content", "reasoning"])
def test_reasoning_in_a_field_is_kept(llm_at: Any, shape: str, streaming: bool) -> None:
    """Either field becomes a block of its own, beside the answer."""
    llm = llm_at(default_headers={"X-Local-Reasoning": shape})
    reply = list(llm.stream_chat(SAID))[-1] if streaming else llm.chat(SAID)
    thought, said = reply.message.blocks
    assert "rehearsal of reasoning" in thought.content
    assert said.text == ANSWER


# ------------------------------------------------------------------------------------------------- defects


@pytest.mark.parametrize("kind", ["error_line", "no_finish", "done_only"])
def test_defect_a_truncated_answer_is_a_success(llm: Any, server: LocalChutes, kind: str) -> None:
    """A stream that breaks off is an answer like any other: no exception, and nobody misses its finish_reason.

    This is why an integration has to look for the end itself, and to raise when there is none.
    """
    server.faults.parse(f"*={kind}(after=3)")
    replies = list(llm.stream_chat(SAID))
    assert replies[-1].message.content == "This is the"
    assert finishes(replies) == []


def test_defect_a_restarted_answer_is_doubled(llm: Any, server: LocalChutes) -> None:
    """Another machine begins again in the same stream, and both beginnings are in the answer.

    This is why the change of a chunk's id has to be watched.
    """
    server.faults.parse("*=restart(after=3, value=same)")
    replies = list(llm.stream_chat(SAID))
    assert replies[-1].message.content == "This is the" + ANSWER
    assert finishes(replies) == ["stop"]
    assert len({reply.raw.id for reply in replies}) == 2


def test_defect_every_chunk_of_a_stream_bills_again(llm: Any, server: LocalChutes) -> None:
    """Each piece of the answer comes with all usage so far: their sum is 48 and 117 for 3 and 13.

    This is why the last usage has to be taken, not their sum.
    """
    counted = [reply.additional_kwargs for reply in llm.stream_chat(SAID)]
    billed = server.journal.wait(1)[0].billed
    assert (billed.prompt, billed.completion) == (3, 13)
    assert (counted[-1]["prompt_tokens"], counted[-1]["completion_tokens"]) == (3, 13)
    # The role counts no word yet; each word counts itself and those before; the finish and the usage count all again.
    chunks = 1 + billed.completion + 2
    sums = [sum(usage[name] for usage in counted) for name in ("prompt_tokens", "completion_tokens")]
    assert sums == [chunks * billed.prompt, sum(range(billed.completion + 1)) + 2 * billed.completion] == [48, 117]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("shape", "beginning"), [("think", "<think>\n"), ("close_only", "")])
def test_defect_tags_stay_in_the_answer(llm_at: Any, shape: str, beginning: str, streaming: bool) -> None:
    """Reasoning between tags is taken for the answer, tags and all.

    This is why the text has to be split, also where a tag is spread over chunks, or opens nowhere.
    """
    llm = llm_at(default_headers={"X-Local-Reasoning": shape})
    message = (list(llm.stream_chat(SAID))[-1] if streaming else llm.chat(SAID)).message
    assert len(message.blocks) == 1
    assert message.content.startswith(f"{beginning}This is a rehearsal of reasoning")
    assert message.content.endswith(f"\n</think>\n\n{ANSWER}")


@pytest.mark.parametrize(
    ("kind", "finish"), [("error_line", []), ("no_finish", []), ("broken_arguments", ["tool_calls"])]
)
def test_defect_a_cut_tool_call_is_valid(llm: Any, server: LocalChutes, kind: str, finish: list[str]) -> None:
    """A call cut in mid-argument is completed by guess: it has fewer arguments, and counts as valid.

    This is why arguments have to be parsed strictly once the end is known. Whoever runs this call pays nobody.
    """
    server.faults.parse(f"*={kind}(after=3)")
    replies = list(llm.stream_chat_with_tools([PAY], user_msg="pay", tool_required=True))
    (call,) = llm.get_tool_calls_from_response(replies[-1])
    assert replies[-1].message.blocks[-1].tool_kwargs == '{"amount": 0, "t'
    assert call.tool_kwargs == {"amount": 0}
    assert finishes(replies) == finish


def test_defect_a_cut_tool_call_is_valid_without_a_stream(llm: Any, server: LocalChutes) -> None:
    """Of a whole reply, too, broken arguments are completed by guess."""
    server.faults.parse("*=broken_arguments(after=3)")
    _, (call,) = called(llm, streaming=False)
    assert call.tool_kwargs == {"amount": 0}


def test_defect_a_restarted_tool_call_is_spliced(llm: Any, server: LocalChutes) -> None:
    """Two machines' calls become one, of a tool that does not exist, with two ids in one and no arguments.

    This is why nothing of a stream that began again may be kept.
    """
    server.faults.parse("*=restart(after=3)")
    reply, (call,) = called(llm)
    assert reply.message.blocks[-1].tool_kwargs == '{"amount": 0, "t{"amount": 0, "to": "echo"}'
    assert (call.tool_name, call.tool_kwargs) == ("paypay", {})
    assert call.tool_id.count("call_") == 2


@pytest.mark.parametrize("kind", ["role_only", "reasoning_only"])
def test_defect_an_answer_without_a_word_is_a_success(llm: Any, server: LocalChutes, kind: str) -> None:
    """An empty answer is finished like any other.

    This is why emptiness has to be looked for; after thinking too long it is common.
    """
    server.faults.parse(f"*={kind}")
    replies = list(llm.stream_chat(SAID))
    assert not replies[-1].message.content
    assert finishes(replies) == ["stop"]


def test_defect_no_answer_at_all_is_a_success(llm: Any, server: LocalChutes) -> None:
    """A stream without a byte is a stream without a reply, and no error.

    This is why an empty body has to be told apart from an answer; ChatOpenAI raises here.
    """
    server.faults.parse("*=empty")
    assert list(llm.stream_chat(SAID)) == []


def test_defect_a_missing_key_looks_busy(llm_at: Any, server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without a key in the right header is a 429 in HTML, and is asked again like a busy model: six times.

    This is why a missing key has to be refused before anything is sent (``X-API-Key`` is not looked at), and why
    only one layer may ask again: with two retries, the framework's two attempts are three each of the client.
    """
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    headers = {"Authorization": "", "X-API-Key": server.api_key}
    with pytest.raises(openai.RateLimitError) as error:
        llm_at(max_retries=2, default_headers=headers).chat(SAID)
    assert "<html>" in error.value.response.text
    assert [(entry.status, entry.key_kind) for entry in server.journal.wait(6)] == [(429, None)] * 6
    assert len(waits) == 5


def test_defect_vectors_change_places(embedder: Any, server: LocalChutes) -> None:
    """Embeddings are taken in the order they come, whatever their index says; one that is missing is not missed.

    This is why they have to be sorted and counted: otherwise a search finds the wrong text.
    """
    texts = ["one", "two", "three"]
    right = embedder.get_text_embedding_batch(texts)
    server.faults.parse(f"{EMBEDDER}=shuffled > short")
    assert [right.index(vector) for vector in embedder.get_text_embedding_batch(texts)] == [0, 2, 1]
    assert [right.index(vector) for vector in embedder.get_text_embedding_batch(texts)] == [0, 1]


@pytest.mark.parametrize("kind", ["reset", "half_close", "error_event"])
def test_a_broken_connection_is_an_error(llm: Any, server: LocalChutes, kind: str) -> None:
    """What the client does report: a cut below HTTP, which openai 2.x leaves to httpx, and an error as an event."""
    server.faults.parse(f"*={kind}(after=3)")
    with pytest.raises((openai.APIError, httpx.TransportError)):
        list(llm.stream_chat(SAID))
