"""Tools of every kind."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel

from langchain_chutes._convert.tools import tool_params


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
