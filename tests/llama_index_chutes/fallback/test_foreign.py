"""Models of other providers as members."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama_index.core import ChatPromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock, ToolCallBlock

from chutes_core import APIError
from chutes_core.testing import Answer, FaultScript
from llama_index_chutes import ChutesFallback
from llama_index_chutes.fallback.foreign import has_calls
from tests.llama_index_chutes.rigs import CHAT_STYLES, HELLO, STREAMS, STYLES, TOOLS, ask, connection, gather, text_of
from tests.llama_index_chutes.stages import (
    ANSWER,
    BERN,
    CITY,
    MEMBERS,
    PAID,
    PAYING,
    POLICY,
    PREDICT,
    PROMPT,
    City,
    attempts,
    stage,
)
from tests.llama_index_chutes.strangers import Asked, Predictor, RateLimitError, Stranger, chunk_raw, said


@pytest.mark.parametrize("style", STYLES)
def test_a_stranger_takes_over(style: str) -> None:
    """Another provider's model is a member like any other, without its own retries."""
    stranger = Stranger()
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == "I am another."
    assert outcome.last.raw["model_name"] == "other/model"
    assert [row["outcome"] for row in attempts(outcome)] == ["failed", "answered"]
    assert stranger.asked[0]["max_retries"] == 0
    assert stranger.max_retries == 2, "the model that was listed stays as it is"


@pytest.mark.parametrize("style", STYLES)
def test_a_stranger_fails(style: str) -> None:
    """Its client's exceptions are read for what they mean, and the next member takes over."""
    made = stage(members=[Stranger(plays=[RateLimitError()]), MEMBERS[0]])
    outcome = ask(made.llm, style)
    assert text_of(outcome.last) == ANSWER.text
    first = attempts(outcome)[0]
    assert (first["kind"], first["status_code"]) == ("rate_limit", 429)


@pytest.mark.parametrize("style", CHAT_STYLES)
@pytest.mark.parametrize(
    ("play", "kind"),
    [
        ([], "empty"),
        ([said("")], "empty"),
        ([said("Half", raw=chunk_raw()), said("Half a", raw=chunk_raw())], "truncated"),
        ([said("", calls=[("pay", '{"amount": 1000')])], "malformed"),
        ([said("Half"), ConnectionResetError("gone")], "reset"),
    ],
)
def test_what_a_stranger_cuts_is_not_whole(play: list[Any], kind: str, style: str) -> None:
    """An empty stream, one without a finish, a cut call, a broken connection: failures, and never an answer."""
    made = stage(members=[Stranger(plays=[play]), MEMBERS[0]])
    outcome = ask(made.llm, style)
    if style in STREAMS and any(getattr(chunk, "delta", "") for chunk in play):
        assert isinstance(outcome.error, APIError)
        assert outcome.error.kind.value == kind
        assert outcome.error.partial == text_of(outcome.last) != ""
        return
    assert attempts(outcome)[0]["kind"] == kind
    assert text_of(outcome.last) == ANSWER.text


