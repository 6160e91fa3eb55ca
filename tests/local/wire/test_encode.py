"""The JSON of chunks and replies."""

from __future__ import annotations

from chutes_local.wire.encode import Encoder, Frame, TextEncoder, ToolPart, Usage, whole, whole_text

CALL = [
    Frame("role"),
    Frame("tool", tool=ToolPart(0, "0", "f")),
    Frame("tool", tool=ToolPart(0, "0", None, '{"x"')),
    Frame("tool", tool=ToolPart(0, "0", None, ": 1}")),
    Frame("finish", finish="tool_calls"),
    Frame("usage", usage=Usage(3, 5, 2)),
]


def test_sglang_writes_every_key_of_a_delta() -> None:
    """SGLang's deltas carry null for what they do not say."""
    choice = Encoder("m", "sglang").chunk(Frame("content", text="Hi"))["choices"][0]
    assert choice["delta"] == {"role": None, "content": "Hi", "reasoning_content": None, "tool_calls": None}
    assert "matched_stop" in choice


def test_vllm_writes_what_there_is() -> None:
    """vLLM's deltas carry only what they say, and reasoning under its own key."""
    encoder = Encoder("m", "vllm", reasoning_key="reasoning")
    choice = encoder.chunk(Frame("reasoning", text="Hm"))["choices"][0]
    assert choice["delta"] == {"reasoning": "Hm"}
    assert "stop_reason" in choice
    assert "matched_stop" not in choice


def test_usage_is_cumulative_on_every_chunk_and_last_alone() -> None:
    """Each chunk carries the usage so far; the last event has it and no choices."""
    encoder = Encoder("m", "sglang")
    content = encoder.chunk(Frame("content", text="a", usage=Usage(3, 1)))
    last = encoder.chunk(Frame("usage", usage=Usage(3, 5, 2)))
    assert content["usage"]["total_tokens"] == 4
    assert last["choices"] == []
    assert last["usage"]["reasoning_tokens"] == 2
    assert last["chutes_verification"] == encoder.verification


def test_a_tool_call_names_itself_once() -> None:
    """The first fragment has id and name, the others only arguments; the call's id stays."""
    encoder = Encoder("m", "vllm")
    deltas = [encoder.chunk(frame)["choices"][0]["delta"]["tool_calls"][0] for frame in CALL[1:4]]
    assert deltas[0]["id"].startswith("call_")
    assert [delta["function"]["name"] for delta in deltas] == ["f", None, None]
    assert [delta["id"] for delta in deltas[1:]] == [None, None]


def test_another_machine_has_other_ids() -> None:
    """renew() changes the id of the reply, its verification and its calls."""
    encoder = Encoder("m", "sglang")
    before = encoder.ident, encoder.verification, encoder.call_id("0")
    assert encoder.call_id("0") == before[2]
    encoder.renew()
    assert not set(before) & {encoder.ident, encoder.verification, encoder.call_id("0")}


def test_a_whole_reply_joins_the_frames() -> None:
    """Without a stream the fragments are one call, content is null, and usage stands at the top."""
    reply = whole(CALL, Encoder("m", "sglang"))
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x": 1}'}
    assert reply["usage"]["completion_tokens"] == 5


def test_choices_are_kept_apart() -> None:
    """Frames of several choices become several choices."""
    frames = [Frame("content", 0, "a"), Frame("content", 1, "b"), Frame("finish", 1, finish="length")]
    choices = whole(frames, Encoder("m", "sglang"))["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "a", None),
        (1, "b", "length"),
    ]


def test_text_completions_have_text_and_no_role() -> None:
    """/v1/completions announces no role and carries text."""
    encoder = TextEncoder("m", "sglang")
    assert encoder.event(Frame("role")) == b""
    chunk = encoder.chunk(Frame("content", text="Hi"))
    assert (chunk["object"], chunk["choices"][0]["text"]) == ("text_completion", "Hi")
    reply = whole_text([Frame("content", text="Hi"), Frame("finish", finish="stop")], encoder)
    assert reply["choices"] == [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}]
