"""The command ``chutes-connect``: one module per command, each with ``add(commands)`` that registers it.

A command is a parser with ``run=``, a function of the options and an :class:`~chutes_cli.out.Out` that returns
the exit status. What a command shows is made by pure functions; nothing heavy is imported before it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from itertools import takewhile
from typing import TYPE_CHECKING, TextIO

from chutes_cli.exits import Exit, Stop, described, exit_of, reported
from chutes_cli.out import Out, as_json, visible
from chutes_core.errors import ChutesError, ChutesWarning
from chutes_core.shown.table import Cell

if TYPE_CHECKING:
    from chutes_cli.options import Parser

__all__ = ["main"]

_DEBUG = "CHUTES_DEBUG"
_COMMANDS = (
    "init",
    "doctor",
    "login",
    "models",
    "chat",
    "embed",
    "cost",
    "account",
    "aliases",
    "warmup",
    "record",
    "replay",
    "local",
    "migrate",
    "completion",
)


def main(argv: Sequence[str] | None = None, *, out: Out | None = None) -> int:
    """Run the command and return its exit status; see :class:`chutes_cli.exits.Exit`.

    >>> main(["models", "--pick", "tools, <=0.3$", "--offline"])
    deepseek-ai/DeepSeek-V4-Flash-0731-TEE
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by whoever started us, such as a daemon
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal cannot show must not end an answer
    try:
        status = _run(words, out)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` say, has enough; nothing more may be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE
    except OSError as error:  # of --version; commands tell of their own
        sys.stderr.write(f"error: {visible(described(error))}\n")
        return Exit.FAILURE
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal shows ^C where the cursor was
        return Exit.INTERRUPTED


def parser() -> Parser:
    """Describe the command line."""
    from chutes_cli.options import Parser, Version

    made = Parser(
        prog="chutes-connect",
        usage="chutes-connect COMMAND [OPTIONS]",
        description="Chutes from the command line.",
        epilog="Run `chutes-connect COMMAND --help` for details.",
    )
    made.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = made.add_subparsers(metavar="COMMAND", title="commands", prog="chutes-connect", parser_class=Parser)
    for name in _COMMANDS:
        import_module(f"chutes_cli.commands.{name}").add(commands)
    return made


def _run(words: Sequence[str], out: Out | None) -> int:
    if words[:1] == ["local"]:
        from chutes_cli.commands.local import run_local

        return run_local(words[1:])  # which reads its own options
    made, out = parser(), out or Out()
    out.as_json = "--json" in takewhile(lambda word: word != "--", words)
    try:
        options, left = made.parse_known_args(words)
        _take_rest(made, options, left)
        if not hasattr(options, "run"):
            sys.stderr.write(made.format_help())
            return Exit.USAGE
        out.as_json = getattr(options, "json", False)
        with _notes(out):
            return int(options.run(options, out))
    except (ChutesError, Stop) as error:
        return _failed(error, out)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _failed(error, out)
    except UnicodeDecodeError as error:
        return _failed(Stop(f"The input is not UTF-8: {error.reason} at byte {error.start}."), out)
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        said = f"{type(error).__name__}: {error}. This is a bug in chutes-connect: set {_DEBUG}=1 for a traceback."
        return _failed(Stop(said), out)


def _take_rest(made: Parser, options: argparse.Namespace, left: list[str]) -> None:
    """Give words that stand behind options to the argument that takes any number; object to all others."""
    name = getattr(options, "rest", None)
    if name is not None and not any(word.startswith("-") and word != "-" for word in left):
        setattr(options, name, [*getattr(options, name), *left])
    elif left:
        getattr(options, "parser", made).refuse(left)


def _failed(error: Exception, out: Out) -> int:
    if out.as_json:
        out.note(as_json(reported(error)))
    else:
        out.note(Cell("error: ", "red"), described(error))
    return int(exit_of(error))


@contextmanager
def _notes(out: Out) -> Iterator[None]:
    """Say the library's warnings as notes of one line."""

    def said(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, ChutesWarning):
            out.note(Cell("note: ", "yellow"), " ".join(str(message).split()))
        else:
            show(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        show, warnings.showwarning = warnings.showwarning, said
        warnings.simplefilter("default", ChutesWarning)  # also where warnings are errors: they are not, to a user
        yield
