"""A chat request as the gateway takes it: every rule, and nothing that was not asked for."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.traits import Traits
from chutes_core.errors import RequestRefusedError
from chutes_core.request.chat import ChatParams, ChatRequest, build_chat_request

HELLO = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object", "properties": {"pattern": {"type": "string", "pattern": "^a"}}, "required": ["pattern"]}
TAKEN = {
    "$ref": "#/$defs/answer",
    "$defs": {"answer": {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}},
}
CLEAN = {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}


def build(model: str = "acme/one", *, stream: bool = False, infos: Any = (), **params: Any) -> ChatRequest:
    return build_chat_request(HELLO, model, params, stream=stream, infos=infos)


def sent(model: str = "acme/one", **params: Any) -> dict[str, Any]:
    """What the body has beyond the bare minimum."""
    body = build(model, **params).body
    return {key: value for key, value in body.items() if key not in ("model", "messages", "stream")}


# ------------------------------------------------------------------------------------------------ model strings


def test_a_known_name_is_taken_as_it_is() -> None:
    """A model of the catalogue whose name looks like a list, or like a suffix, is that model."""
    for name in ("acme/a,b", "acme/odd:latency"):
        request = build(name, infos=[ModelInfo(id=name)])
        assert (request.model, request.body["model"]) == (name, name)


# ------------------------------------------------------------------------------------------------ what is sent


def test_the_least_request() -> None:
    """Model, messages and a real truth value for stream: nothing is invented."""
    assert build().body == {"model": "acme/one", "messages": HELLO, "stream": False}
    assert build(stream=True).body == {
        "model": "acme/one",
        "messages": HELLO,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


UNSET: dict[str, Any] = dict.fromkeys(ChatParams.__annotations__)


@pytest.mark.parametrize("stream", [False, True])
def test_none_is_unset(stream: bool) -> None:
    """A parameter that is None is not sent, whichever it is."""
    assert build(stream=stream, **UNSET).body == build(stream=stream).body


PASSED: dict[str, Any] = {
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 40,
    "min_p": 0.1,
    "min_tokens": 1,
    "presence_penalty": 0,
    "frequency_penalty": -1,
    "repetition_penalty": 1.1,
    "length_penalty": 1.0,
    "stop_token_ids": [1],
    "include_stop_str_in_output": False,
    "ignore_eos": True,
    "skip_special_tokens": False,
    "spaces_between_special_tokens": False,
    "seed": 0,
    "best_of": 2,
    "logit_bias": {"5": -100},
    "user": "u",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "guided_choice": ["yes", "no"],
    "guided_grammar": "root ::= 'x'",
    "structured_outputs": {"choice": ["yes", "no"]},
    "response_format": {"type": "json_object"},
    "chat_template_kwargs": {"custom": 1},
    "continue_final_message": True,
    "add_generation_prompt": False,
    "metadata": {"k": "v"},
    "stop": "END",
    "n": 2,
}


@pytest.mark.parametrize(("name", "value"), PASSED.items())
def test_what_is_given_is_sent_as_it_is(name: str, value: Any) -> None:
    """Zero and False are values, and a tool's schema keeps its patterns."""
    params: dict[str, Any] = {name: copy.deepcopy(value)}
    assert sent(**params) == {name: value}


def test_a_tuple_of_stops_is_a_list() -> None:
    """The body is plain JSON."""
    assert sent(stop=("a", "b")) == {"stop": ["a", "b"]}


def test_store_is_dropped() -> None:
    """Chutes keeps nothing, so the wish to store is not sent."""
    assert sent(store=True) == sent(store=False) == {}


