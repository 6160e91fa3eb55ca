"""The pieces of streamed tool calls, given out so that their sum is what the core says they are.

LangChain adds the pieces of a call up and completes what is missing at the end of its JSON, so that a call
which was cut at the answer's length limit would come out as a valid one, with other arguments than the model
meant. Here the last word is the core's: at the end of a call that is not valid comes a piece which keeps
LangChain from completing it, and a call becomes an ``invalid_tool_call``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.utils.json import parse_partial_json

if TYPE_CHECKING:
    from chutes_core.response import Choice, ToolCallDelta

__all__ = ["ToolPieces", "spoiler"]


@dataclass(slots=True)
class _Call:
    """A call of the stream: its text, whether that has been given out, and whether its id has."""

    text: str = ""
    shown: bool = False
    has_id: bool = False


class ToolPieces:
    """Follows the tool calls of one stream."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def step(self, deltas: Sequence[ToolCallDelta]) -> Iterator[dict[str, Any]]:
        """Give out the pieces of one step.

        Arguments that do not begin as an object are held back: some models encode the object twice, and at
        the end the core knows what they meant.
        """
        for delta in deltas:
            call = self._calls.setdefault(delta.index, _Call())
            call.text += delta.arguments
            call.has_id = call.has_id or delta.id is not None
            arguments = delta.arguments if call.shown else ""
            if not call.shown and call.text.lstrip().startswith("{"):
                call.shown, arguments = True, call.text
            if delta.id or delta.name or arguments:
                yield _piece(delta.index, arguments, delta.id, delta.name)

    def end(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """Give out what is missing of the calls of a whole answer."""
        for made in (*choice.tool_calls, *choice.invalid_tool_calls):
            call = self._calls.get(made.index, _Call())
            missing = "" if call.shown else made.arguments
            if made.error is not None:
                missing += spoiler(call.text if call.shown else made.arguments)
            call_id = None if call.has_id else made.id
            if missing or call_id:
                yield _piece(made.index, missing, call_id)


def _piece(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    return {"index": index, "args": arguments, "id": call_id, "name": name}


def spoiler(text: str) -> str:
    """Find what to append to arguments so that LangChain does not take them for an object, or for JSON at all.

    Its event protocol takes whatever is JSON for the arguments of a call.

    >>> spoiler('{"amount": 1000, "to": "al'), spoiler("[1]"), spoiler("[1")
    ('"]', ']', '')
    """
    # An open string is closed first, whatever escape it ends in; then a bracket closes what was not opened.
    return next((end for end in ("", "]", "}", '"]', '"}', '""]', '""}') if _spoiled(text + end)), '"]}')


def _spoiled(text: str) -> bool:
    try:
        json.loads(text or "{}", strict=False)
    except ValueError:
        pass
    else:
        return False
    try:
        return not isinstance(parse_partial_json(text), dict)
    except ValueError:
        return True
