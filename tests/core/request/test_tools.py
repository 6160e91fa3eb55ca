"""The tools of a request, and which of them a model is to call."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from chutes_core import RequestRefusedError
from chutes_core.request.tools import Toolbox, tool_choice_param


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
    """The frameworks' words, the service's words, names and dicts."""
    assert tool_choice_param(choice, ["add"]) == sent


def test_a_choice_of_a_tool_that_is_not_there_names_the_nearest() -> None:
    """A slip of the pen is caught before anything is sent."""
    with pytest.raises(RequestRefusedError, match="Did you mean 'add'"):
        tool_choice_param("ad", ["add", "pay"])
    with pytest.raises(RequestRefusedError, match="'add', 'pay'"):
        tool_choice_param("zzz", ["add", "pay"])


def test_a_toolbox_is_its_specifications_and_keeps_the_tools() -> None:
    """In copies and pickles too, as a model with bound tools is passed on."""
    specs = [{"type": "function", "function": {"name": "add"}}]
    box = Toolbox(specs, (tool for tool in (max, min)), {"strict": True})
    for each in (box, copy.deepcopy(box), pickle.loads(pickle.dumps(box))):
        assert (each, each.tools, each.options) == (specs, [max, min], {"strict": True})
