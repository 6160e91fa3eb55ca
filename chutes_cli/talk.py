"""A conversation at the terminal: lines in, answers out, and a few commands that begin with a slash."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, described
from chutes_cli.out import Out
from chutes_cli.prompts import Json, params, question, system
from chutes_core.errors import ChutesError
from chutes_core.shown.numbers import dollars, plural
from chutes_core.shown.table import Cell
from chutes_core.usage import Totals

if TYPE_CHECKING:
    from chutes_core.client import ChutesClient
    from chutes_core.fallback import Health

__all__ = ["Talk", "talk"]

HELP = """\
/model NAME    switch to another model
/system TEXT   set the system message
/image FILE    send an image with the next question
/new           start a new conversation
/exit          quit, as does Ctrl-D. Ctrl-C stops an answer
A line that ends with \\ continues on the next."""


@dataclass(slots=True)
class Talk:
    """What a conversation remembers.

    >>> talk = Talk("acme/one")
    >>> talk.obey("/model acme/two"), talk.model
    ('Now asking acme/two.', 'acme/two')
    >>> talk.obey("Hello") is None, talk.obey("/nope")
    (True, 'Unknown command /nope; /help lists the commands.')
    """

    model: str
    system: str | None = None
    images: list[str] = field(default_factory=list)
    turns: list[Json] = field(default_factory=list)
    over: bool = False

    def obey(self, line: str) -> str | None:
        """Do what a line with a slash says, and answer it; None for a line that is a question."""
        if not line.startswith("/"):
            return None
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word in ("/exit", "/quit"):
            self.over = True
            return ""
        if word == "/new":
            self.turns.clear()
            return "Started a new conversation."
        if word == "/model" and rest:
            self.model = rest
            return f"Now asking {rest}."
        if word == "/system":
            self.system = rest or None
            return "System message set." if rest else "System message removed."
        if word == "/image" and rest:
            self.images.append(rest)
            return f"{rest} will be sent with the next question."
        return HELP if word == "/help" else f"Unknown command {word}; /help lists the commands."

    def asked(self, line: str) -> list[Json]:
        """Return the whole conversation with a question at its end."""
        return [*system(self.system), *self.turns, question(line, self.images)]

    def answered(self, messages: list[Json], answer: str) -> None:
        """Remember a question and its answer."""
        self.turns = [
            *(each for each in messages if each["role"] != "system"),
            {"role": "assistant", "content": answer},
        ]
        self.images = []


def talk(options: argparse.Namespace, out: Out) -> int:
    """Hold a conversation until its end."""
    from chutes_cli.options import client, names
    from chutes_cli.waiting import RETRIES, TellingClock
    from chutes_core.fallback import Health

    with suppress(ImportError):  # it is not on every system
        import_module("readline")  # gives input() a history and the arrow keys
    state, spent, health = Talk(options.model, options.system, list(options.image)), Totals(), Health()
    others = names(options.fallback or "")
    out.note(Cell(f"{state.model}. Type /help for commands, Ctrl-D to quit.", "dim"))
    clock = TellingClock(options, out)
    with client(options, max_retries=0 if others else RETRIES, clock=clock, prices=True) as service:
        while (line := _line()) is not None:
            reply = state.obey(line)
            if state.over:
                break
            if reply is not None:
                out.note(Cell(reply, "dim"))
            elif line.strip():
                clock.begin()
                spent += _turn(state, [state.model, *others], line, service, health, options, out)
    if spent.calls:
        known = "" if not spent.unpriced_calls else " at least"
        out.note(Cell(f"{plural(spent.calls, 'call')},{known} {dollars(spent.cost)}.", "dim"))
    return Exit.OK


def _line() -> str | None:
    """Read a line, or several that are joined by backslashes; None at the end."""
    lines: list[str] = []
    try:
        while True:
            line = input("… " if lines else "> ")
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)
    except EOFError:
        print()
        return None


def _turn(
    state: Talk,
    models: list[str],
    line: str,
    service: ChutesClient,
    health: Health,
    options: argparse.Namespace,
    out: Out,
) -> Totals:
    from chutes_cli.asking import Question
    from chutes_cli.screen import show, teller
    from chutes_core.calls.clock import SystemClock

    try:
        messages = state.asked(line)
        asked = Question(
            service, models, messages, params(options), clock=SystemClock(), health=health,
            deadline=options.timeout, on_failure=teller(out),
        )  # fmt: skip
        state.answered(messages, show(asked, options, out).reply.content)
    except KeyboardInterrupt:
        out.note(Cell("stopped", "dim"))
    except (ChutesError, OSError) as error:
        out.note(Cell("error: ", "red"), described(error))
    return service.ledger.totals()
