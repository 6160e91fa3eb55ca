"""When a tool is called, and how its call is cut into fragments."""

from __future__ import annotations

import pytest

from chutes_local.gateway.tools import call_frames, check_tools, name_of, offered
from chutes_local.wire.errors import Refused


def tool(name: str, description: str = "", **properties: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER, PAY = tool("getWeather", "The weather of a city", city={}), tool("pay_bill", "Pay", amount={})


def user(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def names(choice: object, messages: list[dict[str, object]]) -> list[str]:
    return [name_of(item) for item in offered(choice, [WEATHER, PAY], messages)]


def test_auto_looks_for_shared_words() -> None:
    """Under auto those tools are on offer that share a word with the question, in any writing."""
    assert names("auto", user("What is the WEATHER like?")) == ["getWeather"]
    assert names(None, user("Pay the bills in my city")) == ["getWeather", "pay_bill"]
    assert names("auto", user("Good morning")) == []


def test_after_a_result_comes_text() -> None:
    """Once a tool has answered, auto answers in text."""
    assert names("auto", [*user("weather"), {"role": "tool", "content": "weather: fine"}]) == []


def test_the_other_choices() -> None:
    """none, required and a name leave nothing to judge."""
    assert names("none", user("weather")) == []
    assert names("required", user("hello")) == ["getWeather", "pay_bill"]
    assert names({"type": "function", "function": {"name": "pay_bill"}}, user("weather")) == ["pay_bill"]


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        ({"tool_choice": "required"}, "`tools` must be set"),
        ({"tools": [PAY], "tool_choice": {"function": {"name": "x"}}}, "does not match any of the tools"),
        ({"tools": [PAY], "tool_choice": "sometimes"}, "Invalid value for `tool_choice`"),
        ({"tools": [{"type": "function"}]}, "must be a function with a name"),
    ],
)
def test_what_no_engine_takes(body: dict[str, object], phrase: str) -> None:
    """Tools and choices that contradict each other are refused."""
    with pytest.raises(Refused) as error:
        check_tools(body)
    assert phrase in error.value.answer.body.decode()


def test_fragments_in_each_order() -> None:
    """Two calls arrive one after the other, alternately, or each in one piece; joined they are the same."""
    calls = [("a", '{"text": "first"}'), ("b", '{"text": "second one"}')]
    orders = {}
    for deltas in ("sequential", "interleaved", "whole"):
        parts = [frame.tool for frame in call_frames(calls, deltas) if frame.tool]
        joined = {i: "".join(p.arguments for p in parts if p.index == i) for i in (0, 1)}
        assert joined == {0: calls[0][1], 1: calls[1][1]}
        assert [part.name for part in parts if part.name] == ["a", "b"]
        orders[deltas] = [part.index for part in parts]
    assert orders["sequential"] == sorted(orders["sequential"])
    assert orders["interleaved"][:4] == [0, 1, 0, 1]
    assert orders["whole"] == [0, 1]
