"""A file lock between processes, which the system releases when its holder dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import TIMEOUT_MAX, Event


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
    from filelock import FileLock, Timeout

    lock = FileLock(path, preserve_lock_file=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waiting()
        with suppress(Timeout):  # cancelled
            # As good as forever, which filelock refuses to wait in the thread that has the lock.
            lock.acquire(TIMEOUT_MAX, cancel_check=cancel.is_set)
    try:
        yield lock.is_locked
    finally:
        lock.release()
