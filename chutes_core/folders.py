"""Folders and files for what belongs to one user: settings, a login, caches."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["make_folder", "replace_file"]


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for nobody but this user, whatever the umask is.

    ``mkdir(mode, parents=True)`` makes those above as the umask says: then others could put another in its place.

    Raises:
        OSError: That is impossible.
    """
    missing = []
    for each in (folder, *folder.parents):
        if each.exists():
            break
        missing.append(each)
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not missing:
        folder.mkdir(exist_ok=True)  # says so if it is a file


def replace_file(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """Write a file, and its folder if there is none, so that no reader ever sees half of it.

    Raises:
        OSError: That is impossible; the file is as it was.
    """
    import tempfile

    make_folder(path.parent)
    # In the same folder, because the replacement is atomic only within one file system.
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if mode != 0o600:  # that of mkstemp
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
