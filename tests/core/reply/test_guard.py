"""The stream guard: the same deltas from any split, a typed failure with exactly the delivered prefix from any cut."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core import (
    APIError,
    Delta,
    EmptyReplyError,
    Kind,
    RefusalError,
    Reply,
    StreamFailedError,
    StreamRestartedError,
    ThinkingLimitError,
    Usage,
)
from chutes_core.reply.guard import StreamGuard
from chutes_core.testing import Answer

MODEL = "acme/one"


def sse(*chunks: object, done: bool = True) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks) + (
        b"data: [DONE]\n\n" if done else b""
    )


def chunk(delta: Any = None, finish: str | None = None, *, id: str | None = "c1", index: int = 0, **more: Any) -> Any:
    return {"id": id, "choices": [{"index": index, "delta": delta or {}, "finish_reason": finish}], **more}


def play(data: bytes, cuts: list[int] | None = None, **options: Any) -> tuple[list[Delta], Reply]:
    guard = StreamGuard(model=MODEL, **options)
    deltas: list[Delta] = []
    edges = [0, *sorted(set(cuts or [])), len(data)]
    for start, end in pairwise(edges):
        deltas += guard.feed(data[start:end])
    deltas += guard.close()
    return deltas, guard.reply


def failing(data: bytes, **options: Any) -> tuple[list[Delta], APIError]:
    guard = StreamGuard(model=MODEL, **options)
    deltas: list[Delta] = []
    try:
        for delta in guard.feed(data):
            deltas.append(delta)
        for delta in guard.close():
            deltas.append(delta)
    except APIError as error:
        return deltas, error
    pytest.fail("it came out as a whole answer")


def text(deltas: list[Delta]) -> str:
    return "".join(delta.content for delta in deltas)


# --- any split, any cut ------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
ANSWERS = st.builds(
    Answer,
    text=TEXT.filter(str.strip),
    reasoning=TEXT,
    tool_calls=st.lists(
        st.tuples(st.sampled_from(["pay", "log"]), st.dictionaries(st.sampled_from("ab"), TEXT)), max_size=2
    ),
    pieces=st.integers(1, 9),
    reasoning_field=st.sampled_from(["reasoning_content", "reasoning"]),
)


@given(answer=ANSWERS, cuts=st.lists(st.integers(0, 20_000), max_size=30))
def test_no_split_changes_the_deltas(answer: Answer, cuts: list[int]) -> None:
    """However the network cuts a valid stream, the deltas and the reply are the same."""
    data = sse(*answer.chunks(MODEL))
    whole = play(data)
    assert play(data, [cut for cut in cuts if cut < len(data)]) == whole
    reply = whole[1]
    assert reply.reasoning == answer.reasoning
    assert [(call.name, call.args) for call in reply.tool_calls] == [(n, dict(a)) for n, a in answer.tool_calls]
    if not answer.text.lstrip().startswith("<"):
        assert reply.content == answer.text
    assert reply.usage == Usage.parse(answer.usage(len(answer.deltas())))


@settings(max_examples=100)
@given(answer=ANSWERS, share=st.floats(0, 1))
def test_any_cut_is_a_failure_with_exactly_what_was_delivered(answer: Answer, share: float) -> None:
    """Cut before its finish reason, a stream fails by type, and the failure holds the delivered prefix, no more."""
    data = sse(*answer.chunks(MODEL))
    last = data.index(b'"finish_reason": "' + answer.ending.encode())
    deltas, error = failing(data[: int(share * last)])
    assert error.kind in (Kind.TRUNCATED, Kind.EMPTY)
    assert error.partial == text(deltas)
    partial = error.partial_reply
    assert (partial.reasoning if partial else "") == "".join(delta.reasoning for delta in deltas)
    assert partial is None or partial.tool_calls == ()
    if not answer.text.lstrip().startswith("<"):
        assert answer.text.startswith(text(deltas))


@given(junk=st.binary(max_size=200))
def test_junk_is_never_an_answer(junk: bytes) -> None:
    """Bytes that are no stream give a typed failure and nothing else."""
    _, error = failing(junk)
    assert isinstance(error, APIError)


# --- what is whole -----------------------------------------------------------------------------------


def test_usage_is_the_last_and_not_the_sum() -> None:
    """With usage so far on every chunk, the last one counts."""
    deltas, reply = play(sse(*Answer("one two three four", pieces=4).chunks(MODEL)))
    assert reply.usage == Usage(11, 4, 15)
    assert [delta.usage for delta in deltas if delta.usage] == [Usage(11, 4, 15)]


def test_reasoning_tokens_are_found_in_either_place() -> None:
    """Both engines' places for reasoning and cached tokens are read."""
    top = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "reasoning_tokens": 4}
    nested = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "completion_tokens_details": {"reasoning_tokens": 4},
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert play(sse(chunk({"content": "x"}, "stop", usage=top)))[1].usage == Usage(1, 2, 3, 4, None)
    assert play(sse(chunk({"content": "x"}, "stop", usage=nested)))[1].usage == Usage(1, 2, 3, 4, 1)


