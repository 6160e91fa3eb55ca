"""The beginning of an answer, continued: what the flags come to, and what each model makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import pytest

from chutes_local import LocalChutes, serve
from chutes_local.backends.echo import EchoBackend
from chutes_local.gateway.prefill import beginning, continues, repaired
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import Fleet, Prefill, Shape
from tests.local.conftest import MODEL, events, spoken

ANSWER = "one, two, three, four, five"
ASKED: dict[str, Any] = {"role": "user", "content": "Count to five."}
FLAGS = {"continue_final_message": True, "add_generation_prompt": False}
OFF = {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}
VLLM = next(chute.name for chute in Fleet.load() if chute.engine == "vllm")
Send = Callable[..., httpx.Response]


def body(text: str = "one, two,", **more: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {"role": "assistant", "content": text}], **more}


@pytest.fixture(scope="module")
def counting() -> Iterator[LocalChutes]:
    """A server whose models count to five, and repeat what they take for the last question otherwise."""

    def script(request: Any) -> str:
        asked = [message["content"] for message in request.messages if message["role"] == "user"][-1]
        return ANSWER if asked == ASKED["content"] else f"You said: {asked}"

    with serve(backend=EchoBackend(script)) as server:
        yield server


@pytest.fixture
def send(counting: LocalChutes) -> Send:
    """Send a request as it stands: ``send({...}, host=MODEL)`` for a model's own host."""
    counting.reset()

    def post(sent: dict[str, Any], *, host: str | None = None, headers: Any = None) -> httpx.Response:
        url = counting.chute_url(host) if host else counting.base_url
        key = {"Authorization": f"Bearer {counting.api_key}", **(headers or {})}
        return httpx.post(f"{url}/chat/completions", json={"model": host or MODEL, **sent}, headers=key, timeout=60)

    return post


def message(response: httpx.Response) -> Any:
    return response.json()["choices"][0]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_is_the_continuation_alone(send: Send, stream: bool) -> None:
    """Nothing is repeated; the beginning is counted as prompt, and only what is new as answer."""
    response = send(body(**FLAGS, stream=stream))
    if stream:
        chunks = events(response)
        first = chunks[0]["choices"][0]["delta"]
        assert (first["role"], first["content"] or "") == ("assistant", "")
        assert spoken(chunks) == " three, four, five"
        usage = chunks[-2]["usage"]
    else:
        assert message(response)["content"] == " three, four, five"
        usage = response.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 3)


def test_a_beginning_that_is_not_the_answers_is_followed_by_all_of_it(send: Send) -> None:
    """A scripted answer has one continuation: what is left of it, or else the whole."""
    assert message(send(body("Well,", **FLAGS)))["content"] == ANSWER
    assert message(send(body(ANSWER, **FLAGS)))["content"] == ""


def test_without_the_flags_the_model_answers_anew(send: Send) -> None:
    """A last message of the assistant is not continued by itself."""
    assert message(send(body()))["content"] == ANSWER
    assert message(send(body(continue_final_message=False)))["content"] == ANSWER


@pytest.mark.parametrize("more", [{}, {"add_generation_prompt": True}])
def test_the_gateway_settles_flags_that_contradict(send: Send, more: dict[str, bool]) -> None:
    """It begins no new turn where the last message is the assistant's, and continues nothing else."""
    flags = {"continue_final_message": True, **more}
    assert message(send(body(**flags)))["content"] == " three, four, five"
    assert message(send({"messages": [ASKED], **flags}))["content"] == ANSWER
    assert repaired({**flags, "messages": []})["continue_final_message"] is False


@pytest.mark.parametrize("host", [MODEL, VLLM])
def test_a_models_own_host_refuses_both_flags(send: Send, host: str) -> None:
    """There the engine reads what was sent; with both flags it is a 400, and with the right ones an answer."""
    both = send(body(continue_final_message=True, add_generation_prompt=True), host=host)
    assert both.status_code == 400
    assert "Cannot set both" in both.json()["detail"]
    assert message(send(body(**FLAGS), host=host))["content"] == " three, four, five"


