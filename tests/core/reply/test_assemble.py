"""Replies in one piece: what is read, what is refused, and that they equal their streamed twins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import ReplyMeta, ToolCall, Usage
from chutes_core.reply import assemble
from chutes_core.reply.assemble import ToolDraft, parse_reply
from chutes_core.testing import Answer
from tests.core.clients import call


def body(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(
    lambda text: text.strip() and "</think>" not in text and not text.lstrip().startswith("<")
)


@given(
    answer=st.builds(
        Answer,
        text=TEXT,
        reasoning=TEXT | st.just(""),
        tool_calls=st.lists(
            st.tuples(st.just("pay"), st.dictionaries(st.sampled_from("ab"), st.integers())), max_size=2
        ),
        reasoning_field=st.sampled_from(["reasoning_content", "reasoning"]),
        pieces=st.integers(1, 5),
    )
)
def test_a_whole_reply_and_its_stream_are_the_same(answer: Answer) -> None:
    """What a model says comes out alike, in one piece or streamed."""
    whole, streamed = (call(mode, [answer]).reply for mode in ("sync-whole", "sync-stream"))
    assert whole is not None
    assert streamed is not None
    for name in ("content", "reasoning", "tool_calls", "invalid_tool_calls", "finish_reason", "usage", "meta", "model"):
        assert getattr(whole, name) == getattr(streamed, name), name


def test_unknown_fields_are_kept() -> None:
    """What the service adds at any level is in extra."""
    reply = parse_reply(
        {
            **body({"content": "Hi", "name": "guide", "audio": None}, chutes_verification="f00d"),
            "created": 7,
        }
    )
    assert reply.extra == {"chutes_verification": "f00d"}
    assert reply.choices[0].extra == {"name": "guide"}
    assert reply.created == 7


@pytest.mark.parametrize(
    ("message", "reasoning", "content"),
    [
        ({"content": "Hi", "reasoning_content": "hm"}, "hm", "Hi"),
        ({"content": "Hi", "reasoning": "hm"}, "hm", "Hi"),
        ({"content": "Hi", "reasoning": "hm", "reasoning_content": "hm"}, "hm", "Hi"),
        ({"content": "<think>hm</think>\n\nHi", "reasoning_content": ""}, "hm", "Hi"),
        ({"content": "hm\n</think>\n\nHi"}, "hm\n", "Hi"),
        ({"content": "<think>never closed"}, "never closed", ""),
        ({"content": "the tag </think> closes"}, "", "the tag </think> closes"),
        ({"content": "<think>tag</think>", "reasoning": "hm"}, "hm", "<think>tag</think>"),
        ({"content": None, "reasoning_content": "hm"}, "hm", ""),
    ],
)
def test_reasoning_is_found_in_every_form(message: dict[str, Any], reasoning: str, content: str) -> None:
    """Either field, tags, a closing tag alone on its line; a tag inside the answer stays there."""
    reply = parse_reply(body(message))
    assert (reply.reasoning, reply.content) == (reasoning, content)


def test_tool_calls_are_valid_or_said_not_to_be() -> None:
    """Arguments as text, as an object, doubly encoded, absent or broken are each read for what they are."""
    arguments = ['{"a": 1}', {"a": 1}, '"{\\"a\\": 1}"', None, "", "{", "[1]"]
    calls = [{"id": f"i{n}", "function": {"name": "pay", "arguments": each}} for n, each in enumerate(arguments)]
    reply = parse_reply(body({"content": None, "tool_calls": calls}))
    assert [each.args for each in reply.tool_calls] == [{"a": 1}] * 3 + [{}] * 2
    assert [(each.id, each.arguments) for each in reply.invalid_tool_calls] == [("i5", "{"), ("i6", "[1]")]
    assert reply.finish_reason == "tool_calls"


def test_a_call_cut_before_its_arguments_is_invalid() -> None:
    """An answer that reached its length limit after the tool's name has no call to run."""
    call = {"id": "i", "function": {"name": "delete_orders", "arguments": ""}}
    reply = parse_reply(body({"content": None, "tool_calls": [call]}, "length"))
    assert reply.tool_calls == ()
    assert [each.name for each in reply.invalid_tool_calls] == ["delete_orders"]


