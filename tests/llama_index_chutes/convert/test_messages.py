"""Messages both ways: every block to the service's form and back, and nothing of the caller's touched."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from chutes_core import Choice, Reply, ReplyMeta, RequestRefusedError, ToolCall, Usage
from llama_index_chutes._convert.messages import chat_response, reply_message, wire_messages
from llama_index_chutes._convert.stream import completion

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PIXEL_URI = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
CALL = ToolCallBlock(tool_call_id="call_1", tool_name="add", tool_kwargs={"a": 1, "b": 2})


def wired(*blocks: Any, role: str = "user", echo: bool = False, **extra: Any) -> dict[str, Any]:
    message = ChatMessage(role=role, blocks=list(blocks), additional_kwargs=extra)
    return wire_messages([message], echo_reasoning=echo)[0]


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        ("system", "system"),
        ("developer", "system"),
        ("user", "user"),
        ("assistant", "assistant"),
        ("chatbot", "assistant"),
        ("model", "assistant"),
    ],
)
def test_roles(role: str, sent: str) -> None:
    """Every role of the framework is one the service knows."""
    assert wired(TextBlock(text="Hi"), role=role) == {"role": sent, "content": "Hi"}


def test_texts_are_joined_as_the_framework_joins_them() -> None:
    """Several text blocks are one text, the same that the message's content is."""
    message = ChatMessage(blocks=[TextBlock(text="one"), TextBlock(text="two")])
    assert wire_messages([message]) == [{"role": "user", "content": message.content}]


def test_an_image_of_bytes(tmp_path: Path) -> None:
    """Bytes, base64, a file and an address all become an image part."""
    file = tmp_path / "pixel.png"
    file.write_bytes(PIXEL)
    blocks = [
        ImageBlock(image=PIXEL),
        ImageBlock(image=base64.b64encode(PIXEL)),
        ImageBlock(path=file),
        ImageBlock(url=PIXEL_URI),
    ]
    for block in blocks:
        assert wired(TextBlock(text="What?"), block)["content"] == [
            {"type": "text", "text": "What?"},
            {"type": "image_url", "image_url": {"url": PIXEL_URI}},
        ]


def test_an_image_at_an_address_keeps_it_and_its_detail() -> None:
    """A remote address is not fetched; what was said of the detail goes along."""
    part = wired(ImageBlock(url="https://example.org/cat.png", detail="low"))["content"][0]
    assert part == {"type": "image_url", "image_url": {"url": "https://example.org/cat.png", "detail": "low"}}


def test_an_image_without_a_suffix_is_known_by_its_bytes(tmp_path: Path) -> None:
    """A file whose name says nothing is looked at; one that is no image is refused."""
    file = tmp_path / "upload"
    file.write_bytes(PIXEL)
    assert wired(ImageBlock(path=file))["content"][0]["image_url"]["url"] == PIXEL_URI
    file.write_bytes(b"not an image")
    with pytest.raises(RequestRefusedError, match="image_mimetype"):
        wired(ImageBlock(path=file))


def test_a_video() -> None:
    """A video is a video part; its frame rate has no place in a message and is refused, not lost."""
    block = VideoBlock(url="https://example.org/a.mp4")
    assert wired(block)["content"] == [{"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}]
    made = wired(VideoBlock(video=b"0000", video_mimetype="video/mp4"))["content"][0]["video_url"]["url"]
    assert made.startswith("data:video/mp4;base64,")
    with pytest.raises(RequestRefusedError, match="mm_processor_kwargs"):
        wired(VideoBlock(url="https://example.org/a.mp4", fps=2))


def test_audio_is_refused_with_a_way_out() -> None:
    """Chutes takes none: the error says what to send instead."""
    for block in (AudioBlock(url="https://example.org/a.wav"), AudioBlock(audio=b"RIFF", format="wav")):
        with pytest.raises(RequestRefusedError, match="no audio in a chat: send its transcript"):
            wired(block)


def test_a_document_is_refused_with_a_way_out() -> None:
    """Chutes takes no files: the error says what to send instead."""
    with pytest.raises(RequestRefusedError, match="TextBlock"):
        wired(DocumentBlock(data=b"%PDF-1.4", title="terms.pdf"))


def test_cache_points_are_ignored_and_citable_text_is_text() -> None:
    """A cache point is a hint that nobody here reads; a citable block's content says where it is from."""
    cache = CachePoint(cache_control=CacheControl(type="ephemeral"))
    citable = CitableBlock(title="T", source="S", content=[TextBlock(text="a fact")])
    assert wired(TextBlock(text="Read:"), citable, cache)["content"] == "Read:\nTitle: T\nSource: S\na fact"
    untitled = CitableBlock(title="", source="", content=[TextBlock(text="a fact")])
    assert wired(untitled)["content"] == "a fact"
    image = ImageBlock(url="http://pictures.test/x.png")
    shown = wired(CitableBlock(title="T", source="S", content=[image]))["content"]
    assert [part["type"] for part in shown] == ["text", "image_url"]
    assert shown[0]["text"] == "Title: T\nSource: S"


def test_cited_text_says_where_it_is_from() -> None:
    """In an earlier answer too."""
    cited = CitationBlock(title="T", source="S", cited_content=TextBlock(text="a fact"), additional_location_info={})
    message = ChatMessage(role="assistant", blocks=[TextBlock(text="So it is:"), cited])
    assert wire_messages([message])[0]["content"] == "So it is:\nTitle: T\nSource: S\na fact"


def test_tool_calls_and_results() -> None:
    """A call of the assistant has its id, its name and its arguments as JSON; a result names its call."""
    assert wired(CALL, role="assistant") == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
        ],
    }
    assert wired(TextBlock(text="3"), role="tool", tool_call_id="call_1") == {
        "role": "tool",
        "content": "3",
        "tool_call_id": "call_1",
    }


