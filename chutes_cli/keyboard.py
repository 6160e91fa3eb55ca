"""Lines that are typed at the terminal: with a history that the arrows find, and what Ctrl-C does to them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chutes_cli.memory import History

__all__ = ["Keyboard"]


class Keyboard:
    """Reads lines, and several that are joined by backslashes as one.

    Args:
        history: The lines of former runs; new ones are added.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._readline: Any = None
        try:
            self._readline = import_module("readline")  # gives input() the arrow keys; it is not on every system
        except ImportError:
            return
        self._readline.clear_history()
        for line in history.lines():
            self._readline.add_history(line)

    def read(self, hint: str) -> str | None:
        """Read a line; None where Ctrl-D, or a second Ctrl-C, ends it all.

        The first Ctrl-C clears what was typed, if anything was; else ``hint`` is shown.

        Raises:
            KeyboardInterrupt: It was the second Ctrl-C.
        """
        pressed, lines = False, list[str]()
        while True:
            try:
                line = input("… " if lines else "> ")
            except EOFError:
                print()
                return None
            except KeyboardInterrupt:
                print()
                typed = bool(lines) or self._typed()
                lines.clear()
                if pressed and not typed:
                    raise
                if not typed:
                    print(hint)
                pressed = True
                continue
            self._history.add(line)
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                return "\n".join(lines)

    def _typed(self) -> bool:
        return self._readline is not None and bool(self._readline.get_line_buffer())
