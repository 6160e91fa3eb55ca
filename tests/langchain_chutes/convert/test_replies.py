"""Replies and steps of a stream as LangChain's objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.utils import message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from chutes_core import Choice, Delta, Reply, ReplyMeta, ToolCall, Usage
from chutes_core.testing import Answer
from langchain_chutes._convert.replies import ChunkMaker, chat_result, usage_metadata
from tests.langchain_chutes.models import MODES, call, scripted

THINKING = Answer("Yes, it is.", reasoning="Let me think.", pieces=3)
CALLING = Answer("Two sums.", tool_calls=[("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})])
CHOICE = Choice(0, "Yes.", "Hm.", (), (), "stop", {"content": []}, {"matched_stop": "x"})
REPLY = Reply(
    "chatcmpl-1",
    "acme/one",
    (CHOICE,),
    Usage(9, 5, 14, 2, 4),
    ReplyMeta(invocation_id="inv", quota_total=200, quota_used=1, quota_remaining=199),
    1_780_000_000,
    {"chutes_verification": "00", "prompt_sha256": "ff"},
)


def test_nothing_that_the_service_said_is_lost() -> None:
    """Who answered, why it ended, quota, cost, counts and unknown fields are all on the message."""
    message = chat_result(REPLY, 0.25).generations[0].message
    assert isinstance(message, AIMessage)
    assert message.content == "Yes."
    assert message.additional_kwargs == {"reasoning_content": "Hm."}
    assert message.response_metadata == {
        "chutes_verification": "00",
        "matched_stop": "x",
        "model_provider": "chutes",
        "model_name": "acme/one",
        "finish_reason": "stop",
        "id": "chatcmpl-1",
        "created": 1_780_000_000,
        "logprobs": {"content": []},
        "cost": 0.25,
        "invocation_id": "inv",
        "quota_total": 200,
        "quota_used": 1,
        "quota_remaining": 199,
    }
    assert message.usage_metadata == {
        "input_tokens": 9,
        "output_tokens": 5,
        "total_tokens": 14,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 2},
    }


def test_a_fingerprint_of_the_prompt_stays_out_of_traces() -> None:
    """What identifies the prompt is not put where tracing services read."""
    assert "prompt_sha256" not in chat_result(REPLY).generations[0].message.response_metadata


def test_what_langchain_itself_keeps_in_the_metadata_is_not_for_a_server_to_set() -> None:
    """A server that names a version of the content cannot have the message read by other rules."""
    hostile = replace(REPLY, extra={"output_version": "v1"})
    assert "output_version" not in chat_result(hostile).generations[0].message.response_metadata


def test_a_name_is_kept() -> None:
    """An answer that has a name of its own has it in LangChain's field, as other providers' have."""
    named = replace(REPLY, choices=(replace(CHOICE, extra={"name": "guide"}),))
    assert chat_result(named).generations[0].message.name == "guide"


def test_counters_of_the_older_kind_find_the_usage() -> None:
    """The usage of a call, and of several together, is where other providers' models have it."""
    model = scripted([Answer("Hi"), Answer("Hi")]).model
    result = model.generate([[HumanMessage("a")], [HumanMessage("b")]])
    assert result.llm_output == {
        "model_name": "acme/one",
        "token_usage": {"prompt_tokens": 22, "completion_tokens": 4, "total_tokens": 26},
    }


def test_unknown_counts_are_left_out() -> None:
    """No count is invented."""
    assert usage_metadata(None) is None
    assert usage_metadata(Usage(1, 2, 3)) == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def test_usage_and_cost_of_several_choices_count_once() -> None:
    """The service reports one usage for all choices, so it stands with the first, and its price with it."""
    result = chat_result(replace(REPLY, choices=(CHOICE, replace(CHOICE, index=1))), 0.25)
    messages = [generation.message for generation in result.generations]
    assert [getattr(message, "usage_metadata", None) is not None for message in messages] == [True, False]
    assert [message.response_metadata.get("cost") for message in messages] == [0.25, None]


@pytest.mark.parametrize("delta", [Delta("Hi"), Delta("", "Hm"), Delta("Hi", "Hm")])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_chunk_made_fast_is_what_a_validated_one_would_be(delta: Delta, blocks: bool) -> None:
    """Leaving validation out changes nothing about the object."""
    (made,) = ChunkMaker(blocks=blocks).step(delta)
    fields = ("content", "additional_kwargs", "response_metadata")
    message = AIMessageChunk(**{name: getattr(made.message, name) for name in fields})
    expected = ChatGenerationChunk(message=message)
    assert made == expected
    assert made.message == message
    assert made.message.__dict__ == message.__dict__
    assert made.message.model_fields_set == message.model_fields_set
    assert made.message.model_dump() == message.model_dump()
    assert made.model_dump_json() == expected.model_dump_json()
    assert made.message.model_copy(deep=True) == message
    assert (made.message + message).text == message.text * 2