def test_a_missing_flag_is_a_new_turn_on_vllm_alone() -> None:
    """vLLM begins a turn unless it is told not to; SGLang does not read that flag."""
    asked = body(continue_final_message=True)
    assert continues(asked, "sglang")
    with pytest.raises(Refused, match="Cannot set both"):
        continues(asked, "vllm")


def test_a_continued_text_calls_no_tool_unless_one_is_required(send: Send) -> None:
    """With a beginning in text the answer stays text; a call that is required is made all the same."""
    count = {"type": "function", "function": {"name": "count", "parameters": {"type": "object", "properties": {}}}}
    assert message(send(body(**FLAGS, tools=[count])))["content"] == " three, four, five"
    assert message(send(body(**FLAGS, tools=[count], tool_choice="required")))["tool_calls"]


def test_no_reasoning_comes_before_a_continuation(send: Send) -> None:
    """A model that would think first goes on with the text."""
    reply = message(send(body(**FLAGS, chat_template_kwargs={"thinking": True})))
    assert (reply["content"], reply["reasoning_content"]) == (" three, four, five", None)


def test_a_grammar_begins_anew(send: Send) -> None:
    """Structured output is constrained from the first new token on, whatever there was before."""
    reply = message(send(body("{", **FLAGS, response_format={"type": "json_object"})))
    assert reply["content"] == '{"echo": "echo"}'


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("honoured", " three, four, five"),
        ("closed", ANSWER),
        ("as_user", "You said: one, two,"),
        ("echo", ANSWER),
        ("stripped", " three, four, five"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_ways_that_answer_in_text(send: Send, counting: LocalChutes, way: Prefill, said: str, stream: bool) -> None:
    """The text is continued, answered anew, taken for a question, or comes back first."""
    counting.change(MODEL, prefill=way)
    response = send(body(**FLAGS, stream=stream))
    assert (spoken(events(response)) if stream else message(response)["content"]) == said


def test_white_space_at_the_end_is_lost(send: Send, counting: LocalChutes) -> None:
    """A model that strips says the white space again; others go on behind it."""
    assert message(send(body("one, ", **FLAGS)))["content"] == "two, three, four, five"
    counting.change(MODEL, prefill="stripped")
    assert message(send(body("one, ", **FLAGS)))["content"] == " two, three, four, five"


def test_a_continuation_may_be_reasoning(send: Send, counting: LocalChutes) -> None:
    """It falls into the thoughts of a model that thinks, unless thinking is switched off and can be."""
    counting.change(MODEL, prefill="in_think")
    response = send(body(**FLAGS))
    reply, usage = message(response), response.json()["usage"]
    assert (reply["content"], reply["reasoning_content"]) == ("", " three, four, five")
    assert usage["reasoning_tokens"] == usage["completion_tokens"] == 3
    assert message(send(body(**FLAGS, **OFF)))["content"] == " three, four, five"
    counting.change(MODEL, reasoning="reasoning_content")
    assert message(send(body(**FLAGS, **OFF)))["reasoning_content"] == " three, four, five"


def test_a_model_may_end_when_it_is_asked_to_continue(send: Send, counting: LocalChutes) -> None:
    """Unstreamed it is a 500; a stream has its role, and then the line that ends broken ones."""
    counting.change(MODEL, prefill="crash")
    assert send(body(**FLAGS)).status_code == 500
    role, *rest = send(body(**FLAGS, stream=True)).text.split("\n\n")
    assert '"role":"assistant"' in role
    assert rest == [
        '{"error":"Unhandled exception during response stream: exhausted all available targets to no avail"}'
    ]
    assert send(body()).status_code == 200


def test_a_header_chooses_the_way_for_one_request(send: Send) -> None:
    """As for every other shape, and an unknown way is refused."""
    assert message(send(body(**FLAGS), headers={"X-Local-Prefill": "closed"}))["content"] == ANSWER
    assert send(body(**FLAGS), headers={"X-Local-Prefill": "sometimes"}).status_code == 400


@pytest.mark.parametrize("way", get_args(Prefill))
def test_a_closed_or_misread_message_is_not_left_open(way: Prefill) -> None:
    """Every way but those two continues, and what was sent stays known."""
    begun = beginning([ASKED, {"role": "assistant", "content": "one, "}], {}, Shape(prefill=way))
    assert begun.left_open == (way not in ("closed", "as_user"))
    assert begun.text == "one, "
