"""Options that several commands share, and what follows from them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from chutes_cli.exits import Exit, Stop
from chutes_core.errors import ChutesError

if TYPE_CHECKING:
    from chutes_cli.out import Out
    from chutes_core.calls.clock import Clock
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.client import ChutesClient
    from chutes_core.secrets.secret import Secret
    from chutes_core.settings import Settings

__all__ = [
    "Commands",
    "Parser",
    "Version",
    "add_service_options",
    "catalog_at_hand",
    "client",
    "command",
    "key",
    "names",
    "nearest",
    "settings",
    "stdin_key",
]


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that reads the same under every version of Python."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)
        self._action_max_length = 14  # room for the longest command, whose indent older versions forget

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


class Parser(argparse.ArgumentParser):
    """A parser whose complaints end the command like any other failure."""

    def __init__(self, *, epilog: str | None = None, **options: object) -> None:
        settled = {"formatter_class": _Formatter, "allow_abbrev": False, **options}
        super().__init__(epilog=epilog, **settled)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, and where to read on."""
        raise Stop(f"{message} (see `{self.prog} --help`)", Exit.USAGE)

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """Object to words that no argument takes, and name the option that was probably meant."""
        asked = next((word.partition("=")[0] for word in words if word.startswith("--")), None)
        near = None if asked is None else self._nearest(asked.removeprefix("--"))
        hint = f". Did you mean --{near}?" if near else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        """Object to a word that is none of the choices, and name the one that was probably meant."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = nearest(str(value), list(map(str, action.choices or ())))
            if near is None:
                raise
            if isinstance(action, argparse._SubParsersAction):
                self.error(f"there is no command {value!r}. Did you mean `{self.prog} {near}`?")
            error.message += f". Did you mean {near}?"
            raise

    def _nearest(self, asked: str) -> str | None:
        return nearest(
            asked, [name.removeprefix("--") for name in self._option_string_actions if name.startswith("--")]
        )


def nearest(asked: str, names: Sequence[str]) -> str | None:
    """Return the name that was probably meant.

    >>> nearest("modles", ["models", "local"]), nearest("temp", ["top-p", "temperature"]), nearest("xyzzy", ["models"])
    ('models', 'temperature', None)
    """
    from difflib import get_close_matches

    begun = [name for name in names if asked and name.startswith(asked)]
    return next(iter([*begun, *get_close_matches(asked, names, n=1)]), None)


Handler: TypeAlias = "Callable[[argparse.Namespace, Out], int]"
"""What runs a command."""

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What a command registers itself with."""


class _RefusedKey(argparse.Action):
    """``--api-key``: not on the command line, where every user of the machine can read it."""

    def __call__(self, parser: argparse.ArgumentParser, *more: object) -> NoReturn:
        """Object, without a word of what was given."""
        parser.error(
            "a key on the command line is visible in the process list and the shell history: "
            "set CHUTES_API_KEY, run `chutes-connect login`, or pipe it in with --api-key-stdin"
        )


class Version(argparse.Action):
    """``--version``, looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *more: object) -> NoReturn:
        """Print it, and end."""
        from chutes_core import __version__

        print(f"chutes-connect {__version__}")
        parser.exit()


def command(
    commands: Commands,
    name: str,
    summary: str,
    *,
    usage: str,
    run: Handler,
    examples: Sequence[str] = (),
    rest: str | None = None,
) -> Parser:
    """Register a command.

    Args:
        commands: The commands.
        name: Its name.
        summary: What it does, in a line.
        usage: What stands behind its name.
        run: Its handler: takes the options and an :class:`~chutes_cli.out.Out`, returns the exit status.
        examples: Some uses, without the program's name.
        rest: The argument that takes any number of words, which may stand on both sides of options.
    """
    epilog = "\n".join(["examples:", *(f"  chutes-connect {example}" for example in examples)]) if examples else None
    whole_usage = f"chutes-connect {name} {usage}".rstrip()
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.", usage=whole_usage, epilog=epilog
    )
    parser.set_defaults(run=run, parser=parser, rest=rest)
    return parser


def add_service_options(parser: argparse.ArgumentParser, *, key: bool = True) -> None:
    """Add ``--json``, and where the service is and how long to wait for it."""
    from chutes_cli.numbers import duration

    parser.add_argument("--json", action="store_true", help="print JSON")
    group = parser.add_argument_group("the service")
    group.add_argument("--base-url", metavar="URL", help="the gateway, instead of CHUTES_BASE_URL")
    group.add_argument("--embedding-base-url", metavar="URL", help="instead of CHUTES_EMBEDDING_BASE_URL")
    group.add_argument("--management-url", metavar="URL", help="instead of CHUTES_MANAGEMENT_URL")
    group.add_argument("--timeout", type=duration, metavar="SECONDS", help="time limit for the whole call")
    if key:
        group.add_argument("--api-key-stdin", action="store_true", help="read the key from the first line of stdin")
    group.add_argument("--api-key", nargs="?", action=_RefusedKey, help=argparse.SUPPRESS)


def settings(options: argparse.Namespace) -> Settings:
    """Where the service is."""
    from chutes_core.settings import Settings

    return Settings.resolve(
        base_url=options.base_url,
        embedding_base_url=options.embedding_base_url,
        management_url=options.management_url,
    )


def stdin_key(options: argparse.Namespace) -> Secret | None:
    """Read the key from the first line of standard input, where that was asked for; once."""
    if not getattr(options, "api_key_stdin", False):
        return None
    if not hasattr(options, "key_read"):
        from chutes_core.secrets.secret import Secret

        options.key_read = Secret(sys.stdin.readline().strip())
    found: Secret = options.key_read
    if not found.get_secret_value():
        raise Stop("--api-key-stdin reads the key from the first line of standard input, which is empty.", Exit.KEY)
    return found


def key(options: argparse.Namespace) -> Secret:
    """Return the key that the command uses.

    Raises:
        MissingKeyError: There is none.
    """
    from chutes_core.auth import Credential

    where = settings(options)
    return Credential(stdin_key(options), service=where.management_url, named=where.named).secret()


def client(
    options: argparse.Namespace, *, max_retries: int = 2, clock: Clock | None = None, listed: bool = False
) -> ChutesClient:
    """Make the client that the options describe; ``listed`` asks a gateway of one's own for its models first."""
    from chutes_core.client import ChutesClient

    made = partial(
        ChutesClient,
        stdin_key(options),
        base_url=options.base_url,
        embedding_base_url=options.embedding_base_url,
        management_url=options.management_url,
        timeout=options.timeout,
    )
    catalog = None
    if listed and settings(options).foreign:
        with suppress(ChutesError), made(max_retries=0) as asking:
            asking.models()
            catalog = asking.catalog
    return made(max_retries=max_retries, clock=clock, catalog=catalog)


def catalog_at_hand(options: argparse.Namespace) -> Catalog:
    """What is known of the models; only a gateway of one's own is asked."""
    with client(options, max_retries=0, listed=True) as service:
        return service.catalog


def names(text: str) -> list[str]:
    """Read a list of names with commas between them.

    >>> names("acme/one, acme/two,")
    ['acme/one', 'acme/two']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
