"""Tool calls as they stream: pieces of arguments that a framework may add up, and that end as what each call is. Pure.

Frameworks that add up the pieces of a call parse the sum anew with every piece, and where that is no JSON, once for
every character of it. So arguments are given out only as long as they may become an object, and in longer pieces the
longer they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chutes_core.json_text import Pace, begins_object
from chutes_core.response import Choice, ToolCallDelta

__all__ = ["SHORT", "CallPiece", "CallPieces"]

SHORT = 400
"""Characters that a framework may parse whatever they are."""


class CallPiece(NamedTuple):
    """A piece of a call, and whether a framework may parse it as it is."""

    place: int
    arguments: str
    id: str | None
    name: str | None
    parsed: bool


@dataclass(slots=True)
class _Call:
    """A tool call in the stream: its text, and how much of that and whether its id have been given out."""

    text: list[str] = field(default_factory=list)
    length: int = 0
    shown: int = 0
    has_id: bool = False
    pace: Pace = field(default_factory=Pace)

    def news(self) -> str:
        """Return the arguments to give out now."""
        if not self.pace.due(self.length):
            return ""
        whole = "".join(self.text)
        if not begins_object(whole):
            return ""
        before, self.shown = self.shown, len(whole)
        return whole[before:]


class CallPieces:
    """The tool calls of one stream.

    Args:
        spoiled: Returns the rest of an invalid call's arguments, after as much as was given out, in a form of which the
            framework makes no valid call.

    >>> pieces = CallPieces(lambda text, shown: text[shown:])
    >>> [piece.arguments for piece in pieces.step([ToolCallDelta(0, "call_0", "pay", '{"amount": 1')])]
    ['{"amount": 1']
    """

    def __init__(self, spoiled: Callable[[str, int], str]) -> None:
        self._spoiled = spoiled
        self._calls: dict[int, _Call] = {}

    def step(self, deltas: Sequence[ToolCallDelta]) -> Iterator[CallPiece]:
        """Yield the pieces for one delta.

        Arguments that do not begin as an object are held back: some models encode the object twice, which is resolved
        at the end.
        """
        for delta in deltas:
            call = self._calls.setdefault(delta.index, _Call())
            call.text.append(delta.arguments)
            call.length += len(delta.arguments)
            call.has_id = call.has_id or delta.id is not None
            first = not call.shown
            arguments = call.news()
            if delta.id or delta.name or arguments:
                parsed = first or len(arguments) <= SHORT
                yield CallPiece(delta.index, arguments, delta.id, delta.name, parsed)

    def end(self, choice: Choice) -> Iterator[CallPiece]:
        """Yield what is still missing from the calls of a complete answer."""
        for made in (*choice.tool_calls, *choice.invalid_tool_calls):
            call = self._calls.get(made.index, _Call())
            text = "".join(call.text) if call.shown else made.arguments
            missing = text[call.shown :] if made.error is None else self._spoiled(text, call.shown)
            call_id = None if call.has_id else made.id
            if missing or call_id:
                parsed = (not call.shown and made.error is None) or len(missing) <= SHORT
                yield CallPiece(made.index, missing, call_id, None, parsed)