def test_chunks_without_choices_are_no_matter() -> None:
    """Empty choices, null tool calls, null usage and foreign fields pass; the gateway's trace comes without choices."""
    _, reply = play(
        sse(
            {"id": "c1", "choices": [], "usage": None},
            {"id": "c1", "choices": [], "chutes_verification": "f00d"},
            {"trace": {"message": "identified 3 available targets"}},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
            chunk({"role": "assistant", "content": None, "tool_calls": None, "custom": 1}),
            chunk({"content": "Hi"}, "stop", metadata={"weight_version": "v1"}),
        )
    )
    assert reply.content == "Hi"
    assert reply.usage == Usage(3, 1, 4)
    assert reply.extra.keys() == {"chutes_verification", "trace", "metadata"}
    assert reply.choices[0].extra == {"custom": 1}


def test_several_choices_are_kept_apart() -> None:
    """With n answers each delta says which, and all of them have to finish."""
    data = sse(
        chunk({"content": "a"}),
        chunk({"content": "b"}, index=1),
        chunk({"content": "A"}, "stop"),
        chunk({"content": "B"}, "stop", index=1),
    )
    deltas, reply = play(data, choices=2)
    assert [(each.content, each.index) for each in reply.choices] == [("aA", 0), ("bB", 1)]
    assert [(delta.choice, delta.finish_reason) for delta in deltas if delta.finish_reason] == [
        (0, "stop"),
        (1, "stop"),
    ]
    assert failing(data, choices=3)[1].kind is Kind.TRUNCATED


def test_interleaved_tool_calls_come_together_by_index() -> None:
    """Argument pieces of two calls in any order, and two calls in one chunk, are each put to their own."""
    first = {"tool_calls": [_call(0, "a", "pay", '{"x"'), _call(1, "b", "log", '{"y"')]}
    deltas, reply = play(
        sse(
            chunk(first),
            chunk({"tool_calls": [_call(1, args=": 2}")]}),
            chunk({"tool_calls": [_call(0, args=": 1}")]}, "stop"),
        )
    )
    assert [(call.id, call.name, call.args) for call in reply.tool_calls] == [
        ("a", "pay", {"x": 1}),
        ("b", "log", {"y": 2}),
    ]
    assert [[step.index for step in delta.tool_calls] for delta in deltas if delta.tool_calls] == [[0, 1], [1], [0]]
    assert reply.finish_reason == "tool_calls"


def _call(index: int | None, id: str | None = None, name: str | None = None, args: Any = "") -> dict[str, Any]:
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": args}}


def test_a_name_that_comes_again_without_index_and_id_goes_on() -> None:
    """Until the arguments are an object, it is the same call: else its beginning would be a call without arguments."""
    pieces = [("pay", None), ("pay", '{"a":'), ("pay", " 1}"), ("pay", '{"a": 2}'), ("see", ""), ("see", "")]
    events = [chunk({"tool_calls": [_call(None, None, name, args)]}) for name, args in pieces]
    _, reply = play(sse(*events, chunk(None, "tool_calls")))
    assert [(call.name, call.args) for call in reply.tool_calls] == [
        ("pay", {"a": 1}),
        ("pay", {"a": 2}),
        ("see", {}),
        ("see", {}),
    ]


