"""``chutes-connect migrate``: what to change in a program that uses other packages' models."""

from __future__ import annotations

import argparse
import re
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.migrating import Migrated
    from chutes_cli.options import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import command

    parser = command(
        commands,
        "migrate",
        "show what to change in programs that use ChatOpenAI, OpenAILike and others",
        usage="FILE… [OPTIONS]",
        run=_run,
        rest="files",
        examples=["migrate app.py", "migrate --write src/*.py"],
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="Python files; they are read, and not run")
    parser.add_argument("--write", action="store_true", help="change the files instead of showing a diff")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace, out: Out) -> int:
    if not options.files:
        raise Stop("Name the files to migrate, as in `chutes-connect migrate app.py`.", Exit.USAGE)
    shown = [(name, *_migrated(Path(name))) for name in options.files]
    if options.write:  # when all of them were read
        for name, source, encoding, new in shown:
            if new.text != source:
                _write(Path(name), new.text.encode(encoding))
    if out.as_json:
        files = [_plain(name, source, new) for name, source, _, new in shown]
        out.data({"files": files, "written": options.write})
    else:
        for name, source, _, new in shown:
            _show(out, name, source, new, written=options.write)
    return Exit.FAILURE if any(new.notes for *_, new in shown) else Exit.OK


def _migrated(path: Path) -> tuple[str, str, Migrated]:
    """Return a file's text as it is, line ends included, its encoding, and what it becomes."""
    from io import BytesIO
    from tokenize import detect_encoding

    from chutes_cli.migrating import Migrated, Note, migrated

    if path.is_dir():
        raise Stop(f"{path} is a folder: name its files, as in `chutes-connect migrate {path}/*.py`.", Exit.USAGE)
    content, source, encoding = path.read_bytes(), "", "utf-8"
    try:
        if path.suffix == ".ipynb":
            raise ValueError("a notebook is to be saved as a script first, or changed by hand")
        encoding, _ = detect_encoding(BytesIO(content).readline)
        source = content.decode(encoding)
        return source, encoding, migrated(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = getattr(error, "msg", None) or str(error) or "it is nested too deeply"
        note = Note(getattr(error, "lineno", None) or 1, f"This is no Python that can be read: {told}.")
        return source, encoding, Migrated(source, [note])


def _write(path: Path, content: bytes) -> None:
    """Put a text in a file's place at once, with its permissions; a link stays one."""
    from stat import S_IMODE

    from chutes_core.folders import replace_file

    path = path.resolve()
    with path.open("rb+"):  # which fails where only reading is allowed
        pass
    replace_file(path, content, mode=S_IMODE(path.stat().st_mode))


def _diff(name: str, source: str, new: Migrated) -> list[str]:
    lines = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|(?<=.)\Z)")  # as Python has them: a form feed ends none
    old, after = ([line.rstrip("\r\n") for line in lines.findall(text)] for text in (source, new.text))
    return [*unified_diff(old, after, name, name, lineterm="")]


def _plain(name: str, source: str, new: Migrated) -> dict[str, object]:
    notes = [{"line": note.line, "text": note.text} for note in new.notes]
    return {"file": name, "changed": new.text != source, "diff": "\n".join(_diff(name, source, new)), "left": notes}


_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def _show(out: Out, name: str, source: str, new: Migrated, *, written: bool) -> None:
    if new.text == source and not new.notes:
        out.note(f"{name}: nothing to change")
    elif written and new.text != source:
        out.note(f"{name}: changed")
    else:
        for line in _diff(name, source, new):
            out.line(Cell(line, _COLOURS.get(line[:1], "")))
    for note in new.notes:
        out.note(Cell(f"{name}:{note.line}: ", "yellow"), note.text)
