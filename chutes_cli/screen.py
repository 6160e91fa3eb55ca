"""An answer on the screen: the text as it comes, which model failed, and what it took."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from chutes_cli.out import Channel, Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from collections.abc import Callable

    from chutes_cli.answers import Answered
    from chutes_cli.asking import Question
    from chutes_core.fallback import Attempt
    from chutes_core.response import Delta

__all__ = ["Screen", "show", "teller"]


def teller(out: Out) -> Callable[[Attempt], None]:
    """Say which model failed, before the next is asked."""

    def tell(attempt: Attempt) -> None:
        out.note(Cell("note: ", "yellow"), str(attempt))

    return tell


def show(question: Question, options: argparse.Namespace, out: Out) -> Answered:
    """Write an answer as it comes, and what it took."""
    from chutes_cli.answers import answer_json, summed_up

    screen = Screen(out, reasoning=_shows_reasoning(options, out))
    try:
        with closing(iter(question)) as parts:
            for part in parts:
                if not out.as_json:
                    screen.take(part)
    finally:
        screen.end()
    answer = question.answered
    if out.as_json:
        out.data(answer_json(answer))
        return answer
    if answer.reply.finish_reason == "length":
        out.note(Cell("note: ", "yellow"), "The answer was cut off by --max-tokens or by the model's own limit.")
    if not options.quiet:
        out.facts(summed_up(answer))
    return answer


def _shows_reasoning(options: argparse.Namespace, out: Out) -> bool:
    return bool(options.show_reasoning) or (out.is_terminal("err") and not options.hide_reasoning)


class Screen:
    """Writes the parts of an answer: the answer to standard output, its reasoning, dimmed, to standard error."""

    def __init__(self, out: Out, *, reasoning: bool) -> None:
        self._out = out
        self._reasoning = reasoning
        self._channel: Channel | None = None

    def take(self, part: Delta) -> None:
        """Write a part."""
        from chutes_core.fallback.relay import Restart

        if isinstance(part, Restart):
            self.end()
            told = f"Ignore the answer above: it broke off, and {part.model} starts over."
            self._out.note(Cell("note: ", "yellow"), told)
            return
        if part.reasoning and self._reasoning:
            self._write("err", part.reasoning, "dim")
        if part.content:
            self._write("out", part.content)

    def end(self) -> None:
        """The answer is over, or broken off: what comes next begins on a line of its own."""
        self._out.end_line()
        self._channel = None

    def _write(self, channel: Channel, text: str, style: str = "") -> None:
        if channel != self._channel:
            text = text.lstrip()
            if not text:
                return  # engines put empty lines between reasoning and answer
            self.end()
            self._channel = channel
            if channel == "err":
                self._out.piece("thinking: ", style, channel=channel)
        self._out.piece(text, style, channel=channel)
