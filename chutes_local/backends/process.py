"""Start and end a child process that cannot outlive this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

GRACE_SECONDS = 2.0

_ENTRY = Path(__file__).with_name("_child.py")


@contextmanager
def spawn(
    job: Mapping[str, object], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``job`` in a child for the duration of the ``with`` block; its stderr goes to ``log``."""
    process = start(job, log, environment)
    try:
        yield process
    finally:
        end(process)


def start(
    job: Mapping[str, object], log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``job`` in a child that ends with the calling *thread*, and when stdin closes."""
    # The file itself, not `-m`: the child needs nothing from this package. `-P` keeps this folder off its path.
    process = subprocess.Popen(
        [sys.executable, "-P", str(_ENTRY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({**job, "parent": os.getpid()}).encode() + b"\n")
        process.stdin.flush()
    except BaseException:
        end(process)
        raise
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the child, and kill it after a grace period. No effect if it has ended."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