def test_tool_calls_without_an_index_are_told_apart_by_id() -> None:
    """An engine that leaves the index out is read by ids and order; id and name may repeat on every piece."""
    _, reply = play(
        sse(
            chunk({"tool_calls": [_call(None, "a", "pay", '{"x"')]}),
            chunk({"tool_calls": [_call(None, "a", "pay", ": 1}")]}),
            chunk({"tool_calls": [_call(None, "b", "log", '{"y"')]}),
            chunk({"tool_calls": [_call(None, args=": 2}")]}, "tool_calls"),
        )
    )
    assert [(call.name, call.args) for call in reply.tool_calls] == [("pay", {"x": 1}), ("log", {"y": 2})]


def test_arguments_as_an_object_are_taken() -> None:
    """An engine that sends arguments as JSON instead of text of it is understood."""
    _, reply = play(sse(chunk({"tool_calls": [_call(0, "a", "pay", {"x": 1})]}, "tool_calls")))
    assert reply.tool_calls[0].args == {"x": 1}


def test_a_tool_call_without_arguments_is_an_empty_object() -> None:
    """No arguments at all are valid for a tool that takes none, and a missing id is made up."""
    _, reply = play(sse(chunk({"tool_calls": [_call(0, None, "now")]}, "tool_calls")))
    assert reply.tool_calls[0].args == {}
    assert reply.tool_calls[0].id == "call_c1_0"


def test_a_call_cut_before_its_arguments_is_invalid() -> None:
    """Engines send the name first: where the answer ends there, nobody knows what was to be done."""
    _, reply = play(sse(chunk({"tool_calls": [_call(0, "a", "delete_orders", " ")]}, "length")))
    assert reply.tool_calls == ()
    assert "cut" in (reply.invalid_tool_calls[0].error or "")


def test_a_late_id_and_name_complete_a_call() -> None:
    """A name that comes after the first piece is added, once."""
    deltas, reply = play(
        sse(
            chunk({"tool_calls": [_call(0, None, None, "")]}),
            chunk({"tool_calls": [_call(0, "a", "pay", "{}")]}),
            chunk({"tool_calls": [_call(0, "a", "pay", "")]}, "tool_calls"),
        )
    )
    assert (reply.tool_calls[0].id, reply.tool_calls[0].name) == ("a", "pay")
    assert [step.name for delta in deltas for step in delta.tool_calls] == [None, "pay"]


@pytest.mark.parametrize("arguments", ["{", "[1]", "7", '{"a": 1} extra'])
def test_broken_arguments_are_an_invalid_call_and_not_an_error(arguments: str) -> None:
    """What the model itself wrote wrong is handed on as invalid, never as a call to run."""
    _, reply = play(sse(chunk({"tool_calls": [_call(0, "a", "pay", arguments)]}, "tool_calls")))
    assert reply.tool_calls == ()
    assert reply.invalid_tool_calls[0].arguments == arguments
    assert reply.invalid_tool_calls[0].error


def test_a_call_of_no_tool_is_invalid() -> None:
    """A call without a name is invalid."""
    _, reply = play(sse(chunk({"tool_calls": [_call(0, "a", None, "{}")]}, "tool_calls")))
    assert "names no tool" in (reply.invalid_tool_calls[0].error or "")


def test_logprobs_come_together() -> None:
    """Log probabilities of the steps are one list at the end."""
    steps = [{"content": [{"token": token, "logprob": -1}]} for token in "ab"]
    data = sse(
        {"id": "c1", "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": steps[0]}]},
        {
            "id": "c1",
            "choices": [{"index": 0, "delta": {"content": "b"}, "logprobs": steps[1], "finish_reason": "stop"}],
        },
    )
    assert play(data)[1].choices[0].logprobs == {"content": [*steps[0]["content"], *steps[1]["content"]]}


