"""A terminal with a program in it: type keys, and read what it shows."""

from __future__ import annotations

import builtins
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0
"""A limit that only guards against hanging."""


class Terminal:
    """Runs a program on a terminal of 80 columns, as the one in the foreground.

    Everything that it has shown is in :attr:`shown`; :meth:`until` looks at what came since it was last called.
    """

    def __init__(self, words: Sequence[str], env: Mapping[str, str], *, columns: int = 80) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def take() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # which who runs the tests may ignore

        self.process = subprocess.Popen(
            list(words),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=dict(env),
            start_new_session=True,
            preexec_fn=take,
        )
        os.close(theirs)
        self.shown = ""
        self._seen = 0

    def type(self, keys: str) -> None:
        """Press keys: "\\r" is Enter, "\\x03" Ctrl-C, "\\x04" Ctrl-D, "\\x1b[A" the arrow up."""
        if "\x03" in keys:
            self._settle()
        os.write(self._ours, keys.encode())

    def _settle(self) -> None:
        """Wait until the program waits: Python sees no signal that comes just before, until something else does."""
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "S":
            select.select([self._ours], [], [], 0.01)

    def until(self, text: str) -> str:
        """Wait until a text is shown, and return what was shown since the one before, up to its end."""
        while text not in self.shown[self._seen :]:
            if not self._read():
                raise AssertionError(f"{text!r} is not in {self.shown[self._seen :]!r}")
        begin, self._seen = self._seen, self.shown.index(text, self._seen) + len(text)
        return self.shown[begin : self._seen]

    def end(self) -> int:
        """Wait until the program has ended, and return its status."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], PATIENCE)[0]:
            raise AssertionError(f"Nothing more came after {self.shown!r}")
        try:
            found = os.read(self._ours, 65_536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.shown += found.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: builtins.type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)
