"""Where a path is, as a person would say it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["tilde"]


def tilde(path: Path) -> str:
    """Write a path in the home folder with a tilde.

    >>> tilde(Path.home() / "notes.txt"), tilde(Path("notes.txt"))
    ('~/notes.txt', 'notes.txt')
    """
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)
