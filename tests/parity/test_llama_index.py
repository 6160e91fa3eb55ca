"""The table of both frameworks, through LlamaIndex."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock

from chutes_core import APIError
from tests.llama_index_chutes.rigs import Outcome, ask, rig, text_of

from .scenarios import LIMITS, MODES, SCENARIOS, Scenario, Turn, sent

STYLES = {
    "sync-whole": "chat",
    "sync-stream": "stream_chat",
    "async-whole": "achat",
    "async-stream": "astream_chat",
}


def message(turn: Turn) -> ChatMessage:
    """A turn in LlamaIndex's form."""
    blocks: list[Any] = [ThinkingBlock(content=turn.reasoning)] if turn.reasoning else []
    blocks += [TextBlock(text=turn.text)] if turn.text else []
    blocks += [ImageBlock(url=turn.image)] if turn.image else []
    blocks += [
        ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=dict(arguments))
        for call_id, name, arguments in turn.tool_calls
    ]
    extra = {"tool_call_id": turn.tool_call_id} if turn.tool_call_id else {}
    return ChatMessage(role=turn.role, blocks=blocks, additional_kwargs=extra)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario(scenario: Scenario, mode: str) -> None:
    """The same text, reasoning, tool calls, usage and error kinds as the table says."""
    expected = scenario.expected(mode)
    made = rig(
        scenario.script,
        model=scenario.model,
        context_window=8192,
        timeout=LIMITS,
        max_retries=scenario.max_retries,
    )
    given = {**scenario.params, **({"tools": list(scenario.tools)} if scenario.tools else {})}
    outcome = ask(made.llm, STYLES[mode], [message(turn) for turn in scenario.ask], **given)
    assert len(made.transport.requests) == expected.attempts
    assert made.transport.open_replies == 0
    assert sent(scenario, made.bodies[0]) == scenario.wire
    if expected.error is not None:
        assert isinstance(outcome.error, APIError)
        assert outcome.error.kind is expected.error
        if mode.endswith("stream"):
            assert outcome.streamed == outcome.error.partial == expected.text
        return
    assert outcome.error is None
    _check_answer(outcome, scenario, mode)


def _check_answer(outcome: Outcome, scenario: Scenario, mode: str) -> None:
    expected, last = scenario.expected(mode), outcome.last
    assert text_of(last) == expected.text
    thoughts = [block.content for block in last.message.blocks if isinstance(block, ThinkingBlock)]
    assert "".join(thoughts) == expected.reasoning
    calls = [(block.tool_name, block.tool_kwargs) for block in last.message.blocks if isinstance(block, ToolCallBlock)]
    assert calls == [(name, dict(arguments)) for name, arguments in expected.tool_calls]
    invalid = last.message.additional_kwargs.get("invalid_tool_calls", [])
    assert [call["function"]["name"] for call in invalid] == list(expected.invalid_tool_calls)
    usage = last.raw["usage"]
    assert (usage and (usage["prompt_tokens"], usage["completion_tokens"])) == expected.usage
    assert last.raw["choices"][0]["finish_reason"] == expected.finish_reason
    if mode.endswith("stream"):
        assert outcome.streamed == expected.text
        thinking = [chunk.additional_kwargs.get("thinking_delta", "") for chunk in outcome.chunks]
        assert "".join(thinking) == expected.reasoning
        assert [chunk for chunk in outcome.chunks if "usage" in chunk.raw] == [last]
