"""A file lock across threads and processes, which the system releases when its holder dies."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from chutes_core.login.errors import LoginError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["locked"]

_HELD = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK, errno.EINTR)
_POLL = 0.02
_PATIENCE = 60.0


@contextmanager
def locked(path: Path, *, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock on a file. The empty file is left in place: others may be waiting on it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder) / "lock"):
    ...     (Path(folder) / "lock").exists()
    True
    """
    # Each holder opens the file separately, so the system's lock excludes threads as well as processes.
    with _opened(path) as file:
        deadline = time.monotonic() + patience
        # Polled, because a holder that was suspended (Ctrl-Z) would be waited for forever.
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise LoginError(
                    f"Another program has been renewing the login for {patience:.0f} s and holds {path}. "
                    "End that program, or try again."
                )
            time.sleep(_POLL)
        try:
            yield
        finally:
            _unlock(file.fileno())


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("a+b")
    except OSError as error:
        problem = error.strerror or error
    raise LoginError(
        f"The login cannot be locked, renewed or replaced, because {path} is not writable ({problem}). "
        "Make that file writable, or set CHUTES_CONFIG_DIR to another folder."
    )


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD:
            raise LoginError(
                f"The login cannot be locked ({error.strerror or error}), which some network folders do not support. "
                "Set CHUTES_CONFIG_DIR to a local folder."
            ) from None
        return False
    return True


def _unlock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