def test_a_role_on_every_delta_is_no_restart() -> None:
    """Engines that name the role each time, or again beside a tool call, are taken at their word."""
    every = [chunk({"role": "assistant", "content": piece}) for piece in ("a", "b")]
    assert play(sse(*every, chunk({"role": "assistant", "content": ""}, "stop")))[1].content == "ab"
    call = {"role": "assistant", "tool_calls": [_call(0, "x", "pay", "{}")]}
    assert play(sse(chunk({"content": "a"}), chunk(call, "tool_calls")))[1].content == "a"


def test_length_is_a_whole_answer() -> None:
    """An answer that the token limit ended is whole and says so."""
    reply = play(sse(chunk({"content": "a"}, "length")))[1]
    assert (reply.finish_reason, reply.truncated) == ("length", True)
    assert not play(sse(chunk({"content": "a"}, "stop")))[1].truncated


def test_nothing_after_the_end_counts() -> None:
    """After [DONE], or after the last finish reason from another machine, nothing is part of the answer."""
    data = sse(chunk({"content": "a"}, "stop"))
    assert play(data + sse(chunk({"content": "b"}, id="c2")))[1].content == "a"
    late = sse(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, id="c2"), done=False)
    assert play(late)[1].content == "a"
    for tail in (b'{"error": "late"}', b'data: {"error": "late"}\n\n', b"data: {nonsense\n\n", b"<html>\n"):
        assert play(sse(chunk({"content": "a"}, "stop"), done=False) + tail)[1].content == "a"


def test_a_last_event_without_its_blank_line_counts() -> None:
    """A complete event at the end is read although its line end is missing."""
    data = sse(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), done=False).rstrip(b"\n")
    assert play(data)[1].content == "ab"


