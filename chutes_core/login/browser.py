"""Wait for the answer to a sign-in, from the browser on this machine or from a pasted line."""

from __future__ import annotations

import io
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TextIO

from chutes_core.login.errors import CannotListenError, LoginError
from chutes_core.login.loopback import Loopback
from chutes_core.login.pkce import Answer, SignIn
from chutes_core.secrets.secret import Secret

__all__ = ["await_code"]

SECONDS = 300.0


def await_code(
    sign_in: SignIn,
    *,
    show: Callable[[str], object],
    note: Callable[[str], object],
    must_listen: bool = True,
    paste: TextIO | None = None,
    seconds: float = SECONDS,
) -> Secret:
    """Send the user to the consent page and return the code that comes back.

    Args:
        sign_in: The sign-in attempt.
        show: Called with the URL for the user, once an answer can be received.
        note: Called with a message about each answer that was not used.
        must_listen: Fail if a browser on this machine could not return the answer; otherwise a pasted one will do.
        paste: Read the answer from lines typed or pasted here.
        seconds: The timeout.

    Raises:
        LoginError: Access was denied, or no answer arrived.
    """
    answers: queue.Queue[Answer | None] = queue.Queue()
    with ExitStack() as stack:
        listens = True
        try:
            stack.enter_context(Loopback(sign_in.app.redirect_uri, sign_in.read, answers.put))
        except CannotListenError as error:
            if must_listen or paste is None:
                raise
            listens = False
            note(f"Only a pasted answer will work. {error}")
        if paste is not None:
            _read_lines(paste, lambda line: answers.put(sign_in.read(line) if line is not None else None))
        show(sign_in.url)
        answer = _first_of_ours(answers, note, seconds, listens)
    if answer.code is None:
        raise LoginError(answer.problem)
    return answer.code


def _first_of_ours(
    answers: queue.Queue[Answer | None], note: Callable[[str], object], seconds: float, listens: bool
) -> Answer:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            # In short waits, or Ctrl-C would not work on Windows.
            answer = answers.get(timeout=min(left, 0.5))
        except queue.Empty:
            continue
        if answer is None:  # the end of the pasted lines
            if not listens:
                raise LoginError("No answer was given. Run chutes-connect login again.")
        elif answer.ours:
            return answer
        else:
            note(answer.problem)
    raise LoginError(f"No answer arrived within {seconds:.0f} s. Run chutes-connect login again.")


def _read_lines(source: TextIO, take: Callable[[str | None], object]) -> None:
    """Pass lines to ``take`` from a daemon thread."""
    try:
        descriptor: int | None = source.fileno()
    except (OSError, io.UnsupportedOperation):
        descriptor = None

    def read() -> None:
        # Not through the text file: a thread blocked inside one holds its lock, which breaks interpreter shutdown.
        held = b""
        while descriptor is not None and (block := os.read(descriptor, 4096)):
            *lines, held = (held + block).split(b"\n")
            for line in filter(None, map(bytes.strip, lines)):
                take(line.decode("utf-8", "replace"))
        if descriptor is None:
            for text in filter(None, map(str.strip, source)):
                take(text)
        elif held.strip():
            take(held.decode("utf-8", "replace").strip())
        take(None)

    threading.Thread(target=read, name="chutes-login-paste", daemon=True).start()
