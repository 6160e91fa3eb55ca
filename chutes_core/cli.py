"""The command ``chutes-connect``.

``models`` lists the catalogue; ``local`` runs the embedded Chutes, which is an extra.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence

from chutes_core.errors import ChutesError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0 for success, 1 for a failure, 2 for a mistake in the words.

    >>> main(["models", "--tools", "--max-price", "0.3", "--offline"])
    model                                       window  $ in/1M $ out/1M  features
    deepseek-ai/DeepSeek-V4-Flash-0731-TEE     1048576     0.14     0.28  json_mode,reasoning,structured_outputs,tools
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["local"]:
        return _local(words[1:])
    options = _parser().parse_args(words)
    try:
        status = _models(options)
        sys.stdout.flush()
        return status
    except ChutesError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, `head` say, has enough; nothing more may be written at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    from chutes_core import __version__

    parser = argparse.ArgumentParser(prog="chutes-connect", description="Chutes from the command line.")
    parser.add_argument("--version", action="version", version=f"chutes-connect {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    models = commands.add_parser("models", help="list the models: id, window, prices per million tokens, features")
    models.add_argument("--tools", action="store_true", help="only models that call tools")
    models.add_argument("--max-price", type=float, metavar="USD", help="for a million tokens of answer at most")
    models.add_argument("--min-context", type=int, metavar="TOKENS", help="a window of at least so many tokens")
    models.add_argument("--kind", default="chat", choices=["chat", "embedding", "image", "other"])
    models.add_argument("--json", action="store_true", help="print JSON, with everything that is known")
    models.add_argument("--offline", action="store_true", help="do not ask the service for today's list")
    commands.add_parser("local", help="run the embedded Chutes (extra: local); see chutes-connect local --help")
    return parser


def _models(options: argparse.Namespace) -> int:
    from chutes_core.client import ChutesClient

    with ChutesClient(max_retries=0) as client:
        if not options.offline:
            client.models()
        found = client.catalog.select(
            features=["tools"] if options.tools else (),
            min_context=options.min_context,
            max_price=options.max_price,
            kind=options.kind,
        )
    if options.json:
        print(json.dumps([info.to_dict() for info in found], indent=2))
        return 0
    print(f"{'model':40} {'window':>9} {'$ in/1M':>8} {'$ out/1M':>8}  features")
    for info in found:
        numbers = (info.context_length, info.price_in, info.price_out)
        window, price_in, price_out = ("?" if number is None else number for number in numbers)
        features = ",".join(sorted(info.features)) if info.features is not None else "?"
        print(f"{info.id:40} {window:>9} {price_in:>8} {price_out:>8}  {features}")
    return 0


def _local(words: Sequence[str]) -> int:
    # While modules are imported, Ctrl-C as an exception can get lost in the import system: be ended by it instead.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from chutes_local.__main__ import main as run
    except ImportError as error:
        print(f"The embedded Chutes is an extra ({error}): pip install 'chutes-connect[local]'", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, before)
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
