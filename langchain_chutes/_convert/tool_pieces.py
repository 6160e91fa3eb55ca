"""Streamed tool call chunks that add up to what the core says the calls are.

LangChain adds up the chunks of a call and completes its JSON, so a call truncated at the length limit would become a
valid one with arguments the model did not mean. The core decides instead: an invalid call ends with a chunk that
keeps LangChain from completing it, which makes it an ``invalid_tool_call``.

LangChain also parses the sum anew with every chunk, and where that is no JSON, once for every character of it. So
arguments are shown only as long as they may become an object, and in longer chunks the longer they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.utils.json import parse_partial_json

from chutes_core.json_text import Pace, begins_object

if TYPE_CHECKING:
    from chutes_core.response import Choice, ToolCallDelta

__all__ = ["Piece", "ToolPieces", "spoiled", "spoiler"]

_SHORT = 400  # characters that LangChain may parse whatever they are


class Piece(NamedTuple):
    """A tool call chunk, and whether LangChain may parse it as it is."""

    chunk: Mapping[str, Any]
    parsed: bool


@dataclass(slots=True)
class _Call:
    """A tool call in the stream: its text, and how much of that and whether its id have been emitted."""

    text: list[str] = field(default_factory=list)
    length: int = 0
    shown: int = 0
    has_id: bool = False
    pace: Pace = field(default_factory=Pace)

    def news(self) -> str:
        """Return the arguments to show now."""
        if not self.pace.due(self.length):
            return ""
        whole = "".join(self.text)
        if not begins_object(whole):
            return ""
        before, self.shown = self.shown, len(whole)
        return whole[before:]


class ToolPieces:
    """Tracks the tool calls of one stream."""

    def __init__(self) -> None:
        self._calls: dict[int, _Call] = {}

    def step(self, deltas: Sequence[ToolCallDelta]) -> Iterator[Piece]:
        """Yield the chunks for one delta.

        Arguments that do not begin as an object are held back: some models encode the object twice, which the core
        resolves at the end.
        """
        for delta in deltas:
            call = self._calls.setdefault(delta.index, _Call())
            call.text.append(delta.arguments)
            call.length += len(delta.arguments)
            call.has_id = call.has_id or delta.id is not None
            first = not call.shown
            arguments = call.news()
            if delta.id or delta.name or arguments:
                yield _piece(delta.index, arguments, delta.id, delta.name, whole=first)

    def end(self, choice: Choice) -> Iterator[Piece]:
        """Yield what is still missing from the calls of a complete answer."""
        for made in (*choice.tool_calls, *choice.invalid_tool_calls):
            call = self._calls.get(made.index, _Call())
            text = "".join(call.text) if call.shown else made.arguments
            missing = text[call.shown :] if made.error is None else spoiled(text, call.shown)
            call_id = None if call.has_id else made.id
            if missing or call_id:
                yield _piece(made.index, missing, call_id, whole=not call.shown and made.error is None)


def _piece(index: int, arguments: str, call_id: str | None = None, name: str | None = None, *, whole: bool) -> Piece:
    chunk = {"index": index, "args": arguments, "id": call_id, "name": name}
    return Piece(chunk, whole or len(arguments) <= _SHORT)


def spoiled(text: str, shown: int = 0) -> str:
    """Return the rest of a call's arguments, after the part already shown, with a :func:`spoiler`.

    It comes last; in a long text first, since LangChain reads no further.

    >>> spoiled('{"amount": 1000', 9), spoiled("[" * 1000)[:3]
    (': 1000]', '][[')
    """
    if len(text) <= _SHORT:
        return text[shown:] + spoiler(text)
    return spoiler(text[:shown]) + text[shown:]


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
    except (ValueError, RecursionError):
        pass
    else:
        return False
    try:
        return not isinstance(parse_partial_json(text), dict)
    except (ValueError, RecursionError):
        return True
