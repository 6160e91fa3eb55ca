"""Run ``pip download`` with progress and cancellation, in a child that does not outlive its parent."""

from __future__ import annotations

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


class PipError(RuntimeError):
    """pip is missing, failed, or was cancelled."""


def pip_download(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
    """Download one wheel into ``folder``, reporting the bytes so far to ``received``.

    Raises:
        PipError: pip failed; the message ends with pip's last output.
    """
    if importlib.util.find_spec("pip") is None:
        raise PipError("pip is not installed in this environment; `python -m ensurepip` installs it.")
    # pip downloads to the temporary directory first. In one of our own, the size is the progress, and whatever
    # a killed pip leaves behind is deleted with it.
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(temporary))}
    arguments = ["download", *OPTIONS, "--dest", str(folder), requirement]
    with tempfile.TemporaryFile() as log:
        with spawn({"job": "pip", "arguments": arguments}, log, environment) as process:
            while (code := _wait(process)) is None and not cancel.is_set():
                received(_size(folder))
        if code != 0:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
            # pip may have logged every retry before its errors.
            errors = "\n".join(line for line in said.splitlines() if line.startswith("ERROR")) or said
            raise PipError("cancelled" if code is None else f"pip exited with {code}: {errors[-1500:]}")


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
