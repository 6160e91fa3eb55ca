"""``python -m chutes_local``: run the embedded Chutes until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

if __name__ == "__main__":
    # While modules are imported, Ctrl-C as an exception can get lost in the import system: be ended by it instead.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from chutes_local.backends.backend import BackendError
from chutes_local.faults.kinds import KINDS
from chutes_local.program import TOKEN, exports, for_program, run_program, running
from chutes_local.server import LocalChutes

DEFAULT_PORT = 8765
PROG = "python -m chutes_local"


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(
        prog=prog,
        usage=f"{prog} [OPTIONS] [-- PROGRAM [ARGUMENT…]]",
        description="Run the embedded Chutes: the service's interface, with a small model behind it.",
        epilog="examples:\n"
        f"  {prog} --port 0 --backend echo\n"
        f"  {prog} -- python app.py          (runs app.py against it)\n"
        f'  eval "$({prog} --env)"           (the variables of the one that runs)\n'
        f"  {prog} --model-fault 'Qwen/Qwen3-32B-TEE=capacity:0.3' --model-fault '*=cold x1'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--port",
        type=_port,
        help=f"0 for any free port (default: {DEFAULT_PORT}, or any free one for a PROGRAM)",
    )
    made.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    made.add_argument(
        "--backend",
        choices=("auto", "llama", "echo"),
        default="auto",
        help="what answers (default: %(default)s)",
    )
    made.add_argument(
        "--model-fault",
        action="append",
        default=[],
        metavar="TARGET=KIND",
        help="make a model (or path) fail; may be repeated",
    )
    made.add_argument("--seed", type=int, default=0, help="of the random faults (default: %(default)s)")
    made.add_argument("--strict-keys", action="store_true", help="refuse keys that do not look like Chutes keys")
    made.add_argument("--env", action="store_true", help="print the variables that lead a shell to the one that runs")
    made.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name under which it is reached, beside localhost; may be repeated",
    )
    made.add_argument("--list-faults", action="store_true", help="list the kinds of faults and exit")
    return made


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use a number from 0 to 65535")
    return int(text)


def main(argv: Sequence[str] | None = None, *, prog: str = PROG) -> int:
    """Run the command line, which is called ``prog``; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    begin = words.index("--") if "--" in words else None
    program = None if begin is None else words[begin + 1 :]
    made = parser(prog)
    options, left = made.parse_known_args(words[:begin])
    if left:
        hint = "" if left[0].startswith("-") else f"; a program stands behind --: {prog} -- {shlex.join(left)}"
        made.error(f"unrecognized arguments: {' '.join(left)}{hint}")
    if program == []:
        made.error("name a program behind --, such as: -- python app.py")
    if options.list_faults:
        width = max(map(len, KINDS))
        print("\n".join(f"{name:{width}}  {kind.summary}" for name, kind in KINDS.items()))
        return 0
    if options.env:
        if program or options.port == 0:
            made.error("--env is about a server that runs: it goes with --port and --host alone")
        return _print_env(options.host, options.port or DEFAULT_PORT, prog)
    port = (0 if program else DEFAULT_PORT) if options.port is None else options.port
    try:
        server = LocalChutes(
            backend=options.backend,
            host=options.host,
            port=port,
            faults=options.model_fault,
            seed=options.seed,
            strict_keys=options.strict_keys,
            hosts=options.allow_host,
        )
    except (BackendError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, BackendError) else 2
    if program is None:
        return run(server)
    try:
        return run_program(server, program, prog)
    except (BackendError, OSError) as error:
        print(f"error: {problem_with(error)}", file=sys.stderr)
        return 1


def _print_env(host: str, port: int, prog: str) -> int:
    """Print the variables of the server that runs at a port."""
    found = running(host, port)
    if found is None:
        where = "" if port == DEFAULT_PORT else f" --port {port}"
        print(
            f"error: No embedded Chutes runs at port {port}: start it with `{prog}{where}`, or run a program against "
            f"one of its own with `{prog} -- PROGRAM`.",
            file=sys.stderr,
        )
        return 1
    print(exports(for_program(*found, os.environ)))
    return 0


def run(server: LocalChutes) -> int:
    """Start ``server``, say where it is, and stop it on Ctrl-C or SIGTERM."""
    over = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        over.set()
        server.interrupt()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server:
            print(greeting(server), flush=True)
            # In slices: a wait without end would not let Windows deliver Ctrl-C.
            while not over.wait(1.0):
                pass
    except (BackendError, OSError) as error:
        if over.is_set():
            return 130
        print(f"error: {problem_with(error)}", file=sys.stderr)
        return 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def problem_with(error: Exception) -> str:
    """Say why the server did not start."""
    told = error.strerror if isinstance(error, OSError) else None
    return told or f"The embedded Chutes cannot start: {error}"


def greeting(server: LocalChutes) -> str:
    """Say where the server is, and how to point a program at it."""
    lines = [f"The embedded Chutes runs on {server.world.backend.name}. It is not the service.", ""]
    lines += [exports(for_program(server.url, [chute.name for chute in server.fleet], os.environ))]
    lines += [f"export {TOKEN}={server.token}  # for the controls alone"]
    lines += ["", f"models    {', '.join(chute.name for chute in server.fleet)}"]
    lines += [f"fault     {rule}" for rule in server.faults.describe()]
    lines += [f"controls  {server.url}/local", "stop      Ctrl-C"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
