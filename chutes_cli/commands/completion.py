"""``chutes-connect completion``: the shell finishes commands and options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chutes_cli.exits import Exit, Stop
from chutes_cli.out import Out

if TYPE_CHECKING:
    from chutes_cli.options import Commands

__all__ = ["add"]

_SHELLS = ("bash", "zsh", "fish", "tcsh")


def add(commands: Commands) -> None:
    """Register the command."""
    from chutes_cli.options import command

    parser = command(
        commands,
        "completion",
        "print a shell completion script",
        usage="{bash,zsh,fish,tcsh}",
        run=_run,
        examples=[
            "completion bash > ~/.local/share/bash-completion/completions/chutes-connect",
            "completion zsh > ~/.zfunc/_chutes-connect      (a folder in your fpath)",
            "completion fish > ~/.config/fish/completions/chutes-connect.fish",
        ],
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def _run(options: argparse.Namespace, out: Out) -> int:
    from chutes_cli import parser
    from chutes_cli.commands.local import described

    try:
        import shtab
    except ImportError:
        raise Stop("Shell completion needs the package shtab: pip install 'chutes-connect[cli]'") from None
    if options.shell not in shtab.SUPPORTED_SHELLS:
        raise Stop(f"This version of shtab does not know {options.shell}: pip install -U shtab")
    made, local = parser(), described()
    for action in made._actions if local is not None else ():
        if isinstance(action, argparse._SubParsersAction):
            action.choices["local"] = local  # which reads its own options
    out.line(shtab.complete(made, options.shell))
    return Exit.OK