def test_a_strangers_finish_is_seen() -> None:
    """A stream in OpenAI's form that says its finish is whole, and its usage is told."""
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}
    play = [said("Whole", raw=chunk_raw()), said("Whole", raw=chunk_raw("stop"), delta=""), said("Whole", raw=usage)]
    outcome = ask(stage(members=[Stranger(plays=[play]), MEMBERS[0]]).llm, "chat")
    assert text_of(outcome.last) == "Whole"
    assert attempts(outcome)[0]["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_stranger_gets_tools_its_own_way(style: str) -> None:
    """Tools go through its own preparation, and its calls come out like everybody's."""
    stranger = Stranger(plays=[[said("", calls=[("pay", json.dumps(PAID))])]])
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = gather(made.llm, f"{style}_with_tools", TOOLS, user_msg="Pay.")
    assert [call.tool_kwargs for call in made.llm.get_tool_calls_from_response(outcome.last)] == [PAID]
    assert stranger.asked[0]["tools"] == ["add", "pay"]


@pytest.mark.parametrize("style", STREAMS[:2])
def test_a_strangers_words_beside_a_tool_call_are_streamed(style: str) -> None:
    """What it says after a call has begun comes as it comes; the call itself, and its pieces, only when it is whole."""
    kwargs = json.dumps(PAID)
    play = [
        said("Let me", delta="Let me"),
        said("Let me", calls=[("pay", kwargs[:9])], delta=kwargs[:9]),
        said("Let me pay.", calls=[("pay", kwargs)], delta=" pay."),
        said("Let me pay.", calls=[("pay", kwargs)], delta=""),
    ]
    outcome = gather(stage(members=[Stranger(plays=[play])]).llm, f"{style}_with_tools", TOOLS, user_msg="Pay.")
    assert outcome.streamed == text_of(outcome.last) == "Let me pay."
    assert [has_calls(chunk) for chunk in outcome.chunks] == [False, False, True]
    assert outcome.chunks[1].message.content == "Let me pay."


@pytest.mark.parametrize("style", CHAT_STYLES)
def test_a_strangers_calls_without_ids_get_some(style: str) -> None:
    """A tool's result finds its call in the next turn, whoever takes that."""
    play = said("", calls=[("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})])
    for block in play.message.blocks[1:]:
        assert isinstance(block, ToolCallBlock)
        block.tool_call_id = None
    made = stage(members=[Stranger(plays=[[play]]), MEMBERS[0]])
    outcome = gather(made.llm, f"{style}_with_tools", TOOLS, user_msg="Add.")
    ids = [call.tool_id for call in made.llm.get_tool_calls_from_response(outcome.last)]
    assert ids == ["call_0", "call_1"]
    results = [ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": each}) for each in ids]
    next_turn = stage()
    next_turn.llm.chat([*HELLO, outcome.last.message, *results])
    sent: Any = next_turn.transport.requests[0].body["messages"]
    assert [call["id"] for call in sent[1]["tool_calls"]] == [each["tool_call_id"] for each in sent[2:]] == ids


def test_a_stranger_without_tools_is_not_asked_for_them() -> None:
    """It says itself that it has none, and is skipped."""
    stranger = Stranger(calls_tools=False)
    made = stage(["cold", PAYING], members=[stranger, *MEMBERS[:2]])
    response = made.llm.chat_with_tools(TOOLS, user_msg="Pay.")
    assert isinstance(response.raw, dict)
    assert response.raw["chutes_attempts"][0]["detail"] == "no tools"
    assert stranger.asked == []


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", PREDICT[:2])
def test_a_strangers_object(style: str) -> None:
    """It is asked for an object by its own method, and what stands in a text is not taken for a variable."""
    stranger = Predictor()
    made = stage(["cold"], members=[MEMBERS[0], stranger])
    outcome = gather(made.llm, style, City, PROMPT, place="{place} and {text_0}")
    assert outcome.last == BERN
    assert "Tell of {place} and {text_0}." in stranger.prompts[0]


@pytest.mark.parametrize("style", PREDICT)
def test_a_stranger_is_asked_for_an_object_with_all_that_was_said(style: str) -> None:
    """The fallback's system prompt, every block of every message, and nothing in them taken for a variable."""
    image = ImageBlock(url="http://pictures.test/bern.png")
    tool = ChatMessage(role="tool", content="Bern {x}", additional_kwargs={"tool_call_id": "c1"})
    blocks = [TextBlock(text="Tell of {place}."), image, TextBlock(text="Briefly.")]
    prompt = ChatPromptTemplate(message_templates=[tool, ChatMessage(role="user", blocks=blocks)])
    stranger = Asked()
    made = stage(["cold"], members=[MEMBERS[0], stranger], system_prompt="Always {Swiss}.")
    outcome = gather(made.llm, style, City, prompt, place="{place} and {text_0}", x="y")
    assert outcome.last == BERN
    system, result, question = stranger.heard
    assert (system.role, system.content) == (MessageRole.SYSTEM, "Always {Swiss}.")
    assert (result.content, result.additional_kwargs) == ("Bern y", {"tool_call_id": "c1"})
    words = [block.text for block in question.blocks if isinstance(block, TextBlock)]
    assert words == ["Tell of {place} and {text_0}.", "Briefly."]
    assert question.blocks[1] == image


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", PREDICT[:2])
def test_a_strangers_unusable_object(style: str) -> None:
    """What its program raises for an unusable answer is a failure of the model."""
    made = stage([CITY], members=[Predictor(text="no"), MEMBERS[0]])
    assert gather(made.llm, style, City, PROMPT, place="Bern").last == BERN
    assert made.asked == [MEMBERS[0]]


@pytest.mark.filterwarnings("ignore:Predictor")
@pytest.mark.parametrize("style", ["chat", "stream_chat", "complete"])
def test_a_stranger_that_cannot_stream_answers_whole(style: str) -> None:
    """It is asked for the whole instead."""
    made = stage(members=[Predictor(text="Plain."), MEMBERS[0]])
    assert text_of(ask(made.llm, style).last) == "Plain."


# ------------------------------------------------------------------------------------------- a real integration


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("fault", "kind"), [(None, None), ("capacity", "capacity"), ("no_finish", "truncated")])
def test_an_integration_of_llama_index(fault: str | None, kind: str | None, style: str) -> None:
    """It answers, or the next one does; it is asked once, although it has retries of its own."""
    like: Any = pytest.importorskip("llama_index.llms.openai_like")
    transport, _, connected = connection(FaultScript([fault] if fault else [], default=ANSWER))
    clients = {name: connected[name] for name in ("http_client", "async_http_client")}
    where = {"api_base": "http://other.test/v1", "api_key": "sk-other", "is_chat_model": True}
    member = like.OpenAILike(model="other/model", max_retries=3, reuse_client=False, **where, **clients)
    made = ChutesFallback([member, MEMBERS[0]], policy=POLICY, **connected)
    outcome = ask(made, style)
    if fault == "no_finish" and style in STREAMS:
        assert isinstance(outcome.error, APIError)
        assert (outcome.error.kind.value, outcome.error.partial) == (kind, outcome.streamed)
        return
    assert text_of(outcome.last) == ANSWER.text
    assert [request.model for request in transport.requests] == ["other/model", MEMBERS[0]][: 2 if fault else 1]
    assert attempts(outcome)[0]["kind"] == kind
    assert member.max_retries == 3
    assert "sk-other" not in repr(made) + made.to_json()


def test_tools_and_objects_of_an_integration() -> None:
    """Its calls come out like everybody's, and an object by its own way."""
    like: Any = pytest.importorskip("llama_index.llms.openai_like")
    object_ = Answer("", tool_calls=[("City", {"name": "Bern", "people": 134000})])
    _, _, connected = connection(FaultScript(["cold", PAYING, "cold", object_], default=ANSWER))
    clients = {name: connected[name] for name in ("http_client", "async_http_client")}
    where = {"api_base": "http://other.test/v1", "api_key": "sk-other", "is_chat_model": True}
    member = like.OpenAILike(model="other/model", is_function_calling_model=True, **where, **clients)
    made = ChutesFallback([MEMBERS[0], member], policy=POLICY, **connected)
    response = made.chat_with_tools(TOOLS, user_msg="Pay.")
    assert [call.tool_kwargs for call in made.get_tool_calls_from_response(response)] == [PAID]
    assert (
        ChutesFallback([MEMBERS[0], member], policy=POLICY, **connected).structured_predict(City, PROMPT, place="Bern")
        == BERN
    )
