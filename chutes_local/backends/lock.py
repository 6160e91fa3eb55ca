"""A file lock between processes, which the system releases when its holder dies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

POLL_SECONDS = 0.05


@contextmanager
def exclusive(path: Path, cancel: Event, waiting: Callable[[], object] = lambda: None) -> Iterator[bool]:
    """Hold the lock on ``path`` for the ``with`` block; yield ``False`` without it once ``cancel`` is set.

    ``waiting`` is called once if another process has the lock. The empty file is left in place: removing it while
    others wait on it would let two of them in.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, exclusive(Path(folder) / "lock", Event()) as held:
    ...     held
    True
    """
    with path.open("a+b") as handle:
        announced = False
        while not (held := _try_lock(handle.fileno())) and not cancel.is_set():
            if not announced:
                waiting()
                announced = True
            # Polled: a blocking wait cannot be cancelled, and on Windows gives up after ten seconds.
            cancel.wait(POLL_SECONDS)
        try:
            yield held
        finally:
            if held:
                _unlock(handle.fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
