"""A conversation at the terminal: lines in, answers out, and a few commands that begin with a slash."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop, described
from chutes_cli.memory import Conversation
from chutes_cli.options import nearest
from chutes_cli.out import Out
from chutes_cli.prompts import Json, image_url, params, question, system
from chutes_core.errors import ChutesError, ModelNotFoundError
from chutes_core.shown.numbers import dollars, plural
from chutes_core.shown.table import Cell
from chutes_core.usage import Totals

if TYPE_CHECKING:
    from chutes_cli.memory import Memory
    from chutes_core.client import ChutesClient
    from chutes_core.fallback import Health

__all__ = ["Talk", "markdown", "talk"]

HELP = """\
/model NAME    ask another model; alone: say which one
/system TEXT   set the system message
/image FILE    send an image with the next question
/save FILE     write the conversation to a new file: Markdown, or .json
/new           start a new conversation
/exit          quit, as do Ctrl-D and a second Ctrl-C; the first clears the line
Ctrl-C stops an answer that is being written.
A line that ends with \\ continues on the next."""
_COMMANDS = ("/model", "/system", "/image", "/save", "/new", "/help", "/exit", "/quit")


@dataclass(slots=True)
class Talk:
    """What a conversation remembers.

    >>> talk = Talk("acme/one")
    >>> talk.obey("/model acme/two"), talk.model
    ('Now asking acme/two.', 'acme/two')
    >>> talk.obey("Hello") is None, talk.obey("/modle")
    (True, 'Unknown command /modle. Did you mean /model? /help lists the commands.')
    """

    model: str
    system: str | None = None
    images: list[str] = field(default_factory=list)
    turns: list[Json] = field(default_factory=list)
    over: bool = False

    def obey(self, line: str) -> str | None:
        """Do what a line with a slash says, and answer it; None for a line that is a question.

        Raises:
            OSError: A file cannot be read, or written.
            Stop: A file is no image.
        """
        if not line.startswith("/"):
            return None
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        match word:
            case "/exit" | "/quit":
                self.over = True
                return ""
            case "/new":
                self.turns.clear()
                return "Started a new conversation."
            case "/model":
                self.model = rest or self.model
                return f"Now asking {rest}." if rest else f"Asking {self.model}. /model NAME asks another one."
            case "/system":
                self.system = rest or None
                return "System message set." if rest else "System message removed."
            case "/image" if rest:
                self.images.append(image_url(str(Path(rest).expanduser()) if rest.startswith("~") else rest))
                return f"{rest} will be sent with the next question."
            case "/save" if rest:
                return self._save(Path(rest).expanduser())
            case "/image" | "/save":
                return f"{word} needs a file: {word} FILE."
            case "/help":
                return HELP
        near = nearest(word, _COMMANDS)
        return f"Unknown command {word}.{f' Did you mean {near}?' if near else ''} /help lists the commands."

    def _save(self, path: Path) -> str:
        if not self.turns:
            return "There is nothing to save yet."
        messages = [*system(self.system), *self.turns]
        as_json = path.suffix.lower() == ".json"
        text = json.dumps(messages, indent=2, ensure_ascii=False) + "\n" if as_json else markdown(messages)
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return f"{path} exists already: choose another name."
        return f"Saved in {path}."

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


def markdown(messages: Sequence[Json]) -> str:
    r"""Write a conversation down for a person.

    >>> markdown([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}])
    '## user\n\nHello\n\n## assistant\n\nHi.\n'
    """
    return "\n".join(f"## {each['role']}\n\n{_text(each['content'])}\n" for each in messages)


def _text(content: object) -> str:
    if not isinstance(content, list):
        return str(content)
    return "\n\n".join(str(part["text"]) if part["type"] == "text" else "(an image)" for part in content)


def talk(state: Talk, others: Sequence[str], memory: Memory, options: argparse.Namespace, out: Out) -> int:
    """Hold a conversation until its end; ``others`` are asked where its model fails."""
    from chutes_cli.keyboard import Keyboard
    from chutes_cli.options import client
    from chutes_cli.waiting import RETRIES, TellingClock
    from chutes_core.fallback import Health

    spent, health, status = Totals(), Health(), Exit.OK
    keyboard = Keyboard(memory.history)
    before = f", {plural(len(state.turns) // 2, 'question')} so far" if state.turns else ""
    out.note(Cell(f"{state.model}{before}. Type /help for commands, Ctrl-D to quit.", "dim"))
    clock = TellingClock(options, out)
    with client(options, max_retries=0 if others else RETRIES, clock=clock, listed=True) as service:
        try:
            while not state.over and (line := keyboard.read("Ctrl-C once more, or Ctrl-D, quits.")) is not None:
                if (reply := _obeyed(state, line)) is not None:
                    if reply:
                        out.note(Cell(reply, "dim"))
                elif line.strip():
                    clock.begin()
                    models = list(dict.fromkeys([state.model, *others]))
                    spent += _turn(state, models, memory, line, service, health, options, out)
        except KeyboardInterrupt:
            status = Exit.INTERRUPTED
    if spent.calls:
        known = "" if not spent.unpriced_calls else " at least"
        out.note(Cell(f"{plural(spent.calls, 'call')},{known} {dollars(spent.cost)}.", "dim"))
    return status


def _obeyed(state: Talk, line: str) -> str | None:
    try:
        return state.obey(line)
    except (OSError, RuntimeError, ValueError, Stop) as error:  # also of a name that cannot be a path
        return described(error)


def _turn(
    state: Talk,
    models: list[str],
    memory: Memory,
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
        memory.save(Conversation(models, state.system, state.turns))
    except KeyboardInterrupt:
        out.note(Cell("stopped", "dim"))
    except (ChutesError, OSError) as error:
        way_out = " /model NAME asks another one." if isinstance(error, ModelNotFoundError) else ""
        out.note(Cell("error: ", "red"), f"{described(error)}{way_out}")
    return service.ledger.totals()
