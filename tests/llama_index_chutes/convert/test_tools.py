"""Tools: what is sent, what comes back, and that no call is lost, broken or run too early."""

from __future__ import annotations

import asyncio
import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.tools import FunctionTool

from chutes_core import Delta, Kind, MalformedReplyError, RequestRefusedError, ToolCallDelta
from chutes_core.reply.guard import StreamGuard
from chutes_core.testing import Answer
from llama_index_chutes._convert.messages import chat_response
from llama_index_chutes._convert.stream import ChatDraft
from tests.llama_index_chutes.rigs import HELLO, TOOLS, Outcome, gather, rig

WITH_TOOLS = ["chat_with_tools", "stream_chat_with_tools", "achat_with_tools", "astream_chat_with_tools"]
CALLING = Answer("", tool_calls=[("add", {"a": 1, "b": 2})], pieces=3)
TWO = Answer("Both.", tool_calls=[("add", {"a": 1, "b": 2}), ("pay", {"amount": 3, "to": "bob"})])


def call(llm: Any, method: str, **kwargs: Any) -> Outcome:
    return gather(llm, method, **{"tools": TOOLS, "chat_history": HELLO, **kwargs})


def selected(llm: Any, response: Any) -> list[tuple[str, dict[str, Any]]]:
    calls = llm.get_tool_calls_from_response(response, error_on_no_tool_call=False)
    return [(each.tool_name, each.tool_kwargs) for each in calls]


@pytest.mark.parametrize("method", WITH_TOOLS)
def test_a_call(method: str) -> None:
    """The tools go out as JSON schemas, the call comes back with its id and arguments."""
    made = rig([CALLING])
    last = call(made.llm, method).last
    assert [tool["function"]["name"] for tool in made.bodies[0]["tools"]] == ["add", "pay"]
    assert set(made.bodies[0]["tools"][0]["function"]["parameters"]["properties"]) == {"a", "b"}
    (selection,) = made.llm.get_tool_calls_from_response(last)
    assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("call_0", "add", {"a": 1, "b": 2})


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.parametrize("method", WITH_TOOLS)
def test_no_call_of_several_is_lost(method: str, parallel: bool) -> None:
    """Every call that came is there, also when only one was wished for; the engine is told the wish."""
    made = rig([TWO])
    last = call(made.llm, method, allow_parallel_tool_calls=parallel).last
    assert selected(made.llm, last) == [("add", {"a": 1, "b": 2}), ("pay", {"amount": 3, "to": "bob"})]
    assert last.message.content == "Both."
    assert made.bodies[0].get("parallel_tool_calls") == (None if parallel else False)


@pytest.mark.parametrize("method", ["stream_chat_with_tools", "astream_chat_with_tools"])
def test_a_call_is_complete_only_in_the_last_chunk(method: str) -> None:
    """Before its end a call has its arguments as text, which grows, and is not given out as one to run."""
    made = rig([CALLING])
    *before, last = call(made.llm, method).chunks
    texts = [chunk.message.blocks[-1].tool_kwargs for chunk in before]
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == '{"a": 1, "b": 2}'
    assert [selected(made.llm, chunk) for chunk in before] == [[]] * len(before)
    assert selected(made.llm, last) == [("add", {"a": 1, "b": 2})]


def piece(index: int, arguments: str, name: str | None = None) -> ToolCallDelta:
    return ToolCallDelta(index, f"call_{index}" if name else None, name, arguments)


def test_two_calls_in_one_chunk_and_interleaved_deltas() -> None:
    """Pieces of several calls in one delta, and in turns, each reach their own call."""
    draft = ChatDraft()
    draft.add(Delta(tool_calls=[piece(0, '{"a"', "add"), piece(1, '{"amount"', "pay")]))
    draft.add(Delta(tool_calls=[piece(1, ": 3}")]))
    last = draft.add(Delta(tool_calls=[piece(0, ": 1}")]))
    assert last is not None
    blocks: list[Any] = last.message.blocks
    assert [(block.tool_name, block.tool_call_id, block.tool_kwargs) for block in blocks] == [
        ("add", "call_0", '{"a": 1}'),
        ("pay", "call_1", '{"amount": 3}'),
    ]


def test_the_draft_agrees_with_the_guard() -> None:
    """What the chunks show at last is what the whole message says."""
    answer = Answer("Both.", reasoning="hm", tool_calls=TWO.tool_calls)
    guard, draft, last = StreamGuard(), ChatDraft(), None
    for chunk in answer.chunks("acme/one"):
        for delta in guard.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n"):
            last = draft.add(delta) or last
    guard.close()
    assert last is not None
    final = chat_response(guard.reply)
    assert [type(block) for block in last.message.blocks] == [type(block) for block in final.message.blocks]
    assert last.message.content == final.message.content == "Both."