def test_stream_options_belong_to_a_stream() -> None:
    """They are sent with a stream as they were given, and left out of any other request, which they would break."""
    options = {"include_usage": True, "continuous_usage_stats": False}
    assert build(stream=True, stream_options=options).body["stream_options"] == options
    assert sent(stream_options=options) == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("temprature", "Did you mean 'temperature'.*extra_body={'temprature': ...}"),
        ("zzz", r"^Unknown parameter 'zzz'\. To send it all the same: extra_body={'zzz': ...}"),
        ("stream", "the method you call decides"),
        ("model", "the method you call decides"),
        ("messages", "the method you call decides"),
        ("guided_regex", "describe the format with a JSON schema"),
    ],
)
def test_an_unknown_parameter_is_refused(name: str, words: str) -> None:
    """A misspelt or foreign parameter is an error that knows the way."""
    with pytest.raises(RequestRefusedError, match=words):
        build_chat_request(HELLO, "acme/one", {name: "x"})


def test_none_is_no_wish() -> None:
    """What others call something that is not here is not asked for with None; a misspelt name stays an error."""
    assert sent(service_tier=None, guided_regex=None) == {}
    with pytest.raises(RequestRefusedError, match="Did you mean 'temperature'"):
        sent(temprature=None)


def test_what_happens_anyway_may_be_asked_for() -> None:
    """A foreign parameter whose value changes nothing is not sent, and no error."""
    assert sent(stream_usage=True, service_tier="auto", modalities=["text"]) == {}
    with pytest.raises(
        RequestRefusedError, match=r"^Unknown parameter 'stream_usage'\. Every stream ends with its usage"
    ):
        sent(stream_usage=False)


@pytest.mark.parametrize(
    ("wish", "thinks"),
    [
        ({"effort": "low"}, {"thinking": True, "enable_thinking": True, "reasoning_effort": "low"}),
        ({"effort": "none"}, {"thinking": False, "enable_thinking": False}),
        ({"enabled": True, "exclude": False}, {"thinking": True, "enable_thinking": True}),
        ({"enabled": False, "effort": "high"}, {"thinking": False, "enable_thinking": False}),
    ],
)
def test_reasoning_as_others_ask_for_it(wish: dict[str, object], thinks: dict[str, object]) -> None:
    """An effort within a mapping is one."""
    assert sent(reasoning=wish) == {"chat_template_kwargs": thinks}


@pytest.mark.parametrize("name", ["summary", "max_tokens", "exclude", "verbosity"])
def test_reasoning_that_is_not_to_be_had(name: str) -> None:
    """Whatever else is in such a mapping is refused with what to do."""
    with pytest.raises(RequestRefusedError, match=r"effort|reasoning=False"):
        sent(reasoning={"effort": "low", name: 1})


def test_headers_and_query_of_a_call_are_not_in_the_body() -> None:
    """They are kept beside it, and not shown."""
    request = build(extra_headers={"X-Tenant": "s3cr3t"}, extra_query={"tenant": "s3cr3t"})
    assert not {"extra_headers", "extra_query"} & request.body.keys()
    assert (request.headers, request.query) == ({"X-Tenant": "s3cr3t"}, {"tenant": "s3cr3t"})
    assert "s3cr3t" not in repr(request)


def test_unknown_fields_travel_in_extra_body() -> None:
    """What the library does not know goes along untouched, and has the last word; the stream is not its to change."""
    body = build(temperature=1.0, extra_body={"temperature": 0.5, "top_a": 1, "stream": True}).body
    assert body == {"model": "acme/one", "messages": HELLO, "temperature": 0.5, "top_a": 1, "stream": False}


def test_extra_body_does_not_undo_a_thinking_switch() -> None:
    """Template switches given there join those chosen by a parameter instead of silently replacing them."""
    body = build("acme/one:THINKING", extra_body={"chat_template_kwargs": {"custom": 1}}).body
    assert body["chat_template_kwargs"] == {"thinking": True, "enable_thinking": True, "custom": 1}
    assert sent(extra_body={"chat_template_kwargs": {"custom": 1}}) == {"chat_template_kwargs": {"custom": 1}}


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"extra_body": "x=1"}, "extra_body must be a mapping"),
        ({"chat_template_kwargs": "x=1"}, "chat_template_kwargs must be a mapping"),
        ({"n": 0}, "n must be a positive whole number, not 0"),
        ({"n": "2"}, "n must be a positive"),
        ({"n": True}, "n must be a positive"),
    ],
)
def test_values_that_make_no_sense(params: dict[str, Any], words: str) -> None:
    """They are refused by name."""
    with pytest.raises(RequestRefusedError, match=words):
        build(**params)