def test_an_empty_answer_is_taken_only_where_it_may_be_one() -> None:
    """Finished without a word is a failure, unless a stop sequence may have ended it at once."""
    data = sse(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"))
    assert isinstance(failing(data)[1], EmptyReplyError)
    assert play(data, allow_empty=True)[1].content == ""


def test_text_held_back_for_a_tag_is_given_out_at_the_end() -> None:
    """An answer that looks like the beginning of a tag arrives."""
    deltas, reply = play(sse(chunk({"content": "<th"}, "stop")))
    assert text(deltas) == reply.content == "<th"


def test_a_tool_call_ends_the_search_for_tags() -> None:
    """Text that was held back comes out with the tool call that follows it."""
    data = sse(chunk({"content": "<th"}), chunk({"tool_calls": [_call(0, "a", "pay", "{}")]}, "tool_calls"))
    deltas, reply = play(data)
    assert (text(deltas), reply.content, reply.reasoning) == ("<th", "<th", "")


def test_a_tool_call_inside_reasoning_leaves_the_reasoning_whole() -> None:
    """What was held back inside an unclosed thought stays part of the thought."""
    data = sse(chunk({"content": "<think>hm</thi"}), chunk({"tool_calls": [_call(0, "a", "pay", "{}")]}, "tool_calls"))
    _, reply = play(data)
    assert (reply.reasoning, reply.content) == ("hm</thi", "")


def test_reasoning_without_its_opening_tag() -> None:
    """A model whose template opens the tag begins inside its reasoning."""
    data = sse(chunk({"content": "hm</thi"}), chunk({"content": "nk>\n\nYes"}, "stop"))
    _, reply = play(data, starts_thinking=True)
    assert (reply.reasoning, reply.content) == ("hm", "Yes")


ALL = ["stop", "length", "tool_calls", "eos"]


@pytest.mark.parametrize("reason", ALL)
@pytest.mark.parametrize("allowed", [False, True])
def test_an_answer_has_text_or_a_call(reason: str, allowed: bool) -> None:
    """However it ends; only a stop sequence may leave nothing, where there is one."""
    for said in ({}, {"content": " \n"}):
        data = sse(chunk({"role": "assistant", **said}), chunk({}, reason))
        if allowed and reason == "stop":
            assert play(data, allow_empty=True)[1].finish_reason == "stop"
        else:
            assert failing(data, allow_empty=allowed)[1].kind is Kind.EMPTY


@pytest.mark.parametrize("reason", ALL)
@pytest.mark.parametrize("thought", [{"reasoning_content": "hm"}, {"reasoning": "hm"}, {"content": "<think>hm"}])
def test_reasoning_alone_is_no_answer(reason: str, thought: dict[str, str]) -> None:
    """What was thought is in the failure; where the limit was reached on the way, it says so."""
    _, error = failing(sse(chunk(thought), chunk({}, reason)))
    assert isinstance(error, ThinkingLimitError) == (reason == "length")
    assert isinstance(error, EmptyReplyError)
    assert error.partial_reply is not None
    assert (error.partial_reply.reasoning, error.partial) == ("hm", "")
    assert ("max_tokens" in str(error)) == (reason == "length")


def test_a_refusal_is_not_lost() -> None:
    """A model that refuses, and a filter that cuts, are errors that say so; beside an answer a refusal is kept."""
    _, error = failing(sse(chunk({"refusal": "I can"}), chunk({"refusal": "not."}, "stop")))
    assert isinstance(error, RefusalError)
    assert error.refusal == "I cannot."
    assert "I cannot." in str(error)
    _, error = failing(sse(chunk({"content": "The bomb"}), chunk({}, "content_filter")))
    assert isinstance(error, RefusalError)
    assert (error.partial, error.refusal) == ("The bomb", "")
    assert "content_filter" in str(error)
    assert play(sse(chunk({"content": "Hi", "refusal": "no"}, "stop")))[1].choices[0].refusal == "no"


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ({"finish_reason": ["stop"]}, "finish_reason is a list, not text"),
        ({"finish_reason": {"a": 1}}, "finish_reason is an object, not text"),
        ({"index": "0"}, r"choices\[\].index is text, not a whole number"),
        ({"index": None}, r"choices\[\].index is missing"),
        ({"index": 1}, "choice 1 was not asked for"),
        ({"index": -1}, r"choices\[\].index is out of range"),
        ({"logprobs": [1]}, "logprobs is a list"),
        ({"logprobs": {"content": [1]}}, r"logprobs.content\[0\] is a number"),
        ({"logprobs": {"content": [{"token": None, "logprob": -1}]}}, r"logprobs.content\[\].token is null"),
        ({"logprobs": {"content": [{"token": "a"}]}}, r"logprobs.content\[\].logprob is null"),
        ({"delta": {"content": "b", "role": 7}}, "delta.role is a number"),
        ({"delta": {"content": "b", "reasoning": {}}}, "reasoning is an object"),
        ({"delta": {"content": "b", "tool_calls": [{"index": -1}]}}, r"tool_calls\[\].index is out of range"),
    ],
)
def test_a_field_that_does_not_fit_is_named(field: dict[str, Any], said: str) -> None:
    """Every value has its type, or the stream fails by name, with exactly what was delivered before."""
    choice = {"index": 0, "delta": {"content": "b"}, "finish_reason": None, **field}
    deltas, error = failing(sse(chunk({"content": "a"}), {"id": "c1", "choices": [choice]}, chunk({}, "stop")))
    assert error.kind is Kind.MALFORMED
    assert re.search(said, str(error))
    assert error.partial == text(deltas) == "a"


@pytest.mark.parametrize("value", [7, ["x"], {"a": 1}, True])
@pytest.mark.parametrize("name", ["id", "model", "created", "usage"])
def test_the_head_of_a_chunk_is_read_as_strictly(name: str, value: object) -> None:
    """An id, a model, a time or usage of another type is no such thing; a time may be any whole number."""
    if (name, value) == ("created", 7) or (name == "usage" and isinstance(value, dict)):
        value = "yesterday"
    assert failing(sse(chunk({"content": "a"}), chunk({"content": "b"}, "stop", **{name: value})))[1].kind in (
        Kind.MALFORMED,
    )


