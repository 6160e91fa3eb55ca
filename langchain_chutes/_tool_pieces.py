"""Streamed tool call chunks that add up to what the core says the calls are.

LangChain adds up the chunks of a call and completes its JSON, so a call truncated at the length limit would become a
valid one with arguments the model did not mean. The core decides instead: an invalid call ends with a chunk that
keeps LangChain from completing it, which makes it an ``invalid_tool_call``.
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
    """A tool call in the stream: its text, and whether that and its id have been emitted."""

    text: str = ""
    shown: bool = False
    has_id: bool = False


class ToolPieces:
    """Tracks the tool calls of one stream."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def step(self, deltas: Sequence[ToolCallDelta]) -> Iterator[dict[str, Any]]:
        """Yield the chunks for one delta.

        Arguments that do not begin as an object are held back: some models encode the object twice, which the core
        resolves at the end.
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
        """Yield what is still missing from the calls of a complete answer."""
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
    """Return a suffix that keeps LangChain from parsing arguments as an object, or as JSON at all.

    Its event protocol accepts any JSON as a call's arguments.

    >>> spoiler('{"amount": 1000, "to": "al'), spoiler("[1]"), spoiler("[1")
    ('"]', ']', '')
    """
    # Close an open string first, whatever escape it ends in; then add an unmatched bracket.
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
