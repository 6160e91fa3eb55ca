"""What a reader was given, and the one function that says what it was worth. It knows no client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.faults.world import Call

Verdict = Literal["whole", "wrong", "before", "after"]


class Restart:
    """Forget what came before: the answer begins anew."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Tool calls: a sign that some are being written, or, in the end, what the client reports as called."""

    calls: Sequence[tuple[str, object]] | None = None


Seen = str | Restart | Tools


@dataclass(slots=True)
class Heard:
    """What a reader got of one answer.

    Attributes:
        text: What stands on the reader's screen.
        calls: The tool calls that an agent would now carry out.
        seen: Something of an answer was given out.
        error: What was raised.
    """

    text: str = ""
    calls: list[tuple[str, object]] = field(default_factory=list)
    seen: bool = False
    error: BaseException | None = None

    def take(self, part: Seen) -> None:
        """Read the next part."""
        if isinstance(part, Restart):
            self.text, self.calls = "", []
            return
        self.seen = self.seen or part != ""
        if isinstance(part, str):
            self.text += part
        elif part.calls is not None:
            self.calls = list(part.calls)


def judge(call: Call, heard: Heard) -> Verdict:
    """An answer is whole, or an error said that it is not (before or after something was given out), or it is wrong.

    >>> from benchmarks.faults.judge import Heard, judge
    >>> call = Call(0, 0.0, tool=False, tokens=2)
    >>> judge(call, Heard("0000.00,0000.01,")), judge(call, Heard("0000.00,"))
    ('whole', 'wrong')
    """
    if heard.error is not None:
        return "after" if heard.seen else "before"
    return "whole" if heard.text == call.text and heard.calls == call.tools else "wrong"
