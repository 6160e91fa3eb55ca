"""Folders for what belongs to one user: settings, a login, caches."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_folder"]


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
