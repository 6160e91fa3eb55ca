"""What ``chat`` remembers from one run to the next: the lines that were typed, and the last conversation.

Both are files that only their owner can read, in the platform's folder for what programs remember. ``--no-history``, or
``CHUTES_HISTORY=off``, leaves both alone.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chutes_cli.exits import Stop
from chutes_core.folders import make_folder, replace_file

__all__ = ["Conversation", "History", "Memory"]

_MOST_LINES = 1000
_OFF = ("0", "no", "off", "false", "never")


@dataclass(slots=True)
class Conversation:
    """A conversation: who answered, what was said before all else, and the turns."""

    models: list[str]
    system: str | None = None
    turns: list[dict[str, object]] = field(default_factory=list)


class Memory:
    """The files of one user; without a folder, nothing is kept and nothing is there."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @classmethod
    def of(cls, options: argparse.Namespace, env: Mapping[str, str] | None = None) -> Memory:
        """Find the files, unless they are not wanted."""
        wish = (os.environ if env is None else env).get("CHUTES_HISTORY", "").strip().lower()
        if options.no_history or wish in _OFF:
            return cls(None)
        from platformdirs import user_state_dir

        return cls(Path(user_state_dir("chutes-connect")))

    @property
    def history(self) -> History:
        """The lines that were typed."""
        return History(None if self._folder is None else self._folder / "chat_history")

    def save(self, conversation: Conversation) -> None:
        """Keep a conversation in the place of the last one; where that is impossible, the answer was still given."""
        if self._folder is None:
            return
        told = {"version": 1, "models": conversation.models, "system": conversation.system, "turns": conversation.turns}
        text = json.dumps(told, ensure_ascii=False)
        with suppress(OSError):
            replace_file(self._folder / "conversation.json", text)

    def last(self) -> Conversation:
        """Return the last conversation.

        Raises:
            Stop: There is none.
        """
        if self._folder is None:
            raise Stop("Without a history there is no conversation to continue.")
        path = self._folder / "conversation.json"
        try:
            told = json.loads(path.read_bytes())
            found = Conversation(list(map(str, told["models"])), told["system"], list(map(dict, told["turns"])))
            if not all({"role", "content"} <= turn.keys() for turn in found.turns):
                raise ValueError
        except FileNotFoundError:
            raise Stop("There is no conversation to continue: begin one with `chutes-connect chat`.") from None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise Stop(f"The last conversation cannot be read, {path} is damaged: begin a new one.") from None
        if not found.models:
            raise Stop(f"The last conversation cannot be read, {path} names no model: begin a new one.")
        return found


class History:
    """The lines that were typed, the newest last."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._newest = ""

    def lines(self) -> list[str]:
        """Return the lines of former runs; a file that has grown long is cut."""
        found: list[str] = []
        if self._path is not None:
            with suppress(OSError):  # there is none yet, or it may not be read: then there is no history
                found = self._path.read_text("utf-8", "replace").splitlines()
        if len(found) > 2 * _MOST_LINES:
            self._cut(found)
        found = found[-_MOST_LINES:]
        self._newest = found[-1] if found else ""
        return found

    def add(self, line: str) -> None:
        """Keep a line; one that says the same as the line before it once."""
        if self._path is None or not line.strip() or line == self._newest:
            return
        self._newest = line
        with suppress(OSError):
            make_folder(self._path.parent)
            # Appended: another conversation may do the same.
            with open(self._path, "a", encoding="utf-8", errors="replace", opener=_private_file) as file:
                file.write(f"{line}\n")

    def _cut(self, lines: Iterable[str]) -> None:
        assert self._path is not None
        with suppress(OSError):
            replace_file(self._path, "".join(f"{line}\n" for line in list(lines)[-_MOST_LINES:]))


def _private_file(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
