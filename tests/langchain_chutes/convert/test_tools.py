"""Tools and their choice."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel

from chutes_core import RequestRefusedError
from langchain_chutes._convert.tools import tool_choice_param, tool_params


class Add(BaseModel):
    """Add two numbers."""

    a: int
    b: int


class AddDict(TypedDict):
    """Add two numbers."""

    a: int
    b: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


FUNCTION = {"name": "add", "description": "Add two numbers.", "parameters": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    "given",
    [
        add,
        tool(add),
        Add,
        AddDict,
        {"type": "function", "function": FUNCTION},
        FUNCTION,
        {"name": "add", "description": "Add two numbers.", "input_schema": {"type": "object", "properties": {}}},
        Add.model_json_schema(),
    ],
)
def test_every_kind_of_tool_becomes_a_function(given: Any) -> None:
    """Functions, tools, models and descriptions all come out in the one form of the service."""
    (made,) = tool_params([given])
    assert made["type"] == "function"
    assert made["function"]["name"].lower().startswith("add")
    assert made["function"]["description"] == "Add two numbers."
    assert "strict" not in made["function"]


def test_strict_is_sent_only_where_it_is_given() -> None:
    """Nobody's schema is declared strict unasked."""
    assert tool_params([add], strict=True)[0]["function"]["strict"] is True


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("add", {"type": "function", "function": {"name": "add"}}),
        ({"type": "function", "function": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
        ({"type": "tool", "name": "add"}, {"type": "function", "function": {"name": "add"}}),
        ({"type": "any"}, "required"),
    ],
)
def test_every_way_to_choose_is_understood(choice: Any, sent: Any) -> None:
    """LangChain's words, the service's words, names and dicts."""
    assert tool_choice_param(choice, ["add"]) == sent


def test_a_choice_of_a_tool_that_is_not_there_names_the_nearest() -> None:
    """A slip of the pen is caught before anything is sent."""
    with pytest.raises(RequestRefusedError, match="Did you mean 'add'"):
        tool_choice_param("ad", ["add", "pay"])
    with pytest.raises(RequestRefusedError, match="'add', 'pay'"):
        tool_choice_param("zzz", ["add", "pay"])
