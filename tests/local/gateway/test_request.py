"""From a body to a job: guardrails and the engine's own checks."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_local.gateway.request import chat_job, check_gateway, has_pattern, parse_json, text_job, wants_stream
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import Chute, Fleet

MODEL, VISION, EMPTY_ROW = (
    "Qwen/Qwen3-32B-TEE",
    "google/gemma-4-31B-turbo-TEE",
    "unsloth/Mistral-Nemo-Instruct-2407-TEE",
)
USER = [{"role": "user", "content": "hi"}]


def chute(name: str = MODEL) -> Chute:
    found = Fleet.load().find(name)
    assert found
    return found


def job(name: str = MODEL, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return chat_job({"messages": USER, **body}, chute(name), headers or {}, thinking=False)


def refusal(error: pytest.ExceptionInfo[Refused]) -> tuple[int, str]:
    return error.value.answer.status, error.value.answer.body.decode()


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff"])
def test_a_body_must_be_json(raw: bytes) -> None:
    """Anything else is a 400 that says so."""
    with pytest.raises(Refused, match=r"400.*Invalid request JSON"):
        parse_json(raw)


def test_a_body_that_is_no_object_is_more_than_the_service_expects() -> None:
    """It answers as its framework does where nothing else does."""
    with pytest.raises(Refused, match=r"500 Internal Server Error"):
        parse_json(b"[1]")


@pytest.mark.parametrize("value", [None, "true", 1, "yes"])
def test_stream_must_be_a_boolean(value: object) -> None:
    """For any other value, null included, the service finds no cord."""
    assert wants_stream({"stream": True}) is True
    assert wants_stream({}) is False
    with pytest.raises(Refused, match=r"404.*No matching cord found!"):
        wants_stream({"stream": value})


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"properties": {"a": {"type": "string", "pattern": "x"}}}, False),
        ({"properties": {"a": {"items": {"pattern": "x"}}}}, False),
        ({"anyOf": [{"items": {"pattern": "x"}}]}, True),
        ({"$defs": {"A": {"pattern": "x"}}}, False),
        ({"properties": {"pattern": {"type": "string"}}}, True),
        ({"properties": {"items": {"type": "string", "pattern": "x"}}}, True),
        ({"items": {"pattern": "x"}}, True),
        ({"items": [1, {"not": {"pattern": "x"}}]}, True),
        ({"enum": [{"pattern": "x"}]}, False),
    ],
)
def test_patterns_are_found_where_the_service_looks_for_them(schema: object, found: bool) -> None:
    """It follows some keywords, takes the map of properties for a schema, and looks into none of them."""
    assert has_pattern(schema) is found


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"pattern": "x"}}}}, "'pattern' fields"),
        ({"structured_outputs": {"json": {"pattern": "x"}}}, "'pattern' fields"),
        ({"structured_outputs": {"json": '{"pattern": "x"}'}}, "'pattern' fields"),
        ({"guided_regex": "x"}, "Regex-based structured output is temporarily disabled."),
        ({"structured_outputs": {"regex": "x"}}, "Regex-based structured output is temporarily disabled."),
        ({"messages": [{"role": "user", "content": [{"type": "file"}]}]}, "File content not currently supported"),
    ],
)
def test_the_gateways_guardrails(body: dict[str, object], phrase: str) -> None:
    """Regular expressions and files are refused in the service's words."""
    with pytest.raises(Refused) as error:
        check_gateway({"messages": USER, **body})
    status, text = refusal(error)
    assert status == 400
    assert phrase in text


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        ({"messages": []}, "at least one message"),
        ({"messages": "hi"}, "a list of objects"),
        ({"temperature": 3}, "temperature must be in [0, 2], got 3."),
        ({"temperature": "hot"}, "temperature must be in"),
        ({"top_p": 1.5}, "top_p must be in"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"n": 0}, "n must be a whole number of at least 1"),
        ({"response_format": {"type": "json_schema"}}, "json_schema with a schema"),
        ({"response_format": {"type": "xml"}}, "json_object, or json_schema"),
        ({"response_format": "json_object"}, "json_object, or json_schema"),
    ],
)
def test_the_engines_limits(body: dict[str, object], phrase: str) -> None:
    """What the engine would refuse is refused, nested in the gateway's text."""
    with pytest.raises(Refused) as error:
        job(**body)
    status, text = refusal(error)
    assert status == 400
    assert "Invalid request: Invalid request: " in text
    assert phrase in text


def test_prompt_and_answer_must_fit_the_window() -> None:
    """Their sum beyond the window is a 400 in the engine's words; exactly the window passes."""
    fits = 40960 - job().prompt_tokens
    assert job(max_tokens=fits).request.max_tokens == fits
    with pytest.raises(Refused, match="maximum context length of 40960 tokens"):
        job(max_tokens=fits + 1)
    with pytest.raises(Refused, match="40960 tokens"):
        job(messages=[{"role": "user", "content": "x" * 4 * 41000}])


def test_settings_reach_the_engine() -> None:
    """Sampling settings are passed on; what is left out stays out, except an end."""
    request = job(temperature=0, top_p=0.5, top_k=3, seed=7, stop="END", max_completion_tokens=9).request
    assert (request.temperature, request.top_p, request.top_k, request.seed) == (0.0, 0.5, 3, 7)
    assert request.stop == ("END",)
    assert request.max_tokens == 9
    assert job().request.temperature is None
    assert job().request.max_tokens == 512


def test_structured_output_becomes_a_schema() -> None:
    """JSON mode and json_schema constrain the engine; text does not."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert job(response_format=asked).request.json_schema == schema
    assert job(response_format={"type": "json_object"}).request.json_schema == {"type": "object"}
    keys = job(
        messages=[{"role": "user", "content": "JSON with a `name`, please"}], response_format={"type": "json_object"}
    )
    assert keys.request.json_schema["required"] == ["name"]
    assert job(response_format={"type": "text"}).request.json_schema is None


def test_pictures_need_a_model_that_takes_them() -> None:
    """A text model refuses pictures, a vision model describes them, a row without facts may take them."""
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}]}]
    with pytest.raises(Refused, match="not a multimodal model"):
        job(messages=messages)
    assert "cannot see" in job(VISION, messages=messages).preface
    assert "cannot see" in job(EMPTY_ROW, messages=messages).preface


def test_headers_shape_one_request() -> None:
    """X-Local headers change the shape for this request, and refuse values that do not exist."""
    shaped = job(headers={"x-local-reasoning": "think", "x-local-tool-calls": "2", "x-local-tool-deltas": "whole"})
    assert shaped.reasoning == "think"
    assert (shaped.shape.tool_calls, shaped.shape.tool_deltas) == (2, "whole")
    with pytest.raises(Refused, match="X-Local header: reasoning must be one of"):
        job(headers={"x-local-reasoning": "loud"})
    with pytest.raises(Refused, match="tool_calls must be a whole number"):
        job(headers={"x-local-tool-calls": "many"})


def test_a_text_completion_takes_one_prompt() -> None:
    """One prompt, alone or in a list; several or none are refused."""
    assert text_job({"prompt": ["hi"]}, chute()).request.messages[0]["content"] == "hi"
    for prompt in (["a", "b"], "", None):
        with pytest.raises(Refused, match="one non-empty text"):
            text_job({"prompt": prompt}, chute())
