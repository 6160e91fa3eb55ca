"""The command: run scenarios x clients x seeds, and give the results as JSON.

python -m benchmarks.faults                               all of it, as JSON to the standard output
python -m benchmarks.faults --json FILE --markdown FILE --svg FOLDER
python -m benchmarks.faults --report FILE                 from a file of results, without running anything
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.clients import all_clients
from benchmarks.faults.matrix import matrix
from benchmarks.faults.plots import plots
from benchmarks.faults.report import report
from benchmarks.faults.world import SCENARIOS


def _names(text: str, known: Sequence[str], what: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(chosen) - set(known)):
        raise SystemExit(f"There is no {what} {unknown[0]!r}; there are: {', '.join(known)}.")
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="The benchmark of faults.")
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds of each scenario (5)")
    parser.add_argument("--calls", type=int, default=600, help="calls in each run (600)")
    parser.add_argument("--clients", default=",".join(all_clients()), help="which, by name: %(default)s")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="which, by name: %(default)s")
    parser.add_argument("--workers", type=int, help="processes (as many as there are cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the results")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write the report")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="where to write the plots")
    parser.add_argument("--report", type=Path, metavar="FILE", help="take the results from this file, and run nothing")
    told = parser.parse_args(arguments)
    if told.report is not None:
        data = json.loads(told.report.read_text())
    else:
        clients = _names(told.clients, list(all_clients()), "client")
        scenarios = _names(told.scenarios, list(SCENARIOS), "scenario")
        data = matrix(clients, scenarios, told.seeds, told.calls, told.workers)
    if told.json is not None:
        told.json.write_text(json.dumps(data, indent=1) + "\n")
    if told.markdown is not None:
        told.markdown.write_text(report(data))
    if told.svg is not None:
        told.svg.mkdir(parents=True, exist_ok=True)
        for name, text in plots(data).items():
            (told.svg / name).write_text(text)
    if told.json is None and told.markdown is None and told.svg is None:
        json.dump(data, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
