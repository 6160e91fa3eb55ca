"""Run the benchmarks and write docs/benchmarks.md, the pages behind it and their plots.

python -m benchmarks                    everything
python -m benchmarks speed [--quick]    speed alone; the stored figures of the other parts stay
python -m benchmarks tokens             of speed only the streams a token at a time
python -m benchmarks faults             faults alone
python -m benchmarks profile            where the CPU of our clients goes; prints a table
python -m benchmarks report             the pages and the plots, from the stored figures

To compare two versions in a few minutes, measure a few clients in each; nothing is stored:

python -m benchmarks tokens --clients asyncio,core,ChatChutes --streams 64 [--threads] [--tls] [--uvloop]
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import plots as faults_plots
from benchmarks.faults import report as faults_report
from benchmarks.speed import profile
from benchmarks.speed import report as speed_report
from benchmarks.speed.run import interpreters, profiles, run, run_tokens
from benchmarks.speed.tokens import PARTS, QUICK, Part

DOCS = Path(__file__).parent.parent / "docs"
TOKENS, CALLS, FAULTS = (DOCS / f"benchmarks{name}.json" for name in ("-tokens", "", "-faults"))
HEAD = """# Benchmarks

What the clients cost, and what they give out when models fail. Made by `make bench`.
"""
RUN = """## How to run it

`make bench` sets up the environments with the peers and runs everything; a peer that cannot be installed is skipped
and named. `python -m benchmarks --help` lists the parts: `speed --quick` is a smoke run, and `tokens --clients
asyncio,core,ChatChutes --streams 64` measures a few clients in a few minutes, to compare two versions. The figures are
in `benchmarks.json`, `benchmarks-tokens.json` and `benchmarks-faults.json`.
"""


def pages() -> dict[str, str]:
    """The pages and the plots of what is stored, by their places in docs/."""
    stored = {"tokens": TOKENS, "calls": CALLS}
    speed = {name: json.loads(file.read_text()) for name, file in stored.items() if file.exists()}
    parts = [HEAD]
    made: dict[str, str] = {}
    drawn: dict[str, str] = {}
    if speed:
        parts.append(speed_report.summary(speed, "plots/"))
        made["benchmarks/speed.md"] = speed_report.report(speed)
        drawn |= speed_report.plots(speed)
    if FAULTS.exists():
        data = json.loads(FAULTS.read_text())
        parts.append(faults_report.summary(data, "plots/"))
        made["benchmarks/faults.md"] = faults_report.report(data)
        drawn |= faults_plots.plots(data)
    made["benchmarks.md"] = "\n".join(part.strip() + "\n" for part in [*parts, RUN])
    return made | {f"plots/{name}": text for name, text in drawn.items()}


def write() -> None:
    """Write the pages and the plots."""
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text)
        print(f"wrote docs/{name}")


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=about)
    parts = ["all", "speed", "tokens", "faults", "profile", "report"]
    parser.add_argument("part", nargs="?", choices=parts, default="all")
    parser.add_argument("--quick", action="store_true", help="a smoke run of speed; nothing is stored")
    parser.add_argument("--rounds", type=int, default=2, help="of tokens: %(default)s")
    some = parser.add_argument_group("some tokens; nothing is stored")
    some.add_argument("--clients", type=_words, default=[], help="by their names, or parts of them")
    some.add_argument("--streams", type=_numbers, default=[], help="how many at once: 64")
    some.add_argument("--rate", type=_numbers, default=[], help="tokens a second of each stream: 10")
    some.add_argument("--threads", action="store_true", help="blocking calls")
    some.add_argument("--tls", action="store_true")
    some.add_argument("--uvloop", action="store_true")
    return parser.parse_args(arguments)


def _part(told: argparse.Namespace) -> Part | None:
    """The streams that the command line names."""
    if not any((told.clients, told.streams, told.rate, told.threads, told.tls, told.uvloop)):
        return None
    each = [(streams, rate) for streams in told.streams or [64] for rate in told.rate or [10]]
    sizes = tuple(sorted(each, key=lambda size: size[0] * size[1]))
    return Part("threads" if told.threads else "tokens", sizes, others=sizes, tls=told.tls, uvloop=told.uvloop)


def _keep(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    told = _arguments(arguments)
    if told.part == "profile":
        print(profile.table(profiles()))
        return
    if told.part == "tokens" and (part := _part(told)):
        found = run_tokens([part], told.clients, rounds=told.rounds)
        print(speed_report.tokens(found["figures"], [part]))
        return
    if told.quick:
        runs = {"tokens": run_tokens(QUICK, rounds=1)}
        print(speed_report.report(runs if told.part == "tokens" else {**runs, "calls": run(quick=True)}))
        return
    if told.part in ("all", "speed", "tokens"):
        _keep(TOKENS, run_tokens(PARTS, rounds=told.rounds))
    if told.part in ("all", "speed"):
        _keep(CALLS, run())
    if told.part in ("all", "faults"):
        # Where the peers are: some of them hold openai at 2.x.
        command = [str(interpreters()[2]), "-B", "-m", "benchmarks.faults", "--json", str(FAULTS)]
        subprocess.run(command, check=True, cwd=DOCS.parent)
    write()


if __name__ == "__main__":
    main()