def test_logprobs_are_warned_of() -> None:
    """The gateway drops them silently; the caller is told, and they are sent all the same."""
    wishes: list[dict[str, Any]] = [{"logprobs": True}, {"logprobs": True, "top_logprobs": 3}, {"top_logprobs": 3}]
    for params in wishes:
        request = build(**params)
        assert ["logprobs" in note for note in request.notes] == [True]
        assert sent(**params) == params
    assert build(logprobs=False).notes == ()


# ------------------------------------------------------------------------------------------------ max_tokens


def test_the_modern_name_becomes_the_one_the_gateway_reads() -> None:
    """max_completion_tokens is sent as max_tokens; both together must agree."""
    assert sent(max_completion_tokens=5) == sent(max_tokens=5) == {"max_tokens": 5}
    assert sent(max_completion_tokens=5, max_tokens=5) == {"max_tokens": 5}
    with pytest.raises(RequestRefusedError, match="but differ"):
        build(max_completion_tokens=5, max_tokens=6)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "5"])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_number_of_tokens_must_be_one(name: str, value: Any) -> None:
    """Anything but a positive whole number is refused."""
    with pytest.raises(RequestRefusedError, match="max_tokens must be a positive whole number"):
        build_chat_request(HELLO, "acme/one", {name: value})


@pytest.mark.parametrize(
    ("infos", "wanted", "limit"),
    [
        ([], 10**9, 10**9),
        ([ModelInfo(id="a")], 10**9, 10**9),
        ([ModelInfo(id="a", max_output=100)], 100, 100),
        ([ModelInfo(id="a", max_output=100)], 101, 100),
        ([ModelInfo(id="a", max_output=100), ModelInfo(id="b", max_output=50), ModelInfo(id="c")], 101, 50),
        ([ModelInfo(id="a", context_length=5, max_output=None)], 101, 101),
    ],
)
def test_max_tokens_keeps_within_what_every_model_can_give(infos: list[ModelInfo], wanted: int, limit: int) -> None:
    """It is lowered, with a note, to the smallest limit known; what is unknown, or hopeless anyway, limits nothing."""
    request = build(infos=infos, max_tokens=wanted)
    assert request.body["max_tokens"] == limit
    assert bool(request.notes) == (limit != wanted)
    assert all(f"max_tokens={wanted}" in note and f"{limit} is sent" in note for note in request.notes)


def test_nothing_is_sent_where_nothing_was_wished() -> None:
    """A known window does not become a default."""
    assert "max_tokens" not in build(infos=[ModelInfo(id="a", context_length=40960, max_output=40960)]).body


@pytest.mark.parametrize("tools", [None, [{"type": "function", "function": {"name": "f", "description": "d" * 3000}}]])
@pytest.mark.parametrize("length", [1, 3000])
def test_the_window_holds_prompt_and_answer(length: int, tools: object) -> None:
    """max_tokens of the whole window leaves room for the messages and for the tools."""
    messages = [{"role": "user", "content": "x" * length}]
    info = ModelInfo(id="a", context_length=40960)
    request = build_chat_request(messages, "a", {"max_tokens": 40960, "tools": tools}, infos=[info])
    left = request.body["max_tokens"]
    assert isinstance(left, int)
    text = length + (len(json.dumps(tools)) if tools else 0)
    assert 40960 - text - 8 <= left <= 40960 - text // 3


# ------------------------------------------------------------------------------------------------ thinking