def test_arguments_as_text_are_sent_as_they_are() -> None:
    """Other integrations keep the arguments as text; they are not encoded twice."""
    block = ToolCallBlock(tool_call_id="c", tool_name="add", tool_kwargs='{"a": 1}')
    assert wired(block, role="assistant")["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_calls_of_older_messages() -> None:
    """Calls that stand in additional_kwargs count where there are no blocks, and never twice."""
    old = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    assert wired(TextBlock(text=""), role="assistant", tool_calls=[old])["tool_calls"] == [old]
    assert len(wired(CALL, role="assistant", tool_calls=[old])["tool_calls"]) == 1


def test_a_tool_call_of_the_user_is_refused() -> None:
    """Only the assistant calls tools."""
    with pytest.raises(RequestRefusedError, match="assistant"):
        wired(CALL, role="user")


def test_images_in_tool_results_are_kept() -> None:
    """A tool may answer with an image."""
    content = wired(TextBlock(text="the plot"), ImageBlock(image=PIXEL), role="tool", tool_call_id="c")["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]


def test_reasoning_is_echoed_only_where_the_model_needs_it() -> None:
    """Earlier reasoning goes back to models that lose their thread without it, and to no other."""
    blocks = [ThinkingBlock(content="hm"), TextBlock(text="Yes")]
    assert wired(*blocks, role="assistant") == {"role": "assistant", "content": "Yes"}
    assert wired(*blocks, role="assistant", echo=True)["reasoning_content"] == "hm"


def test_the_callers_messages_are_not_changed() -> None:
    """A translation leaves its source as it was."""
    messages = [ChatMessage("Hi"), ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), CALL])]
    before = copy.deepcopy(messages)
    wire = wire_messages(messages, echo_reasoning=True)
    wire[1]["tool_calls"].clear()
    assert messages == before


# ------------------------------------------------------------------------------------------------ from the service


def reply(**fields: Any) -> Reply:
    given = {"content": "Yes", "reasoning": "", "tool_calls": (), "invalid_tool_calls": (), "finish_reason": "stop"}
    extra = {key: fields.pop(key) for key in ("usage", "meta", "extra") if key in fields}
    return Reply("r1", "acme/one", (Choice(0, **{**given, **fields}),), **extra)


def test_a_reply_becomes_reasoning_text_and_calls_in_this_order() -> None:
    """A message has a block for each part of the reply."""
    call = ToolCall("c1", "add", '{"a": 1}')
    message = reply_message(reply(reasoning="hm", tool_calls=(call,), usage=Usage(1, 2, 3, reasoning_tokens=1)))
    assert message.role == MessageRole.ASSISTANT
    assert message.blocks == [
        ThinkingBlock(content="hm", num_tokens=1),
        TextBlock(text="Yes"),
        ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1}),
    ]


def test_an_empty_answer_has_an_empty_text() -> None:
    """A message is never without any block."""
    assert reply_message(reply(content="")).content == ""


def test_an_invalid_call_is_no_tool_call_block() -> None:
    """A call with broken arguments is kept where nobody runs it or replays it."""
    broken = ToolCall("c1", "pay", '{"amount": 10', "the arguments are not valid JSON")
    message = reply_message(reply(content="", invalid_tool_calls=(broken,)))
    assert not any(isinstance(block, ToolCallBlock) for block in message.blocks)
    assert message.additional_kwargs["invalid_tool_calls"][0]["function"]["arguments"] == '{"amount": 10'
    assert wire_messages([message]) == [{"role": "assistant", "content": ""}]


def test_raw_has_all_that_came() -> None:
    """`raw` is a dict in the service's form, with usage, headers and unknown fields."""
    got = reply(
        usage=Usage(11, 5, 16, reasoning_tokens=2, cached_tokens=3),
        meta=ReplyMeta(invocation_id="inv", quota_remaining=7),
        extra={"chutes_verification": "0f"},
    )
    raw = chat_response(got).raw
    assert raw["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "total_tokens": 16,
        "completion_tokens_details": {"reasoning_tokens": 2},
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    assert raw["chutes"] == {"invocation_id": "inv", "quota_remaining": 7}
    assert (raw["model"], raw["chutes_verification"]) == ("acme/one", "0f")
    assert raw["choices"][0]["finish_reason"] == "stop"


def test_logprobs() -> None:
    """Log probabilities come as the framework's objects."""
    told = {"content": [{"token": "Yes", "logprob": -0.1, "bytes": [89], "top_logprobs": []}]}
    found = chat_response(reply(logprobs=told)).logprobs
    assert found is not None
    assert [(each.token, each.logprob) for each in found[0]] == [("Yes", -0.1)]


def test_a_completion_keeps_what_is_not_text() -> None:
    """Reasoning and calls stand beside the text."""
    answer = completion(chat_response(reply(reasoning="hm", tool_calls=(ToolCall("c1", "add", "{}"),))))
    assert answer.text == "Yes"
    assert answer.additional_kwargs["thinking"] == "hm"
    assert answer.additional_kwargs["tool_calls"][0]["id"] == "c1"


def test_further_answers_are_in_raw() -> None:
    """With ``n`` above one the message is the first answer, and no other is lost."""
    choices = tuple(Choice(n, text, "", (), (), "stop") for n, text in enumerate(("one", "two")))
    response = chat_response(Reply("r1", "acme/one", choices))
    assert response.message.content == "one"
    assert [choice["message"]["content"] for choice in response.raw["choices"]] == ["one", "two"]
