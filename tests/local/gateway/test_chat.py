"""Chat and text completion over HTTP, with the echo behind it."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import MODEL, OTHER, Ask, events, spoken

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name, description in (("get_weather", "The weather in a city"), ("get_time", "The time of day in a city"))
]


def detail(response: httpx.Response) -> Any:
    return response.json()["detail"]


def test_a_whole_reply(ask: Ask) -> None:
    """A reply names the model that answered, what it cost, and the extras of the service."""
    response = ask("one two")
    reply = response.json()
    assert reply["model"] == MODEL
    assert reply["choices"][0]["message"]["content"].endswith("You said: one two")
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"]
    assert reply["chutes_verification"]
    assert response.headers["content-type"] == "application/json"


def test_the_headers_of_a_good_answer(ask: Ask, server: LocalChutes) -> None:
    """A good answer has an invocation id, the quota, and the name of what is behind it; an error has none."""
    headers = ask().headers
    assert len(headers["X-Chutes-InvocationID"]) == 36
    assert headers["X-Chutes-Quota-Total"] == "5000"
    assert headers["X-Chutes-Quota-Used"] == "0"
    assert headers["X-Chutes-Quota-Remaining"] == "5000"
    assert headers["X-Local-Backend"] == server.world.backend.name
    assert not [name for name in ask(model="nobody").headers if name.startswith("x-chutes")]


def test_a_stream(ask: Ask) -> None:
    """A stream has one id, role first, usage that grows on every chunk, an end, a usage event, and [DONE]."""
    response = ask("one two", stream=True)
    chunks = events(response)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert chunks.pop() == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert spoken(chunks).endswith("You said: one two")
    totals = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]
    assert chunks[-1]["choices"] == []
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


def test_usage_cannot_be_switched_off(ask: Ask) -> None:
    """The gateway forces usage, whatever stream_options says."""
    chunks = events(ask(stream=True, stream_options={"include_usage": False}))
    assert chunks[-2]["usage"]["total_tokens"] > 0


def test_n_choices(ask: Ask) -> None:
    """Several choices come one after the other, and all of them are billed."""
    one, two = ask("hi").json(), ask("hi", n=2).json()
    assert [choice["index"] for choice in two["choices"]] == [0, 1]
    assert two["usage"]["completion_tokens"] == 2 * one["usage"]["completion_tokens"]
    chunks = events(ask("hi", n=2, stream=True))[:-1]
    assert {chunk["choices"][0]["index"] for chunk in chunks if chunk["choices"]} == {0, 1}


def test_max_tokens_and_stop_end_an_answer(ask: Ask) -> None:
    """A short limit ends with length, a stop text with stop."""
    assert ask(max_tokens=2).json()["choices"][0]["finish_reason"] == "length"
    stopped = ask("alpha beta", stop=["beta"]).json()["choices"][0]
    assert "beta" not in stopped["message"]["content"]
    assert stopped["finish_reason"] == "stop"


def test_logprobs_are_dropped_in_silence(ask: Ask) -> None:
    """logprobs and top_logprobs have no effect and no error."""
    response = ask(logprobs=True, top_logprobs=5)
    assert response.status_code == 200
    assert response.json()["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    ("form", "key"), [("reasoning_content", "reasoning_content"), ("reasoning", "reasoning"), ("think", "content")]
)
def test_reasoning_in_each_shape(ask: Ask, form: str, key: str) -> None:
    """The header asks for a shape, streamed and whole alike; reasoning is counted in the usage."""
    headers = {"X-Local-Reasoning": form}
    message = ask(headers=headers).json()["choices"][0]["message"]
    chunks = events(ask(headers=headers, stream=True))[:-1]
    streamed = "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks if c["choices"])
    assert "This is a rehearsal of reasoning" in message[key]
    assert streamed == message[key]
    assert message["content"].startswith("<think>\n") is (form == "think")
    assert chunks[-1]["usage"]["reasoning_tokens"] > 0


@pytest.mark.parametrize(
    ("model", "headers", "body"),
    [
        (f"{MODEL}:THINKING", {}, {}),
        (MODEL, {"X-Enable-Thinking": "true"}, {}),
        (MODEL, {}, {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)
def test_the_switches_of_thinking(ask: Ask, model: str, headers: dict[str, str], body: dict[str, object]) -> None:
    """Suffix, header and body each switch thinking on; this model shows it as tags."""
    reply = ask(model=model, headers=headers, **body).json()
    assert reply["model"] == MODEL
    assert reply["choices"][0]["message"]["content"].startswith("<think>")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(ask: Ask, stream: bool) -> None:
    """A required call comes back with JSON arguments that fit the schema."""
    response = ask("weather in Oslo", tools=TOOLS, tool_choice="required", stream=stream)
    if stream:
        chunks = [c["choices"][0] for c in events(response)[:-1] if c["choices"]]
        parts = [c["delta"]["tool_calls"][0] for c in chunks if c["delta"].get("tool_calls")]
        name, finish = parts[0]["function"]["name"], chunks[-1]["finish_reason"]
        arguments = "".join(part["function"]["arguments"] for part in parts)
    else:
        choice = response.json()["choices"][0]
        (call,), finish = choice["message"]["tool_calls"], choice["finish_reason"]
        name, arguments = call["function"]["name"], call["function"]["arguments"]
    assert name == "get_weather"
    assert set(json.loads(arguments)) == {"city"}
    assert finish == "tool_calls"


def test_the_choice_of_tools(ask: Ask) -> None:
    """A named tool is called, none calls none, auto calls what the question speaks of."""
    named = {"type": "function", "function": {"name": "get_time"}}

    def called(text: str, **choice: object) -> str | None:
        message = ask(text, tools=TOOLS, **choice).json()["choices"][0]["message"]
        calls = message["tool_calls"]
        return calls[0]["function"]["name"] if calls else None

    assert called("weather", tool_choice=named) == "get_time"
    assert called("weather", tool_choice="none") is None
    assert called("weather", tool_choice="auto") == "get_weather"
    assert called("weather") == "get_weather"
    assert called("Good morning") is None


def test_calls_at_once_alternate(ask: Ask) -> None:
    """On demand two tools are called at once, their fragments alternating."""
    headers = {"X-Local-Tool-Calls": "2", "X-Local-Tool-Deltas": "interleaved"}
    chunks = events(ask("weather", tools=TOOLS, tool_choice="required", stream=True, headers=headers))[:-1]
    parts = [
        c["choices"][0]["delta"]["tool_calls"][0]
        for c in chunks
        if c["choices"] and c["choices"][0]["delta"].get("tool_calls")
    ]
    assert [part["index"] for part in parts[:4]] == [0, 1, 0, 1]
    for place, name in ((0, "get_weather"), (1, "get_time")):
        mine = [part["function"] for part in parts if part["index"] == place]
        assert mine[0]["name"] == name
        assert json.loads("".join(part["arguments"] for part in mine)) == {
            "city": json.loads("".join(part["arguments"] for part in mine))["city"]
        }
    assert len({part["id"] for part in parts if part["id"]}) == 2


def test_a_call_cut_at_max_tokens_is_text(ask: Ask) -> None:
    """Half a call is no call: it ends with length."""
    choice = ask("weather", tools=TOOLS, tool_choice="required", max_tokens=1).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert not choice["message"]["tool_calls"]


def test_structured_output(ask: Ask) -> None:
    """A schema and JSON mode give JSON."""
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    asked = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    strict = ask(response_format=asked).json()["choices"][0]["message"]["content"]
    loose = ask(response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert isinstance(json.loads(strict)["age"], int)
    assert isinstance(json.loads(loose), dict)


def test_a_schema_no_engine_can_follow_is_a_400(ask: Ask) -> None:
    """A schema that cannot constrain an answer is refused, not ignored."""
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}
    response = ask(response_format=asked)
    assert response.status_code == 400
    assert "response_format" in detail(response)


def test_pictures_are_described_honestly(ask: Ask) -> None:
    """A vision request is answered with what is known of the picture, and that it was not seen."""
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 2, 3)
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    reply = ask(model=OTHER, messages=[{"role": "user", "content": content}]).json()
    text = reply["choices"][0]["message"]["content"]
    assert text.startswith("(The local model cannot see. It was sent: image/png, 2 x 3 pixels")


@pytest.mark.parametrize(
    ("body", "status", "phrase"),
    [
        ({"stream": None}, 404, "No matching cord found!"),
        ({"max_tokens": 40960}, 400, "maximum context length of 40960 tokens"),
        ({"guided_regex": "x"}, 400, "Regex-based structured output is temporarily disabled."),
        ({"messages": []}, 400, "at least one message"),
        ({"model": None}, 404, "No matching chute found!"),
        ({"temperature": 9}, 400, "temperature must be in"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(ask: Ask, body: dict[str, object], status: int, phrase: str, stream: bool) -> None:
    """Refusals have a status and a detail, streamed or not."""
    response = ask(**{"stream": stream, **body})
    assert response.status_code == status
    assert phrase in detail(response)


def test_text_completions(ask: Ask) -> None:
    """/v1/completions answers a prompt, whole and streamed."""
    whole = ask(path="/v1/completions", prompt="one two").json()
    chunks = events(ask(path="/v1/completions", prompt="one two", stream=True))
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["text"].endswith("one two")
    assert chunks[-1] == "[DONE]"
    assert "".join(c["choices"][0]["text"] for c in chunks[:-1] if c["choices"]) == whole["choices"][0]["text"]


def test_the_journal_knows_what_was_answered(ask: Ask, server: LocalChutes) -> None:
    """Text, status, model, body and bill of an answer are in the journal; the key is not."""
    reply = ask("hi", stream=True, temperature=0)
    entry = server.journal.wait(1)[0]
    assert entry.text == spoken(events(reply))
    assert (entry.status, entry.model, entry.fault, entry.ended) == (200, MODEL, None, "whole")
    assert entry.body
    assert entry.body["temperature"] == 0
    assert entry.key_kind == "cpk"
    assert server.api_key not in str(entry.as_json())
    assert entry.billed.total == events(reply)[-2]["usage"]["total_tokens"]
