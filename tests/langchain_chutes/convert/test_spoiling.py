"""The sum of a tool call's pieces is what the core says it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.utils.json import parse_partial_json

from chutes_core.reply.assemble import ChoiceDraft, ToolDraft
from chutes_core.reply.call_pieces import CallPieces
from chutes_core.reply.think import ThinkSplitter
from chutes_core.response import ToolCallDelta
from chutes_core.testing import Answer, Fault
from langchain_chutes._convert.spoiling import spoiled, spoiler
from tests.effort import HOSTILE, WORST, assert_linear
from tests.langchain_chutes.models import call, scripted

PAYING = Answer("", tool_calls=[("pay", {"amount": 1000, "to": "alice"})], pieces=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.integers(0, 200), st.sampled_from(["", "\\", "\\u", '"'])
)
def test_a_spoiled_text_is_never_an_object(value: dict[str, object], cut: int, tail: str) -> None:
    """Wherever arguments are cut, what is appended keeps LangChain from completing them."""
    text = json.dumps(value)[:cut] + tail
    assert not text + spoiler(text) or not _is_object(text + spoiler(text))


@given(JSON)
def test_a_spoiled_text_is_no_json(value: object) -> None:
    """Whole JSON of any kind is none any more."""
    text = json.dumps(value)
    with pytest.raises(ValueError, match=r"Extra|Expecting"):
        json.loads(text + spoiler(text))


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_a_whole_call_streams_in_pieces_and_is_valid(mode: str) -> None:
    """Arguments arrive piece by piece, and their sum is the call."""
    outcome = call(mode, [PAYING])
    assert outcome.message is not None
    assert sum(bool(chunk.tool_call_chunks) for chunk in outcome.chunks) > 3
    (made,) = outcome.message.tool_calls
    assert (made["name"], made["args"], made["id"]) == ("pay", {"amount": 1000, "to": "alice"}, "call_0")


def _with_arguments(
    monkeypatch: pytest.MonkeyPatch, text: str, *, name: str | None = "pay", call_id: str | None
) -> None:
    """Let the scripted model write these arguments, as they are."""

    def deltas(self: Answer) -> list[dict[str, object]]:
        half = len(text) // 2
        head = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": text[:half]}}
        return [{"tool_calls": [head]}, {"tool_calls": [{"index": 0, "function": {"arguments": text[half:]}}]}]

    monkeypatch.setattr(Answer, "deltas", deltas)


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
@pytest.mark.parametrize(
    "text", ['{"amount": 1000, "to": "al', '{"amount": 1', "{", '{"a": }', "[1, 2]", '"no object"', "7"]
)
def test_a_call_cut_at_the_length_limit_is_invalid(monkeypatch: pytest.MonkeyPatch, text: str, mode: str) -> None:
    """An answer may end at its limit in the middle of a call: that is a whole answer with an invalid call."""
    _with_arguments(monkeypatch, text, call_id="call_7")
    outcome = call(mode, [Answer(finish_reason="length")])
    assert outcome.error is None
    assert outcome.message is not None
    assert outcome.message.tool_calls == []
    (invalid,) = outcome.message.invalid_tool_calls
    assert (invalid["name"], invalid["id"]) == ("pay", "call_7")
    assert (invalid["args"] or "").startswith(text)
    assert "call_7" in outcome.message.response_metadata["tool_call_errors"]


@pytest.mark.filterwarnings("ignore:The method `BaseChatModel._a?chat_model_stream_v3` is in beta")
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("text", ["[1]", "null", "7", '"no object"', '{"amount": 1', ""])
def test_the_event_protocol_shows_an_invalid_call_as_such(
    monkeypatch: pytest.MonkeyPatch, text: str, asynchronous: bool
) -> None:
    """LangChain's events of version 3 end with the message, whatever the model wrote for arguments."""
    _with_arguments(monkeypatch, text, call_id="call_7")
    model: Any = scripted([Answer(finish_reason="tool_calls")]).model

    async def output() -> Any:
        return await (await model.astream_events("Pay.", version="v3")).output

    message = asyncio.run(output()) if asynchronous else model.stream_events("Pay.", version="v3").output
    assert len(message.invalid_tool_calls) == bool(text)
    assert [made["args"] for made in message.tool_calls] == [{}] * (not text)


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_a_call_without_a_name_is_invalid(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Whole arguments for no tool are no call."""
    _with_arguments(monkeypatch, '{"amount": 1}', name=None, call_id="call_7")
    outcome = call(mode, [Answer(finish_reason="stop")])
    assert outcome.message is not None
    assert outcome.message.tool_calls == []
    assert len(outcome.message.invalid_tool_calls) == 1


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
@pytest.mark.parametrize("text", [r'"{\"amount\": 1000}"', '  {"amount": 1000}'])
def test_arguments_encoded_twice_and_calls_without_an_id_come_out_whole(
    monkeypatch: pytest.MonkeyPatch, text: str, mode: str
) -> None:
    """What the core understands, LangChain sees too, with the id that the core gave."""
    _with_arguments(monkeypatch, text, call_id=None)
    outcome = call(mode, [Answer(finish_reason="tool_calls")])
    assert outcome.message is not None
    (made,) = outcome.message.tool_calls
    assert (made["name"], made["args"]) == ("pay", {"amount": 1000})
    assert made["id"] == "call_chatcmpl-0_0"


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
@pytest.mark.parametrize("kind", ["restart", "no_finish", "error_line", "reset"])
def test_a_stream_that_breaks_inside_a_call_never_says_that_it_ended(kind: str, mode: str) -> None:
    """The pieces so far are no call: the error comes, and no last chunk."""
    outcome = call(mode, [Fault(kind, after=4, answer=PAYING)])
    assert outcome.error is not None
    assert all(chunk.chunk_position is None for chunk in outcome.chunks)


# ---------------------------------------------------------------------------------- arguments that are meant to harm


def _streamed(text: str) -> tuple[list[str], list[str]]:
    """The arguments of a call as they are shown, one character of them at a time, and what LangChain may parse."""
    tools = CallPieces(spoiled)
    pieces = [piece for character in text for piece in tools.step([ToolCallDelta(0, None, None, character)])]
    draft = ChoiceDraft(0, ThinkSplitter(), tools={0: ToolDraft("call_7", "pay", [text])}, finish_reason="tool_calls")
    pieces += tools.end(draft.finished("1"))
    return [piece.arguments for piece in pieces], [piece.arguments for piece in pieces if piece.parsed]


@pytest.mark.parametrize("hostile", WORST)
def test_showing_arguments_takes_as_long_as_they_are(hostile: str) -> None:
    """And what LangChain parses of them, each time anew, is short or the beginning of an object."""
    assert_linear(_streamed, HOSTILE[hostile])
    shown, parsed = _streamed(HOSTILE[hostile](3_000))
    assert all(len(text) <= 400 or text.lstrip().startswith("{") for text in parsed)
    assert len(shown) < 500


@pytest.mark.parametrize("hostile", HOSTILE)
def test_arguments_that_are_no_object_are_an_invalid_call(monkeypatch: pytest.MonkeyPatch, hostile: str) -> None:
    """Whole and in a stream, with all that the model wrote, and never an exception of LangChain's or Python's."""
    text = HOSTILE[hostile](3_000)
    _with_arguments(monkeypatch, text, call_id="call_7")
    for mode in ("sync-stream", "async-stream"):
        outcome = call(mode, [Answer(finish_reason="tool_calls")])
        assert outcome.message is not None
        if not text.strip():
            continue
        assert outcome.message.tool_calls == []
        (invalid,) = outcome.message.invalid_tool_calls
        assert len(invalid["args"] or "") >= len(text)


@given(
    st.dictionaries(st.text(max_size=60), JSON, max_size=6).map(json.dumps),
    st.integers(1, 40),
    st.booleans(),
)
def test_whatever_is_shown_adds_up(text: str, size: int, cut: bool) -> None:
    """The pieces of a call are its arguments, or those and what keeps LangChain from completing them."""
    text = text[: len(text) // 2] if cut else text
    tools = CallPieces(spoiled)
    deltas = [text[start : start + size] for start in range(0, len(text), size)]
    shown = [piece.arguments for delta in deltas for piece in tools.step([ToolCallDelta(0, None, None, delta)])]
    draft = ChoiceDraft(0, ThinkSplitter(), tools={0: ToolDraft("call_7", "pay", [text])}, finish_reason="tool_calls")
    choice = draft.finished("1")
    total = "".join(shown + [piece.arguments for piece in tools.end(choice)])
    if choice.tool_calls:
        assert json.loads(total) == json.loads(text or "{}")
    elif text:
        assert not _is_object(total)


def _is_object(text: str) -> bool:
    """Whether LangChain takes a text for arguments."""
    try:
        return isinstance(parse_partial_json(text), dict)
    except ValueError:
        return False


@given(st.text(alphabet='{}[]",:\\ab 1', max_size=60), st.integers(0, 60))
def test_a_long_text_is_spoiled_at_the_front(text: str, shown: int) -> None:
    """What was shown is the beginning of an object, and what follows cannot make it whole."""
    beginning = '{"a": [{"b": "' + "c" * 400
    rest = spoiled(beginning + text, len(beginning) - min(shown, 400))
    total = beginning[: len(beginning) - min(shown, 400)] + rest
    assert not _is_object(total)
