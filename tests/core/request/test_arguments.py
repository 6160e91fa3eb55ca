"""The arguments of a call, and a model's own."""

from __future__ import annotations

import pytest

from chutes_core import RequestRefusedError
from chutes_core.request.arguments import call_arguments

TOOL = {"type": "function", "function": {"name": "add"}}


def test_the_calls_own_go_before_the_models() -> None:
    """What is added to the request is merged; an empty list of stop sequences is none."""
    given = {"temperature": 0, "stop": ["."], "extra_body": {"a": 1, "b": 1}}
    assert call_arguments(given, {"temperature": 1, "extra_body": {"b": 2}}, {}, {}, stop=[]) == {
        "temperature": 1, "extra_body": {"a": 1, "b": 2},
    }  # fmt: skip


def test_an_argument_is_given_once() -> None:
    """Under its own name or another package's."""
    names = {"stop_sequences": "stop"}
    assert call_arguments({}, {"stop_sequences": ["."]}, names, {}) == {"stop": ["."]}
    with pytest.raises(RequestRefusedError, match="'stop' was given twice"):
        call_arguments({}, {"stop": ["."], "stop_sequences": ["."]}, names, {})


def test_a_frameworks_own_forms_are_read_before_the_choice_among_them() -> None:
    """A choice is of a tool that was given."""
    read = {"tools": lambda tools: [TOOL for _ in tools]}
    assert call_arguments({}, {"tools": [len], "tool_choice": "add"}, {}, read)["tool_choice"] == TOOL
    assert "tool_choice" not in call_arguments({}, {"tools": [len], "tool_choice": False}, {}, read)
    with pytest.raises(RequestRefusedError, match="Did you mean 'add'"):
        call_arguments({}, {"tools": [len], "tool_choice": "ad"}, {}, read)


@pytest.mark.parametrize("options", [{"n": 2}, {"extra_body": {"n": 2}}])
def test_a_stream_carries_one_answer(options: dict[str, object]) -> None:
    """However several are asked for."""
    assert call_arguments({}, options, {}, {}) == options
    with pytest.raises(RequestRefusedError, match="one answer"):
        call_arguments({}, options, {}, {}, stream=True)
