"""The scenarios of this folder through ChatChutes."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from chutes_core import APIError, ChutesError
from tests.langchain_chutes.models import call

from .scenarios import LIMITS, MODES, SCENARIOS, Scenario, Turn, sent


def message(turn: Turn) -> BaseMessage:
    """A turn as LangChain's message."""
    if turn.role == "system":
        return SystemMessage(turn.text)
    if turn.role == "tool":
        return ToolMessage(turn.text, tool_call_id=turn.tool_call_id)
    if turn.role == "assistant":
        calls = [{"id": call_id, "name": name, "args": dict(args)} for call_id, name, args in turn.tool_calls]
        kept = {"reasoning_content": turn.reasoning} if turn.reasoning else {}
        return AIMessage(turn.text, tool_calls=calls, additional_kwargs=kept)
    if turn.image is None:
        return HumanMessage(turn.text)
    return HumanMessage([{"type": "text", "text": turn.text}, {"type": "image", "url": turn.image}])


@pytest.mark.filterwarnings("ignore::chutes_core.ChutesWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_comes_to_what_it_must(scenario: Scenario, mode: str) -> None:
    """The same bytes come to the same answer, or the same failure, in each of the four modes."""
    expected = scenario.expected(mode)

    def with_tools(model: Any) -> Any:
        return model.bind_tools(list(scenario.tools)) if scenario.tools else model

    outcome = call(
        mode,
        scenario.script,
        [message(turn) for turn in scenario.ask],
        runnable=with_tools,
        model=scenario.model,
        timeout=LIMITS,
        max_retries=scenario.max_retries,
        **scenario.params,
    )
    assert len(outcome.transport.requests) == expected.attempts
    assert outcome.transport.open_replies == 0
    assert sent(scenario, outcome.body) == dict(scenario.wire)
    if expected.error is not None:
        assert isinstance(outcome.error, APIError)
        assert isinstance(outcome.error, ModelError)
        assert isinstance(outcome.error, ChutesError)
        assert outcome.error.kind is expected.error
        if mode.endswith("stream"):
            assert outcome.streamed == expected.text == outcome.error.partial
            assert [chunk.chunk_position for chunk in outcome.chunks] == [None] * len(outcome.chunks)
        return
    assert outcome.error is None
    answer = outcome.message
    assert isinstance(answer, AIMessage)
    assert answer.content == expected.text
    assert answer.additional_kwargs.get("reasoning_content", "") == expected.reasoning
    assert [(made["name"], made["args"]) for made in answer.tool_calls] == [tuple(made) for made in expected.tool_calls]
    assert [made["name"] for made in answer.invalid_tool_calls] == list(expected.invalid_tool_calls)
    assert answer.response_metadata["finish_reason"] == expected.finish_reason
    usage = answer.usage_metadata
    assert (usage and (usage["input_tokens"], usage["output_tokens"])) == expected.usage
    if mode.endswith("stream"):
        assert [chunk.chunk_position for chunk in outcome.chunks][-1] == "last"
        assert sum(chunk.chunk_position == "last" for chunk in outcome.chunks) == 1
        assert sum(chunk.usage_metadata is not None for chunk in outcome.chunks) == (expected.usage is not None)