def switches(on: bool, **more: object) -> dict[str, Any]:
    return {"chat_template_kwargs": {"thinking": on, "enable_thinking": on, **more}}


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("a", {}, {}),
        ("a", {"reasoning": True}, switches(True)),
        ("a", {"reasoning": False}, switches(False)),
        ("a", {"reasoning": "none"}, switches(False)),
        ("a", {"reasoning": "low"}, switches(True, reasoning_effort="low")),
        ("a", {"reasoning_effort": "high"}, switches(True, reasoning_effort="high")),
        ("a", {"reasoning_effort": "none"}, switches(False)),
        ("a", {"reasoning": True, "reasoning_effort": "high"}, switches(True, reasoning_effort="high")),
        ("a", {"reasoning": "high", "reasoning_effort": "high"}, switches(True, reasoning_effort="high")),
        ("a", {"reasoning": False, "reasoning_effort": "none"}, switches(False)),
        ("a:THINKING", {}, switches(True)),
        ("a,b:THINKING", {}, switches(True)),
        ("a:THINKING", {"reasoning_effort": "low"}, switches(True, reasoning_effort="low")),
        ("a:THINKING", {"reasoning": False}, switches(False)),
        ("a", {"reasoning": True, "chat_template_kwargs": {"custom": 1}}, switches(True, custom=1)),
        (
            "a",
            {"reasoning": "low", "chat_template_kwargs": {"reasoning_effort": "max"}},
            switches(True, reasoning_effort="max"),
        ),
        ("a", {"chat_template_kwargs": {"thinking": True}}, {"chat_template_kwargs": {"thinking": True}}),
    ],
)
def test_thinking(model: str, params: dict[str, Any], expected: dict[str, Any]) -> None:
    """Every way to ask becomes the switches that all models read; the caller's own template switches win."""
    assert sent(model, **params) == expected


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"reasoning": "lots"}, "^reasoning must be True, False or one of none, minimal.*not 'lots'"),
        ({"reasoning": 1.5}, "^reasoning must be"),
        ({"reasoning_effort": "lots"}, "^reasoning_effort must be one of none, .*not 'lots'"),
        ({"reasoning": True, "reasoning_effort": "lots"}, "^reasoning_effort must be"),
        ({"reasoning": False, "reasoning_effort": "high"}, "contradict"),
        ({"reasoning": True, "reasoning_effort": "none"}, "contradict"),
        ({"reasoning": "low", "reasoning_effort": "high"}, "contradict"),
    ],
)
def test_thinking_that_cannot_be_meant(params: dict[str, Any], words: str) -> None:
    """Unknown and contradicting wishes are refused."""
    with pytest.raises(RequestRefusedError, match=words):
        build(**params)


@pytest.mark.parametrize(
    ("traits", "params", "starts"),
    [
        ([], {}, False),
        ([True], {}, True),
        ([True, True], {}, True),
        ([True, False], {}, False),
        ([True, None], {}, False),
        ([True], {"response_format": {"type": "json_object"}}, False),
        ([True], {"guided_choice": ["yes", "no"]}, False),
    ],
)
def test_answers_that_begin_inside_the_reasoning(
    traits: list[bool | None], params: dict[str, Any], starts: bool
) -> None:
    """Only if every model that may answer begins so, and the form of the answer is free, is text read as reasoning."""
    infos = [ModelInfo(id=f"m{number}", traits=Traits(starts_thinking=trait)) for number, trait in enumerate(traits)]
    assert build(infos=infos, **params).starts_thinking is starts


# ------------------------------------------------------------------------------------------------ schemas


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": TAKEN}}},
        ),
        ({"guided_json": SCHEMA}, {"guided_json": CLEAN}),
        ({"structured_outputs": {"json": SCHEMA}}, {"structured_outputs": {"json": TAKEN}}),
    ],
)
def test_patterns_are_taken_out_of_schemas(params: dict[str, Any], expected: dict[str, Any]) -> None:
    """The caller's schema stays as it is, and a note tells. A property that is named so stays, where it is taken."""
    before = copy.deepcopy(params)
    (note,) = build(**params).notes
    assert sent(**params) == expected
    assert params == before
    assert "1 of them was removed" in note