def test_usage_that_cannot_be_read_is_not_taken_for_another() -> None:
    """Neither the sum so far nor nothing stands in for a count that makes no sense."""
    _, error = failing(sse(chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": 1}),
                           chunk({}, "stop", usage={"prompt_tokens": 1, "completion_tokens": "2"})))  # fmt: skip
    assert error.kind is Kind.MALFORMED
    assert "usage.completion_tokens" in str(error)
    assert error.partial == "a"


# --- what is not whole -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "second",
    [
        chunk({"content": "He"}, id="c2"),
        chunk({"role": "assistant", "content": ""}),
        chunk({"role": "assistant", "tool_calls": [_call(0, "a", "pay", "{")]}),
        chunk({"role": "assistant", "content": "He", "tool_calls": [_call(0, None, None, "{")]}),
        chunk({"tool_calls": [_call(0, "b", "pay", "{")]}),
        chunk({"tool_calls": [_call(0, "a", "other", "{")]}),
    ],
)
def test_a_second_beginning_is_a_restart(second: Any) -> None:
    """Another id, another opening role, or a tool call opened again: the answer is not one."""
    before = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel", "tool_calls": [_call(0, "a", "pay", "{")]}),
    ]
    deltas, error = failing(sse(*before, chunk({"content": "lo"}), second))
    assert isinstance(error, StreamRestartedError)
    assert error.partial == text(deltas) == "Hello"


@pytest.mark.parametrize("again", ["", "{", ' {"amount": 12}'])
def test_a_call_that_is_named_and_begun_again_is_a_restart(again: str) -> None:
    """Under the same id and name, as engines that count their calls give them, and without a role."""
    first = [chunk({"tool_calls": [_call(0, "pay:0", "pay", "")]}), chunk({"tool_calls": [_call(0, args='{"amount"')]})]
    _, error = failing(sse(*first, chunk({"tool_calls": [_call(0, "pay:0", "pay", again)]}), chunk({}, "tool_calls")))
    assert isinstance(error, StreamRestartedError)


def test_a_call_that_is_named_in_its_last_piece_goes_on() -> None:
    """Some engines name a call once more with what is left of its arguments."""
    pieces = [_call(0, "a", "pay", ""), _call(0, args='{"amount": '), _call(0, "a", "pay", "12}")]
    _, reply = play(sse(*(chunk({"tool_calls": [each]}) for each in pieces), chunk({}, "tool_calls")))
    assert reply.tool_calls[0].args == {"amount": 12}


@pytest.mark.parametrize(
    "rows",
    [
        [chunk({"content": "a"}), chunk({"content": "b"}, "stop", index=1)],
        [chunk({"content": "a"}, "stop", index=1)],
        [chunk({"content": "a"}, "stop", index=-1)],
        [{"id": "c1", "choices": [chunk({"content": each}, "stop")["choices"][0] for each in "ab"]}],
    ],
)
def test_a_choice_that_was_not_asked_for_is_an_error(rows: list[Any]) -> None:
    """Nothing is joined to an answer that is not of it."""
    _, error = failing(sse(*rows))
    assert error.kind is Kind.MALFORMED
    assert "choice" in str(error)


def test_an_answer_that_goes_on_after_its_end_is_refused() -> None:
    """Text after the finish reason of the same answer belongs to something else."""
    assert failing(sse(chunk({"content": "a"}, "stop"), chunk({"content": "b"})))[1].kind is Kind.RESTARTED


@pytest.mark.parametrize("glued", [b"", b"\n", b'data: {"id": "c1", "choices": [{"del'])
def test_a_bare_error_line_is_seen(glued: bytes) -> None:
    """The gateway's bare error is found on a line of its own and straight after half an event."""
    bare = b'{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}'
    deltas, error = failing(sse(chunk({"content": "Hel"}), done=False) + glued + bare)
    assert isinstance(error, StreamFailedError)
    assert (error.partial, text(deltas)) == ("Hel", "Hel")
    assert "exhausted all available targets" in str(error)


