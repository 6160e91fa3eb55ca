"""``chutes-connect migrate``: what to change in a program that uses other packages' models."""

from __future__ import annotations

import argparse
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
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli.migrating import migrated

    if not options.files:
        raise Stop("Name the files to migrate, as in `chutes-connect migrate app.py`.", Exit.USAGE)
    shown = []
    for name in options.files:
        source, encoding = _read(Path(name))
        try:
            new = migrated(source)
        except (SyntaxError, ValueError) as error:
            raise Stop(f"{name} is no Python that can be read: {getattr(error, 'msg', error)}.", Exit.USAGE) from None
        if options.write and new.text != source:
            Path(name).write_bytes(new.text.encode(encoding))
        shown.append((name, source, new))
    if out.as_json:
        out.data({"files": [_plain(*each) for each in shown], "written": options.write})
    else:
        for each in shown:
            _show(out, *each, written=options.write)
    return Exit.FAILURE if any(new.notes for _, _, new in shown) else Exit.OK


def _read(path: Path) -> tuple[str, str]:
    """Return a file's text as it is, line ends included, and its encoding."""
    from io import BytesIO
    from tokenize import detect_encoding

    content = path.read_bytes()
    try:
        encoding, _ = detect_encoding(BytesIO(content).readline)
        return content.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Stop(f"{path} is no Python that can be read: {error}.", Exit.USAGE) from None


def _diff(name: str, source: str, new: Migrated) -> list[str]:
    lines = unified_diff(source.splitlines(), new.text.splitlines(), name, name, lineterm="")
    return [*lines]


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
