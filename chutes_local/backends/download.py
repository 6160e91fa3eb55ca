"""Run ``pip download`` with progress and cancellation, in a child that does not outlive its parent."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Event

from chutes_local.backends.process import spawn

POLL_SECONDS = 0.1
OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",
    "--no-cache-dir",  # the wheel is kept by us, or not needed again
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--quiet",
)


FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a used-up quota of it, is called."""


class PipError(RuntimeError):
    """pip is missing, failed, or was cancelled."""


class NoRoomError(PipError):
    """The disk is full."""


def pip_download(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
    """Download one wheel into ``folder``, reporting the bytes so far to ``received``.

    Raises:
        NoRoomError: the disk is full.
        PipError: pip failed otherwise; the message has what pip said of it.
    """
    if importlib.util.find_spec("pip") is None:
        raise PipError("pip is not installed in this environment; `python -m ensurepip` installs it.")
    # pip downloads to the temporary directory first. In one of our own, the size is the progress, and whatever
    # a killed pip leaves behind is deleted with it.
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary))}
    arguments = ["download", *OPTIONS, "--dest", str(folder), requirement]
    with tempfile.TemporaryFile(dir=folder) as log:
        with spawn({"job": "pip", "arguments": arguments}, log, environment) as process:
            while (code := _wait(process)) is None and not cancel.is_set():
                received(_size(folder))
        if code != 0:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            raise PipError("cancelled") if code is None else failure(code, said)


def failure(code: int, said: str) -> PipError:
    r"""Return the error of a pip that exited with ``code`` and ``said`` so much: the lines that tell why.

    >>> failure(2, "ERROR: Exception:\nTraceback (most recent call last):\nOSError: [Errno 28] No space left")
    NoRoomError('pip exited with 2: OSError: [Errno 28] No space left')
    """
    # pip may have logged every retry before its errors, and a traceback after them, whose last line is the reason.
    lines = said.splitlines()
    told = [line for line in lines if line.startswith("ERROR") and line != "ERROR: Exception:"]
    if lines and "ERROR: Exception:" in lines:
        told.append(lines[-1])
    if unreachable := [line for line in lines if "connection broken by" in line]:
        told.append(f"The package index could not be reached; is this machine offline? {unreachable[-1][-300:]}")
    text = f"pip exited with {code}: " + ("\n".join(told) or said)[-1500:]
    full = any(f"[Errno {number}]" in said for number in FULL)
    return NoRoomError(text) if full else PipError(text)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # moved since listed
                continue
    return total
