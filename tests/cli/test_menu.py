"""A choice among lines: by the arrows at a real terminal, by a number elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chutes_cli.exits import Stop
from chutes_cli.menu import Menu, choose
from chutes_cli.out import Out
from tests.terminal import Terminal

from .conftest import Stream

ROOT = Path(__file__).parent.parent.parent
ASKS = "from chutes_cli.menu import choose\nfrom chutes_cli.out import Out\n" + (
    "print('chose', choose('Which?', ['acme/one', 'acme/two', 'other/three'], 1, Out(), flag='--model'))"
)
WORDS = [sys.executable, "-c", ASKS]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": "1"}
UP, DOWN = "\x1b[A", "\x1bOB"


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ("\r", 1),
        (f"{UP}\r", 0),
        (f"{UP}{UP}{DOWN}{DOWN}{DOWN}{DOWN}\r", 2),
        ("oth\r", 2),
        ("nope\r\x7f\x7f\x7f\x7f\r", 1),
    ],
    ids=["enter", "up", "to the ends", "letters", "letters that nothing has"],
)
def test_keys_choose(keys: str, chosen: int) -> None:
    """Arrows move, letters leave the lines that have them, Enter chooses; the menu is gone afterwards."""
    with Terminal(WORDS, ENV) as terminal:
        terminal.until("3 of 3\n")
        terminal.type(keys)
        terminal.until(f"\x1b[Jchose {chosen}\n")
        assert terminal.end() == 0


def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    """The menu is gone, and what is typed shows again."""
    with Terminal(
        ["sh", "-c", f"trap '' INT; (trap - INT; {sys.executable} -c \"$0\"); stty -a", ASKS], ENV
    ) as terminal:
        terminal.until("3 of 3\n")
        terminal.type("\x03")
        terminal.until("KeyboardInterrupt")
        terminal.until(" icanon ")
        terminal.until(" echo ")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [("3\n", 0, "chose 2\n"), ("\n", 0, "chose 1\n"), ("9\nx\n1\n", 0, "chose 0\n"), ("", 1, "")],
    ids=["a number", "nothing", "a wrong one first", "the end"],
)
def test_numbers_choose_where_there_is_no_terminal(typed: str, status: int, said: str) -> None:
    """Enter takes what is proposed; where nothing is to be read, the option is named."""
    done = subprocess.run(WORDS, input=typed, capture_output=True, text=True, env=ENV)
    assert (done.returncode, done.stdout) == (status, said)
    assert "  2  acme/two\n" in done.stderr
    assert ("say --model." in done.stderr) is (status == 1)


def test_a_name_moves_no_cursor_and_breaks_no_line() -> None:
    """What a gateway calls a model is shown without its escapes, and cut where the terminal ends."""
    asks = ASKS.replace("acme/one", "acme/\\x1b[9A" + "x" * 200)
    with Terminal([sys.executable, "-c", asks], ENV) as terminal:
        shown = terminal.until("3 of 3\n")
        assert f"\n  acme/[9A{'x' * 69}\n" in shown or f"[J  acme/[9A{'x' * 69}\n" in shown
        terminal.type("\r")
        assert terminal.end() == 0


def test_a_long_menu_shows_the_part_around_the_mark() -> None:
    """Never more lines than fit, and always the marked one."""
    menu = Menu([str(number) for number in range(100)], 50)
    for _ in range(70):
        assert f"> {menu.chosen}" in menu.lines()
        assert len(menu.lines()) == 13
        menu.press(DOWN)
    assert menu.chosen == 99


class Person(Stream):
    """A terminal whose reader presses the next key whenever something was shown."""

    def __init__(self, keyboard: int, keys: list[bytes]) -> None:
        super().__init__(terminal=True)
        self._keyboard, self._keys = keyboard, keys

    def flush(self) -> None:
        if self._keys and "of 3" in self.getvalue():
            os.write(self._keyboard, self._keys.pop(0))


def test_a_program_may_ask_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a program around it: the same menu, below a line that says what the columns are."""
    keyboard, terminal = os.openpty()
    person = Person(keyboard, [b"\x1b[B", b"\r"])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", person)
    try:
        with os.fdopen(terminal) as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            rows = ["acme/one", "acme/two", "other/three"]
            assert choose("Which?", rows, 0, Out(interactive=True, width=80), header="model", flag="--model") == 1
    finally:
        os.close(keyboard)
    assert "  model" in person.getvalue()
    assert person.getvalue().endswith("\x1b[J")


@pytest.mark.parametrize(("typed", "chosen"), [("2\n", 1), ("\n", 2), ("7\n1\n", 0), ("", None)])
def test_a_number_is_asked_for_elsewhere(typed: str, chosen: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal; the end of what is typed chooses nothing."""
    said = Stream()
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    monkeypatch.setattr(sys, "stderr", said)

    def ask() -> int:
        return choose("Which?", ["one", "two", "three"], 2, Out(interactive=False), header="name", flag="--model")

    if chosen is None:
        with pytest.raises(Stop, match="say --model"):
            ask()
    else:
        assert ask() == chosen
    assert "     name\n" in said.getvalue()