def test_what_cannot_be_sent_so_that_it_is_taken_is_told() -> None:
    """A schema with references to elsewhere than its definitions is sent as it is."""
    schema = {"properties": {"pattern": {"type": "string"}, "again": {"$ref": "#"}}}
    (note,) = build(structured_outputs={"json": schema}).notes
    assert "a property named 'pattern'" in note
    assert sent(structured_outputs={"json": schema}) == {"structured_outputs": {"json": schema}}


def test_several_patterns_are_counted() -> None:
    """One note counts them all."""
    schema = {"type": "array", "items": {"anyOf": [{"pattern": "a"}, {"pattern": "b"}]}}
    (note,) = build(guided_json=schema).notes
    assert "2 of them were removed" in note


def test_an_answer_by_regular_expression_is_refused() -> None:
    """There is nothing to send instead, so the error proposes a schema."""
    with pytest.raises(RequestRefusedError, match="describe the format with a JSON schema"):
        build(structured_outputs={"regex": "[a-z]+"})


# ------------------------------------------------------------------------------------------------ messages and the rest


def test_many_images_are_the_gateways_concern_alone() -> None:
    """Its limit on remote images does not hold for those that are fetched here."""
    parts = [{"type": "image_url", "image_url": {"url": f"https://pictures.test/{number}"}} for number in range(9)]
    messages = [{"role": "user", "content": parts}]
    with pytest.raises(RequestRefusedError, match="at most 8 remote images"):
        build_chat_request(messages, "a", {})
    assert build_chat_request(messages, "a", {}, inline=True).body["messages"] == messages


def test_one_strict_template_is_enough() -> None:
    """System messages are joined when any of the models that may answer needs it, and only then."""
    messages = [{"role": "system", "content": "One."}, {"role": "system", "content": "Two."}, *HELLO]
    strict = ModelInfo(id="b", traits=Traits(single_system=True))
    request = build_chat_request(messages, "a,b", {}, infos=[ModelInfo(id="a"), strict])
    assert request.body["messages"] == [{"role": "system", "content": "One.\n\nTwo."}, *HELLO]
    assert build_chat_request(messages, "a", {}, infos=[ModelInfo(id="a")]).body["messages"] == messages


@pytest.mark.parametrize(
    ("params", "choices", "allow_empty"),
    [
        ({}, 1, False),
        ({"n": 3}, 3, False),
        ({"extra_body": {"n": 2}}, 2, False),
        ({"stop": "END"}, 1, True),
        ({"stop": []}, 1, False),
        ({"stop_token_ids": [7]}, 1, True),
        ({"extra_body": {"stop": "END"}}, 1, True),
    ],
)
def test_what_the_answer_may_be(params: dict[str, Any], choices: int, allow_empty: bool) -> None:
    """How many answers to expect, and whether an empty one is whole, follow from what is sent."""
    request = build(**params)
    assert (request.choices, request.allow_empty) == (choices, allow_empty)
    assert (request.stream, build(stream=True).stream) == (False, True)


@given(
    st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in PASSED.items()}),
    st.booleans(),
    st.sampled_from(["acme/one", "a,b:latency", "a:THINKING"]),
)
def test_the_callers_values_are_never_changed(params: dict[str, Any], stream: bool, model: str) -> None:
    """A request is JSON, and building it leaves parameters and messages as they were."""
    before = copy.deepcopy((HELLO, params))
    body = build_chat_request(HELLO, model, params, stream=stream).body
    assert (HELLO, params) == before
    assert json.loads(json.dumps(body)) == body


def test_an_empty_list_of_tools_is_not_sent() -> None:
    """Engines refuse an empty list: it means no tools, and so no choice among them."""
    body = build_chat_request(
        [{"role": "user", "content": "Hi"}],
        "acme/one",
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
    ).body
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(body)
