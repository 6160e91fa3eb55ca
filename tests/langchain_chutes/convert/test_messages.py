"""Messages of LangChain as messages of a request."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from chutes_core import RequestRefusedError
from langchain_chutes._convert.messages import request_messages

PNG = "iVBORw0KGgoAAAANSUhEUgAA"
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


def one(message: BaseMessage, **options: Any) -> dict[str, Any]:
    """The single message that a message becomes."""
    (wire,) = request_messages([message], **options)
    return wire


def calling(*, content: Any = "", **more: Any) -> AIMessage:
    return AIMessage(content, tool_calls=[{"name": "add", "args": {"a": 1}, "id": "call_1"}], **more)


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (HumanMessage("Hi"), {"role": "user", "content": "Hi"}),
        (HumanMessage("Hi", name="anna"), {"role": "user", "content": "Hi", "name": "anna"}),
        (SystemMessage("Be brief."), {"role": "system", "content": "Be brief."}),
        (ChatMessage("Hi", role="developer"), {"role": "developer", "content": "Hi"}),
        (FunctionMessage("3", name="add"), {"role": "function", "content": "3", "name": "add"}),
        (AIMessage("Yes."), {"role": "assistant", "content": "Yes."}),
        (AIMessage(""), {"role": "assistant", "content": ""}),
        (AIMessage("Yes.", name="bot"), {"role": "assistant", "content": "Yes.", "name": "bot"}),
        (ToolMessage("3", tool_call_id="c"), {"role": "tool", "content": "3", "tool_call_id": "c"}),
        (
            ToolMessage("3", tool_call_id="c", name="add"),
            {"role": "tool", "content": "3", "tool_call_id": "c", "name": "add"},
        ),
        (HumanMessage(["a", "b"]), {"role": "user", "content": [{"type": "text", "text": t} for t in "ab"]}),
        (HumanMessage([{"type": "text", "text": "a", "cache_control": {}}]), {"role": "user", "content": "a"}),
        (HumanMessage([]), {"role": "user", "content": ""}),
    ],
)
def test_a_message_becomes_its_role_and_content(message: BaseMessage, wire: dict[str, Any]) -> None:
    """Every kind of message has its role; a content of one text is that text."""
    assert one(message) == wire


def test_a_turn_that_calls_a_tool_has_no_empty_text() -> None:
    """A call without a word beside it has null as its content, and its arguments are JSON text."""
    function = {"name": "add", "arguments": '{"a": 1}'}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    assert one(calling()) == {"role": "assistant", "content": None, "tool_calls": calls}
    assert one(calling(content="Let me see."))["content"] == "Let me see."


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_call", "id": "call_1", "name": "add", "args": {"a": 1}},
        {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}},
    ],
)
def test_a_call_in_a_block_is_sent_once(block: dict[str, Any]) -> None:
    """A call that is also in the content is not doubled, and one that is only there is not lost."""
    assert one(calling(content=[block]))["tool_calls"] == one(calling())["tool_calls"]
    lone = AIMessage([block])
    lone.tool_calls = []
    assert one(lone)["tool_calls"] == one(calling())["tool_calls"]


def test_text_in_blocks_is_one_text_again() -> None:
    """An assistant's text that was cut into blocks is joined as it was, without reasoning and calls."""
    message = AIMessage(
        [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "Y"}, {"type": "text", "text": "es."}]
    )
    assert one(message) == {"role": "assistant", "content": "Yes."}


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Yes.", additional_kwargs={"reasoning_content": "Hm."}),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}, "Yes."]),
        AIMessage([{"type": "thinking", "thinking": "Hm."}, "Yes."]),
        AIMessage([{"type": "reasoning", "reasoning": "Hm."}, "Yes."], additional_kwargs={"reasoning_content": "Hm."}),
    ],
)
def test_reasoning_goes_back_only_to_models_that_want_it(message: AIMessage) -> None:
    """Reasoning from either place is echoed once, where the policy says so."""
    assert one(message) == {"role": "assistant", "content": "Yes."}
    assert one(message, echo_reasoning=True) == {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."}


def test_an_invalid_call_is_left_out() -> None:
    """Broken arguments are never sent back."""
    broken = {"id": "call_1", "name": "pay", "args": '{"amount": 1000, "to', "error": "cut"}
    assert one(AIMessage("Wait.", invalid_tool_calls=[broken])) == {"role": "assistant", "content": "Wait."}


def test_an_invalid_call_that_was_answered_is_quoted() -> None:
    """A tool message needs the call that it answers: its arguments are quoted, as valid JSON."""
    broken = {"id": "call_1", "name": "pay", "args": '{"amount": 1', "error": "cut"}
    assistant, tool = request_messages(
        [AIMessage("", invalid_tool_calls=[broken]), ToolMessage("Error: not valid", tool_call_id="call_1")]
    )
    assert assistant["tool_calls"][0]["function"]["arguments"] == r'{"invalid_arguments": "{\"amount\": 1"}'
    assert tool["tool_call_id"] == "call_1"


@pytest.mark.parametrize(("said", "sent"), [("boom", "Error: boom"), ("Error: boom", "Error: boom"), ("", "Error: ")])
def test_a_tool_error_says_that_it_is_one(said: str, sent: str) -> None:
    """The status of a tool's result is told to the model, once."""
    assert one(ToolMessage(said, tool_call_id="c", status="error"))["content"] == sent


def test_images_of_tool_results_follow_all_results() -> None:
    """Results stay together; their images come in a user message that says whose they are."""
    picture = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    wire = request_messages(
        [
            calling(),
            ToolMessage([{"type": "text", "text": "A chart."}, picture], tool_call_id="call_1"),
            ToolMessage("3", tool_call_id="call_2"),
            HumanMessage("What is it?"),
        ]
    )
    assert [message["role"] for message in wire] == ["assistant", "tool", "tool", "user", "user"]
    assert wire[1]["content"] == "A chart."
    assert wire[3]["content"] == [{"type": "text", "text": "From the result of tool call call_1:"}, PICTURE]
    last = request_messages([calling(), ToolMessage([picture], tool_call_id="call_1")])
    assert [message["role"] for message in last] == ["assistant", "tool", "user"]
    assert last[1]["content"] == "(see the next message)"


def test_tool_results_in_user_messages_become_tool_messages() -> None:
    """Anthropic's histories have results as blocks of the user's message."""
    content: Any = [
        {"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "3"}], "is_error": True},
        {"type": "text", "text": "And now?"},
    ]
    assert request_messages([HumanMessage(content)]) == [
        {"role": "tool", "content": "Error: 3", "tool_call_id": "call_1"},
        {"role": "user", "content": "And now?"},
    ]
    assert len(request_messages([HumanMessage(content[:1])])) == 1


def test_what_is_no_message_is_refused() -> None:
    """A marker for a history is nothing to send."""
    with pytest.raises(RequestRefusedError, match="RemoveMessage"):
        request_messages([RemoveMessage(id="1")])


def test_the_callers_messages_are_not_changed() -> None:
    """Translation leaves the history as it was."""
    history = [calling(content=["Let me see."]), ToolMessage([{"type": "text", "text": "3"}], tool_call_id="call_1")]
    before = [message.model_copy(deep=True) for message in history]
    request_messages(history, echo_reasoning=True)
    assert history == before
