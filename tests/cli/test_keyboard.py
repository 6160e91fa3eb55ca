"""A conversation at a real terminal: the keys, and what they do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, OTHER, SAID
from tests.terminal import Terminal

pytest.importorskip("readline")
ROOT = Path(__file__).parent.parent.parent
START = "Ctrl-D to quit.\n> "
UP, CTRL_C, CTRL_D = "\x1b[A", "\x03", "\x04"
Talk = Callable[..., Terminal]


@pytest.fixture
def talk(service: LocalChutes, tmp_path: Path) -> Iterator[Talk]:
    """Hold a conversation on a terminal: ``talk("-c")``."""
    env = {
        **os.environ,
        **{f"XDG_{name}_HOME": str(tmp_path / name) for name in ("STATE", "CACHE")},
        "CHUTES_MODEL": MODEL,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm",
        "NO_COLOR": "1",
    }
    with ExitStack() as open_ones:

        def talking(*words: str, **more: str) -> Terminal:
            words = (sys.executable, "-m", "chutes_cli", "chat", *words)
            terminal = open_ones.enter_context(Terminal(words, {**env, **more}))
            terminal.until(START)
            return terminal

        yield talking


def test_ctrl_c_clears_the_line_and_a_second_one_ends_with_the_total(talk: Talk, service: LocalChutes) -> None:
    """What was half typed is not asked; the total and status 130 are the end."""
    terminal = talk()
    terminal.type("Hello\r")
    terminal.until(f"{SAID}Hello\n")
    terminal.until("> ")
    terminal.type("half a ques")
    terminal.until("half a ques")
    terminal.type(CTRL_C)
    assert terminal.until("> ") == "\n> "
    terminal.type(CTRL_C)
    assert terminal.until("1 call, $0.0000").startswith("\n1 call")
    assert terminal.end() == 130
    assert len([entry for entry in service.journal.entries if entry.method == "POST"]) == 1


def test_the_first_ctrl_c_on_an_empty_line_says_how_to_end(talk: Talk) -> None:
    """And a line that is typed after it is cleared like any other."""
    terminal = talk()
    terminal.type(CTRL_C)
    assert terminal.until("> ") == "\nCtrl-C once more, or Ctrl-D, quits.\n> "
    terminal.type("never mind")
    terminal.until("never mind")
    terminal.type(CTRL_C)
    terminal.until("\n> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0


def test_ctrl_c_in_an_answer_stops_that_answer_alone(talk: Talk, service: LocalChutes) -> None:
    """The conversation goes on without it, and a second one at the empty line is the first there."""
    service.faults.parse(f"{MODEL}=stall(after=2) x1")
    terminal = talk()
    terminal.type("Hello\r")
    terminal.until("This is")
    terminal.type(CTRL_C)
    terminal.until("stopped\n> ")
    terminal.type(CTRL_C)
    terminal.until("quits.\n> ")
    terminal.type("Again\r")
    terminal.until(f"{SAID}Again\n")
    terminal.until("> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    messages = [entry.body["messages"] for entry in service.journal.entries if entry.method == "POST"]
    assert [message["content"] for message in messages[1]] == ["Again"]


def test_arrows_find_the_lines_of_former_conversations(talk: Talk) -> None:
    """Also after the program has ended; with CHUTES_HISTORY=off there is nothing to find."""
    terminal = talk()
    terminal.type("Why is the sky blue?\r")
    terminal.until(f"{SAID}Why is the sky blue?\n")
    terminal.until("> ")
    terminal.type("/exit\r")
    assert terminal.end() == 0
    terminal = talk()
    terminal.type(UP + UP)
    terminal.until("Why is the sky blue?")
    terminal.type("\r")
    terminal.until(f"{SAID}Why is the sky blue?\n")
    terminal.until("> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    terminal = talk(CHUTES_HISTORY="off")
    terminal.type(UP + CTRL_D)  # at an empty line it is the end
    assert terminal.end() == 0
    assert "sky" not in terminal.shown


def test_the_last_conversation_goes_on(talk: Talk, service: LocalChutes) -> None:
    """-c has its model, its system message and its turns; /save writes them down, /model says who is asked."""
    terminal = talk("--system", "Be brief.")
    terminal.type(f"/model {OTHER}\r")
    terminal.until("\n> ")
    terminal.type("My name is Ada.\r")
    terminal.until(f"{SAID}My name is Ada.\n")
    terminal.until("> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    terminal = talk("-c")
    assert f"{OTHER}, 1 question so far. Type /help" in terminal.shown
    terminal.type("Who am I?\r")
    terminal.until(f"{SAID}Who am I?\n")
    terminal.until("> ")
    terminal.type("/save ~/talk.md\r")
    terminal.until("talk.md.\n> ")
    terminal.type("/model\r")
    terminal.until(f"Asking {OTHER}.")
    terminal.until("\n> ")
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    last = [entry.body for entry in service.journal.entries if entry.method == "POST"][-1]
    assert last["model"] == OTHER
    assert [message["content"] for message in last["messages"]] == [
        "Be brief.", "My name is Ada.", f"{SAID}My name is Ada.", "Who am I?",
    ]  # fmt: skip