@pytest.mark.parametrize(
    "value",
    [
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": 1, "b": 2, "a": 3}',
        '{"a": "b\nc"}',
        '"just text"',
        '{"a":' * 20_000,
    ],
)
def test_strange_arguments_do_not_pass_as_objects(value: str) -> None:
    """A text that is no object, or not JSON to every program, is no arguments."""
    reply = parse_reply(body({"tool_calls": [{"id": "i", "function": {"name": "pay", "arguments": value}}]}))
    assert reply.tool_calls == ()
    assert [call.arguments for call in reply.invalid_tool_calls] == [value]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [7]},
        {"choices": [{"index": 0}]},
        body({"content": 7}),
        body({"content": None, "tool_calls": [7]}),
        body({"content": None, "tool_calls": [{"id": "x"}]}),
        body({"content": "Hi", "reasoning": {"effort": "low"}}),
        body({"content": "Hi"}, {"stop": True}),
        body({"content": "Hi"}, usage={"prompt_tokens": -1}),
        {"choices": [{"index": 1, "message": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [{"index": "0", "message": {"content": "a"}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {"content": each}, "finish_reason": "stop"} for each in "ab"]},
        {"choices": [{"message": {"content": each}, "finish_reason": "stop"} for each in "ab"]},
    ],
)
def test_what_is_no_reply_is_refused(broken: dict[str, Any]) -> None:
    """A body without choices, messages or the known forms is an error by name."""
    with pytest.raises(ValueError, match=r".+"):
        parse_reply(broken)


def test_several_choices_come_by_their_index() -> None:
    """Choices in any order are sorted, and one without an index takes its place."""
    choices = [
        {
            "index": 1,
            "message": {"content": "b"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "b", "logprob": -1}]},
        },
        {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"},
    ]
    reply = parse_reply({"choices": choices}, choices=2)
    assert [choice.content for choice in reply.choices] == ["a", "b"]
    assert reply.choices[1].logprobs == {"content": [{"token": "b", "logprob": -1}]}
    assert parse_reply({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}).choices[0].index == 0


def test_an_empty_reply_value_has_empty_answers() -> None:
    """A partial reply without a choice answers every question with nothing."""
    from chutes_core import Reply

    reply = Reply(None, None, ())
    assert (reply.content, reply.reasoning, reply.tool_calls, reply.invalid_tool_calls, reply.finish_reason) == (
        "", "", (), (), None,
    )  # fmt: skip


def test_headers_are_read_whatever_their_case() -> None:
    """The service's headers become values; unreadable ones are None."""
    meta = ReplyMeta.parse(
        {
            "X-Chutes-InvocationID": "abc",
            "x-chutes-quota-total": "200",
            "X-CHUTES-QUOTA-USED": "1",
            "X-Chutes-Quota-Remaining": "many",
            "X-Chutes-RL-User": "inf",
            "X-Chutes-Invoice-Billing": "true",
            "Server": "x",
        }
    )
    assert meta == ReplyMeta("abc", 200, 1, None, "inf", None, True)


def test_values_are_compared_and_shown_as_values() -> None:
    """Replies are plain values."""
    assert ToolCall("i", "n", '{"a": 2}').args == {"a": 2}
    assert parse_reply(body({"content": "Hi"}, usage={"prompt_tokens": 1, "completion_tokens": 1})).usage == Usage(
        1, 1, 2
    )


@given(st.dictionaries(TEXT, TEXT | st.lists(TEXT, max_size=2), max_size=3), st.lists(st.integers(1, 9), min_size=1))
def test_arguments_are_an_object_when_they_have_ended(value: dict[str, Any], sizes: list[int]) -> None:
    """However they come: not before their last brace, and from then on, whatever is in their strings."""
    written, draft, asked = "  " + json.dumps(value), ToolDraft(), []
    while written:
        size = sizes[len(asked) % len(sizes)]
        draft.arguments.append(written[:size])
        written = written[size:]
        asked.append(draft.is_object)
    assert asked == [False] * (len(asked) - 1) + [True]
    assert ToolDraft(arguments=["".join(draft.arguments)]).is_object


def test_each_piece_of_arguments_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is asked about with each of its pieces costs what it is long."""
    looked_at, marks = [], assemble._MARKS

    class Counting:
        def findall(self, text: str) -> list[str]:
            looked_at.append(text)
            return marks.findall(text)

    monkeypatch.setattr(assemble, "_MARKS", Counting())
    draft = ToolDraft(arguments=['{"a": "'])
    for _ in range(1_000):
        draft.arguments.append("}")
        assert not draft.is_object
    assert len("".join(looked_at)) == len("".join(draft.arguments))


@pytest.mark.parametrize("arguments", [[], [""], [" "], ['"{}"'], ["[{}]"], ["{", "["], ["x{}"]])
def test_what_is_no_object_is_none(arguments: list[str]) -> None:
    """Nothing, a string, a list, what has not ended."""
    assert not ToolDraft(arguments=arguments).is_object