@pytest.mark.parametrize(
    "choice",
    [
        CHOICE,
        replace(CHOICE, reasoning="", tool_calls=(ToolCall("c", "add", '{"a": 1}'),)),
        replace(CHOICE, invalid_tool_calls=(ToolCall("c", "add", '{"a": 1', "cut"),)),
    ],
)
def test_a_message_made_fast_is_what_a_validated_one_would_be(choice: Choice) -> None:
    """The same for a whole answer."""
    (made,) = chat_result(replace(REPLY, choices=(choice,))).generations
    assert isinstance(made.message, AIMessage)
    names = ("content", "additional_kwargs", "response_metadata", "usage_metadata", "tool_calls", "invalid_tool_calls")
    message = AIMessage(**{name: getattr(made.message, name) for name in names})
    assert made == ChatGeneration(message=message, generation_info={"finish_reason": "stop"})
    assert made.message.__dict__ == message.__dict__
    assert made.message.model_dump_json() == message.model_dump_json()


def test_chunks_share_nothing() -> None:
    """A change to one chunk is not seen in another."""
    maker = ChunkMaker()
    (first,), (second,) = maker.step(Delta("a")), maker.step(Delta("b"))
    first.message.additional_kwargs["x"] = 1
    first.message.tool_calls.append(None)  # type: ignore[attr-defined]
    assert second.message.additional_kwargs == {}
    assert second.message.tool_calls == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
@pytest.mark.parametrize("answer", [Answer("Hello!"), THINKING, CALLING])
def test_the_sum_of_a_stream_is_the_whole_answer(answer: Answer, mode: str) -> None:
    """A stream adds up to the message that invoke returns."""
    streamed, whole = call(mode, [answer]).message, call("sync-whole", [answer]).message
    assert isinstance(streamed, AIMessageChunk)
    assert isinstance(whole, AIMessage)
    same = ("content", "additional_kwargs", "tool_calls", "invalid_tool_calls", "usage_metadata", "content_blocks")
    for name in same:
        assert getattr(streamed, name) == getattr(whole, name), name
    told, expected = dict(streamed.response_metadata), dict(whole.response_metadata)
    for only_in_streams in ("chutes_verification", "matched_stop"):
        told.pop(only_in_streams, None)
    # LangChain copies what counters of the older kind read; of a stream there is none, as of other providers'.
    usage = whole.usage_metadata
    assert expected.pop("token_usage")["total_tokens"] == (usage and usage["total_tokens"])
    assert told == expected
    assert message_chunk_to_message(streamed).content == whole.content


@pytest.mark.parametrize("mode", MODES)
def test_standard_blocks_are_the_same_in_every_mode(mode: str) -> None:
    """With output_version="v1" the content is reasoning, text and calls, in this order, streamed or not."""
    answer = replace(CALLING, reasoning="Let me add.")
    message = call(mode, [answer], output_version="v1").message
    assert message is not None
    assert message.response_metadata["output_version"] == "v1"
    content: Any = [{k: v for k, v in block.items() if k != "index"} for block in message.content]  # type: ignore[union-attr]
    assert content == [
        {"type": "reasoning", "reasoning": "Let me add."},
        {"type": "text", "text": "Two sums."},
        {"type": "tool_call", "id": "call_0", "name": "add", "args": {"a": 1, "b": 2}},
        {"type": "tool_call", "id": "call_1", "name": "add", "args": {"a": 3, "b": 4}},
    ]
    assert [made["args"] for made in message.tool_calls] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_first_and_last_chunk(mode: str) -> None:
    """The provider is on the first chunk, everything else on the last, and only that is the last."""
    chunks = call(mode, [THINKING]).chunks
    assert chunks[0].response_metadata == {"model_provider": "chutes"}
    assert all(chunk.response_metadata == {} for chunk in chunks[1:-1])
    assert [chunk.chunk_position for chunk in chunks] == [None] * (len(chunks) - 1) + ["last"]
    assert [chunk.usage_metadata is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert chunks[-1].response_metadata["quota_remaining"] == 199
    assert chunks[-1].response_metadata["invocation_id"]
