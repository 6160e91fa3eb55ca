"""A choice among lines: with the arrows at a terminal, by its number elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out, visible
from chutes_core.shown.table import Cell

__all__ = ["Menu", "choose"]

_ROOM = 12
_KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
_MOVES = {"\x1b[A": -1, "\x1bOA": -1, "\x1b[B": 1, "\x1bOB": 1, "\x1b[5~": -_ROOM, "\x1b[6~": _ROOM}


@dataclass(slots=True)
class Menu:
    r"""What is shown, and where the mark is. Typed letters leave the lines that have them.

    >>> menu = Menu(["acme/one", "acme/two", "acme/three"])
    >>> menu.press("\x1b[B"), menu.press("\r"), menu.chosen
    (False, True, 1)
    >>> menu.press("h"), menu.press("\r"), menu.chosen
    (False, True, 2)
    """

    rows: Sequence[str]
    at: int = 0
    sought: str = ""

    @property
    def found(self) -> list[int]:
        """The places of the lines that are left."""
        return [place for place, row in enumerate(self.rows) if self.sought.lower() in row.lower()]

    @property
    def chosen(self) -> int:
        """The place of the marked line."""
        found = self.found
        return self.at if self.at in found else found[0]

    def press(self, key: str) -> bool:
        """Take a key; True where it chose."""
        found = self.found
        if key in _MOVES and found:
            self.at = found[min(max(found.index(self.chosen) + _MOVES[key], 0), len(found) - 1)]
        elif key in ("\r", "\n"):
            return bool(found)
        elif key in ("\x7f", "\b"):
            self.sought = self.sought[:-1]
        elif key.isprintable():
            self.sought += key
        return False

    def lines(self) -> list[str]:
        """The lines to show: as many as there is room for, around the mark."""
        found = self.found
        mark = found.index(self.chosen) if found else 0
        first = min(max(mark - _ROOM // 2, 0), max(len(found) - _ROOM, 0))
        shown = [f"{'>' if place == mark else ' '} {self.rows[found[place]]}" for place in range(first, len(found))]
        return [
            *shown[:_ROOM],
            f"  {len(found)} of {len(self.rows)}" + (f" with {self.sought!r}" if self.sought else ""),
        ]


def choose(title: str, rows: Sequence[str], at: int, out: Out, *, header: str = "", flag: str) -> int:
    """Ask for one of the lines, and return its place; ``flag`` is the option that answers without being asked.

    Raises:
        Stop: Standard input ended.
    """
    out.note(Cell(title, "bold"))
    if out.interactive and os.environ.get("TERM") != "dumb" and out.is_terminal("err"):
        try:
            import termios  # noqa: F401
        except ImportError:
            pass  # not on this system
        else:
            out.note(Cell("Arrows move, letters search, Enter takes.", "dim"))
            if header:
                out.note(Cell(f"  {header}", "dim"))
            return _by_arrows(Menu(rows, at))
    if header:
        out.note(f"     {header}")
    for number, row in enumerate(rows, 1):
        out.note(f"{number:3}  {row}")
    while True:
        out.piece(f"Number [{at + 1}]: ", channel="err")
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not out.interactive:
            out.end_line()
        if not line:
            raise Stop(f"Nothing was chosen: answer, or say {flag}.", Exit.USAGE)
        if not line.strip():
            return at
        if line.strip().isdecimal() and 1 <= int(line) <= len(rows):
            return int(line) - 1
        out.note(f"A number from 1 to {len(rows)}, or Enter for {at + 1}.")


def _by_arrows(menu: Menu) -> int:
    shown = 0
    with _keys() as keys:
        try:
            while True:
                lines = menu.lines()
                up = f"\x1b[{shown}A" if shown else ""
                room = shutil.get_terminal_size().columns - 1  # a line that is broken would be counted as one
                sys.stderr.write("\r" + up + "\x1b[J" + "".join(f"{visible(line)[:room]}\n" for line in lines))
                sys.stderr.flush()
                shown = len(lines)
                if menu.press(next(keys)):
                    return menu.chosen
        finally:
            sys.stderr.write(f"\r\x1b[{shown}A\x1b[J")
            sys.stderr.flush()


@contextmanager
def _keys() -> Iterator[Iterator[str]]:
    """The keys that are pressed, one at a time and not shown."""
    import termios
    import tty

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed() -> Iterator[str]:
        while data := os.read(terminal, 256):
            yield from _KEY.findall(data.decode("utf-8", "replace"))
        raise KeyboardInterrupt

    try:
        tty.setcbreak(terminal)
        yield pressed()
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
