"""Where a command writes: its result to standard output, everything about it to standard error.

Colours and bars come from rich, when it is installed and a person is looking: they are left away in a pipe, with
``NO_COLOR`` and on a dumb terminal. A pipe also gets tables in their full width.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, TextIO

from chutes_core.shown.table import Cell, Table, fitted, in_one_line, laid_out

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Bar", "Channel", "Out", "as_json", "in_lines", "visible", "wants_colour"]

Channel = Literal["out", "err"]
# A model, or a service, that writes these could move a terminal's cursor, hide what it said, or turn it around: the
# controls of terminals, then those of Unicode that change the direction, end a line, or are not seen.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    r"""Leave out what a terminal would obey instead of showing.

    >>> visible("a\x1b[2Jb\u202ec")
    'a[2Jbc'
    """
    return _CONTROLS.sub("", text)


def as_json(document: object, indent: int | None = None) -> str:
    r"""Write JSON in which what a terminal would obey is escaped, which changes nothing of its meaning.

    >>> as_json({"a": "b\u202ec"})
    '{"a": "b\\u202ec"}'
    """
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return _CONTROLS.sub(lambda match: json.dumps(match[0])[1:-1], text)


def wants_colour(terminal: bool, env: Mapping[str, str]) -> bool:
    """Decide whether a stream gets colours.

    >>> wants_colour(True, {"TERM": "xterm"}), wants_colour(True, {"NO_COLOR": "1"}), wants_colour(False, {})
    (True, False, False)
    """
    return terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def in_lines(parts: Sequence[str], width: int | None, gap: str = " · ") -> list[str]:
    """Join parts, and begin a new line where one would become too long.

    >>> in_lines(["acme/one", "12 in + 34 out tokens", "$0.25"], 34)
    ['acme/one · 12 in + 34 out tokens', '$0.25']
    """
    lines: list[str] = []
    for part in parts:
        if lines and (width is None or len(lines[-1]) + len(gap) + len(part) <= width):
            lines[-1] += gap + part
        else:
            lines.append(part)
    return lines


class Out:
    """The two streams of a command.

    Args:
        as_json: The result is wanted as JSON.
        width: Characters in a line; None asks the terminal, and is without limit in a pipe.
        interactive: Whether a person sits at both ends; None looks.

    >>> Out().line("plain", " text")
    plain text
    """

    def __init__(self, *, as_json: bool = False, width: int | None = None, interactive: bool | None = None) -> None:
        self.as_json = as_json
        self._width = width
        self._interactive = interactive
        self._open: Channel | None = None
        self._consoles: dict[Channel, Console | None] = {}

    # --- what the streams are ----------------------------------------------------------------------

    def is_terminal(self, channel: Channel) -> bool:
        """Whether a person reads a stream."""
        return _stream(channel).isatty()

    @property
    def interactive(self) -> bool:
        """Whether a person types and reads."""
        if self._interactive is not None:
            return self._interactive
        return sys.stdin is not None and sys.stdin.isatty() and self.is_terminal("out")

    @property
    def width(self) -> int | None:
        """Characters in a line of standard output; None is as many as it takes."""
        if self._width is None and self.is_terminal("out"):
            return shutil.get_terminal_size().columns
        return self._width

    # --- results -----------------------------------------------------------------------------------

    def line(self, *parts: Cell | str) -> None:
        """Write a line of the result."""
        self._write("out", parts)

    def table(self, table: Table) -> None:
        """Write a table of the result, in the width there is."""
        for cells in laid_out(fitted(table, self.width)):
            self.line(*cells)

    def data(self, document: Mapping[str, object]) -> None:
        """Write the whole result as JSON."""
        self.line(as_json(document, 2))

    def piece(self, text: str, style: str = "", *, channel: Channel = "out") -> None:
        """Write a piece of a line at once, as it comes."""
        self._write(channel, [Cell(text, style)], end="")
        self._open = None if text.endswith("\n") else channel

    def end_line(self) -> None:
        """End the line that pieces have begun, if there is one."""
        if self._open is not None:
            channel, self._open = self._open, None
            self._write(channel, [], end="\n")

    # --- everything else ---------------------------------------------------------------------------

    def note(self, *parts: Cell | str) -> None:
        """Say something about the result, on a line of its own."""
        if self._open is not None and self.is_terminal(self._open):
            self.end_line()
        self._write("err", parts)

    def facts(self, parts: Sequence[str]) -> None:
        """Sum something up: parts with dots between them, in as many lines as it takes."""
        for line in in_lines(
            [in_one_line(each) for each in parts],
            shutil.get_terminal_size().columns if self.is_terminal("err") else self._width,
        ):
            self.note(Cell(line, "dim"))

    def bar(self, total: int, what: str) -> AbstractContextManager[Bar]:
        """Show how far something is, where a person is looking; counts on in either case. 0 shows nothing."""
        console = self._console("err") if total and not self.as_json else None
        return nullcontext(Bar()) if console is None else _RichBar(console, total, what)

    # --- inside ------------------------------------------------------------------------------------

    def _console(self, channel: Channel) -> Console | None:
        if channel not in self._consoles:
            self._consoles[channel] = None
            if wants_colour(self.is_terminal(channel), os.environ):
                try:
                    from rich.console import Console
                except ImportError:
                    pass  # the extra is not installed: plain text says the same
                else:
                    self._consoles[channel] = Console(file=_stream(channel), highlight=False, emoji=False)
        return self._consoles[channel]

    def _write(self, channel: Channel, parts: tuple[Cell | str, ...] | list[Cell], end: str = "\n") -> None:
        stream, console = _stream(channel), self._console(channel)
        cells = [part if isinstance(part, Cell) else Cell(part) for part in parts]
        if stream.isatty():
            cells = [Cell(visible(cell.text), cell.style) for cell in cells]
        if channel == "err":
            _stream("out").flush()  # what was said before comes before
        if console is None or not any(cell.style for cell in cells):
            stream.write("".join(cell.text for cell in cells) + end)
        else:
            from rich.text import Text

            text = Text.assemble(*((cell.text, cell.style) for cell in cells))
            console.print(text, soft_wrap=True, end=end)
        if not end or channel == "err":
            stream.flush()


def _stream(channel: Channel) -> TextIO:
    # Asked anew each time, since tests and programs put others in their place.
    return sys.stdout if channel == "out" else sys.stderr


class Bar:
    """Counts, and shows nothing."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, number: int) -> None:
        """So many more are done."""
        self.done += number


class _RichBar(AbstractContextManager[Bar]):
    """A bar on the terminal, gone when it is full."""

    def __init__(self, console: Console, total: int, what: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(what, total=total)

    def __enter__(self) -> Bar:
        self._progress.start()
        shown = self

        class Shown(Bar):
            def advance(self, number: int) -> None:
                super().advance(number)
                shown._progress.advance(shown._task, number)

        return Shown()

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()
