"""Run the benchmarks and write docs/benchmarks.md with its plots.

python -m benchmarks                    everything
python -m benchmarks speed [--quick]    speed alone; the stored figures of the other part stay
python -m benchmarks faults             faults alone
python -m benchmarks profile            where the CPU of our clients goes; prints a table
python -m benchmarks report             the page and the plots, from the stored figures
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults import plots as faults_plots
from benchmarks.faults import report as faults_report
from benchmarks.speed import profile
from benchmarks.speed import report as speed_report
from benchmarks.speed.run import interpreters, profiles, run

DOCS = Path(__file__).parent.parent / "docs"
SPEED, FAULTS = DOCS / "benchmarks.json", DOCS / "benchmarks-faults.json"
HEAD = """# Benchmarks

What the clients cost, and what they give out when models fail. Made by `make bench`.
"""


def page() -> None:
    """Write the page and the plots from what is stored."""
    (DOCS / "plots").mkdir(exist_ok=True)
    parts = [HEAD]
    drawn: dict[str, str] = {}
    if SPEED.exists():
        data = json.loads(SPEED.read_text())
        parts.append(speed_report.report(data))
        drawn |= speed_report.plots(data)
    if FAULTS.exists():
        data = json.loads(FAULTS.read_text())
        parts.append(faults_report.report(data, "plots/"))
        drawn |= faults_plots.plots(data)
    (DOCS / "benchmarks.md").write_text("\n".join(part.strip() + "\n" for part in parts))
    for name, text in drawn.items():
        (DOCS / "plots" / name).write_text(text)
    print(f"wrote docs/benchmarks.md and {len(drawn)} plots")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run the benchmarks.")
    parser.add_argument("part", nargs="?", choices=["all", "speed", "faults", "profile", "report"], default="all")
    parser.add_argument("--quick", action="store_true", help="a smoke run of the speed part; nothing is stored")
    told = parser.parse_args(arguments)
    if told.part == "profile":
        print(profile.table(profiles()))
        return
    if told.part in ("all", "speed"):
        data = run(quick=told.quick)
        if told.quick:
            print(speed_report.report(data))
            return
        SPEED.write_text(json.dumps(data, indent=1) + "\n")
    if told.part in ("all", "faults"):
        # Where the peers are: some of them hold openai at 2.x.
        command = [str(interpreters()[2]), "-B", "-m", "benchmarks.faults", "--json", str(FAULTS)]
        subprocess.run(command, check=True, cwd=DOCS.parent)
    page()


if __name__ == "__main__":
    main()
