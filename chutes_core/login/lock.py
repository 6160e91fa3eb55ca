"""A file lock across threads and processes, which the system releases when its holder dies; its failures in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chutes_core.login.errors import LoginError

__all__ = ["locked"]

_PATIENCE = 60.0


@contextmanager
def locked(path: Path, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock on a file. The empty file is left in place: others may be waiting on it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "lock"):
    ...     (Path(folder) / "lock").exists()
    True
    """
    from filelock import FileLock, Timeout

    # To preserve the file also refuses the marker files that filelock uses where there are no locks: of someone who
    # was killed they would stay.
    lock = FileLock(path, mode=0o600, preserve_lock_file=True, poll_interval=0.02)
    problem = ""
    try:
        # A holder that was suspended (Ctrl-Z) would be waited for forever.
        lock.acquire(timeout=patience)
    except Timeout:
        problem = (
            f"Another program has been renewing the login for {patience:.0f} s and holds {path}. "
            "End that program, or try again."
        )
    except OSError as error:
        problem = (
            f"The login cannot be locked, renewed or replaced, because of {path} ({error.strerror or error}). Make "
            "that file writable, or set CHUTES_CONFIG_DIR to another folder: some network folders have no locks."
        )
    if problem:
        raise LoginError(problem)
    try:
        yield
    finally:
        lock.release()