@pytest.mark.parametrize(
    ("code", "message", "before", "after"),
    [
        (500, "the engine died", Kind.UPSTREAM, Kind.STREAM_ERROR),
        (503, "No instances available (yet)", Kind.COLD, Kind.STREAM_ERROR),
        (429, "Infrastructure is at maximum capacity", Kind.CAPACITY, Kind.STREAM_ERROR),
        (400, "This model's maximum context length is 8 tokens", Kind.CONTEXT_LENGTH, Kind.CONTEXT_LENGTH),
        (None, "who knows", Kind.UPSTREAM, Kind.STREAM_ERROR),
    ],
)
def test_an_error_event_means_what_its_code_means(code: Any, message: str, before: Kind, after: Kind) -> None:
    """First in a stream an error is what it would be as a status; later it is a broken answer, or a bad request."""
    event = {"error": {"object": "error", "message": message, "code": code}}
    assert failing(sse(event))[1].kind is before
    _, error = failing(sse(chunk({"content": "a"}), event))
    assert error.kind is after
    assert error.partial == "a"
    assert error.status_code == code


def test_a_detail_instead_of_a_chunk_is_an_error() -> None:
    """The gateway's own error shape is one inside a stream too."""
    assert failing(sse({"detail": "No instances available (yet)"}))[1].kind is Kind.UPSTREAM


@pytest.mark.parametrize(
    "payload",
    [
        b"data: {broken\n\n",
        b"data: 7\n\n",
        b"data: \xff\xfe\n\n",
        b'{"choices": []}\n',
        b"<html>\n",
        b'data: {"choices": [], "x": NaN}\n\n',
        b'DATA: {"choices": []}\n\n',
        sse({"id": "c1"}),
        sse({"id": "c1", "choices": None}),
        sse({"id": "c1", "usage": {"prompt_tokens": 1}}),
        sse({"id": "c1", "choices": "no"}),
        sse({"id": "c1", "choices": [{"index": 0, "finish_reason": "stop"}]}),
        sse({"id": "c1", "choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}),
        sse({"id": "c1", "choices": [7]}),
        sse(chunk({"content": 7})),
        sse(chunk({"tool_calls": "no"})),
        sse(chunk({"tool_calls": [7]})),
        sse(chunk({"tool_calls": [{"function": "no"}]})),
    ],
)
def test_what_is_no_chunk_is_a_malformed_reply(payload: bytes) -> None:
    """Broken JSON, broken UTF-8, whole bodies and foreign forms are failures by name."""
    assert failing(payload)[1].kind is Kind.MALFORMED


def test_a_broken_transport_is_forgiven_only_after_the_end() -> None:
    """A reset after the finish reason costs nothing; before it, it is the failure."""
    guard = StreamGuard(model=MODEL)
    list(guard.feed(sse(chunk({"content": "a"}, "stop"), done=False)))
    assert list(guard.close(Kind.RESET, "reset"))[-1].finish_reason == "stop"
    guard = StreamGuard(model=MODEL)
    list(guard.feed(sse(chunk({"content": "a"}), done=False)))
    with pytest.raises(APIError, match="reset by peer") as caught:
        list(guard.close(Kind.RESET, "reset by peer"))
    assert caught.value.partial == "a"


def test_the_model_that_answered_names_a_failure_nobody_named() -> None:
    """Without a model of its own the guard says the one in the chunks."""
    guard = StreamGuard()
    list(guard.feed(sse(chunk({"content": "a"}, model="acme/two"), done=False)))
    with pytest.raises(APIError, match="acme/two: "):
        list(guard.close())


def test_many_deltas_cost_the_same_each() -> None:
    """The guard keeps no copy of the text so far per delta: what it holds grows by the delta alone."""
    guard = StreamGuard(model=MODEL)
    for number in range(2000):
        list(guard.feed(sse(chunk({"content": f"{number} "}), done=False)))
    assert guard.count == 2000
    assert guard.reply.content.split() == [str(number) for number in range(2000)]