@pytest.mark.parametrize("method", WITH_TOOLS)
def test_choices(method: str) -> None:
    """Required, a mode, a tool by its name, and None as the framework's programs pass it."""
    for given, sent in [
        ({}, None),
        ({"tool_choice": None, "tool_required": True}, "required"),
        ({"tool_choice": "none"}, "none"),
        ({"tool_choice": "any"}, "required"),
        ({"tool_choice": "pay", "tool_required": True}, {"type": "function", "function": {"name": "pay"}}),
    ]:
        made = rig([CALLING])
        call(made.llm, method, **given)
        assert made.bodies[0].get("tool_choice") == sent
    with pytest.raises(RequestRefusedError, match="'add', 'pay'"):
        rig().llm.chat_with_tools(TOOLS, chat_history=HELLO, tool_choice="sell")


@pytest.mark.parametrize("method", WITH_TOOLS)
def test_the_history_is_not_changed(method: str) -> None:
    """A message of the user is added to a copy of the history."""
    made, history = rig([CALLING]), [ChatMessage("Hi"), ChatMessage(role="assistant", content="Hello")]
    before = copy.deepcopy(history)
    call(made.llm, method, chat_history=history, user_msg="Add 1 and 2.")
    assert history == before
    assert [message["content"] for message in made.bodies[0]["messages"]] == ["Hi", "Hello", "Add 1 and 2."]


def test_without_tools_nothing_is_said_of_them() -> None:
    """An empty list of tools is none."""
    made = rig([Answer("Hi")])
    made.llm.chat_with_tools([], user_msg="Hi", tool_required=True)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(made.bodies[0])


def test_no_call_is_an_error_where_one_is_demanded() -> None:
    """The default of the framework's contract."""
    made = rig([Answer("No.")])
    with pytest.raises(ValueError, match="called no tool"):
        made.llm.get_tool_calls_from_response(made.llm.chat(HELLO))


class Broken(Answer):
    """A whole answer whose tool call has arguments that are no JSON."""

    def deltas(self) -> list[dict[str, object]]:
        function = {"name": "pay", "arguments": '{"amount": 10'}
        return [{"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": function}]}]


def test_an_invalid_call_is_an_error_and_not_a_lost_one() -> None:
    """Arguments that are no JSON are neither run as `{}` nor dropped: who asks for the calls is told."""
    made = rig([Broken("")])
    last = gather(made.llm, "stream_chat", HELLO).last
    assert not any(isinstance(block, ToolCallBlock) for block in last.message.blocks)
    with pytest.raises(MalformedReplyError, match=r"'pay'.*not valid JSON") as caught:
        made.llm.get_tool_calls_from_response(last, error_on_no_tool_call=False)
    assert caught.value.kind is Kind.MALFORMED
    assert caught.value.partial == '{"amount": 10'
    assert caught.value.partial_reply is not None
    assert caught.value.partial_reply.usage is not None


@pytest.mark.parametrize("method", ["predict_and_call", "apredict_and_call"])
def test_predict_and_call(method: str) -> None:
    """The framework runs what the model called."""
    made = rig([CALLING])
    result: Any = getattr(made.llm, method)(TOOLS, user_msg="Add 1 and 2.")
    answer = asyncio.run(result) if method.startswith("a") else result
    assert (answer.response, answer.sources[0].raw_output) == ("3", 3)


@pytest.mark.parametrize("method", ["predict_and_call", "apredict_and_call"])
def test_predict_and_call_of_several(method: str) -> None:
    """Both calls are run where that is allowed."""
    made = rig([TWO])
    result: Any = getattr(made.llm, method)(TOOLS, user_msg="Do both.", allow_parallel_tool_calls=True)
    answer = asyncio.run(result) if method.startswith("a") else result
    assert answer.response == "3\n\npaid 3 to bob"


def test_a_result_of_a_tool_goes_back() -> None:
    """The round of call and result, as an agent makes it."""
    made = rig([CALLING, Answer("It is 3.")])
    first = made.llm.chat_with_tools(TOOLS, chat_history=HELLO).message
    result = ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "call_0"})
    made.llm.chat_with_tools(TOOLS, chat_history=[*HELLO, first, result])
    _, call_message, result_message = made.bodies[1]["messages"]
    assert call_message["tool_calls"][0]["id"] == result_message["tool_call_id"] == "call_0"
    assert len(call_message["tool_calls"]) == 1


def test_long_descriptions_are_sent() -> None:
    """The limit of 1,024 characters is another service's."""

    def noop() -> None:
        """Do nothing."""

    tool = FunctionTool.from_defaults(noop, description="x" * 2000)
    made = rig([CALLING])
    made.llm.chat_with_tools([tool], user_msg="Hi")
    assert len(made.bodies[0]["tools"][0]["function"]["description"]) == 2000
