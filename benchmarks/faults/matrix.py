"""Run everything, in as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.faults.clients import all_clients
from benchmarks.faults.run import figures, outcomes
from benchmarks.faults.world import SCENARIOS

_PACKAGES = (
    "langchain-core", "langchain", "langchain-openai", "llama-index-core", "litellm", "pydantic-ai-slim", "openai",
    "httpx",
)  # fmt: skip


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def one(client: str, scenario: str, seed: int, calls: int) -> dict[str, Any]:
    """One run."""
    began = time.process_time()
    found = outcomes(all_clients()[client], scenario, seed, calls)
    cpu = round(time.process_time() - began, 2)
    return {"client": client, "scenario": scenario, "seed": seed, "cpu": cpu, **figures(found)}


def matrix(
    clients: Sequence[str], scenarios: Sequence[str], seeds: int, calls: int, workers: int | None = None
) -> dict[str, Any]:
    """Run clients x scenarios x seeds, and give all that a report needs as plain data."""
    known = all_clients()
    skipped = {name: missing for name in clients if (missing := known[name].missing())}
    for name, missing in skipped.items():
        print(f"{known[name].title} is left out: {', '.join(missing)} is not installed.", file=sys.stderr)
    present = [name for name in clients if name not in skipped]
    jobs = [(client, scenario, seed, calls) for client in present for scenario in scenarios for seed in range(seeds)]
    began = time.monotonic()
    runs = _run(jobs, workers)
    place = {job[:3]: number for number, job in enumerate(jobs)}
    runs.sort(key=lambda run: place[run["client"], run["scenario"], run["seed"]])
    return {
        "calls": calls,
        "seeds": seeds,
        "took": round(time.monotonic() - began),
        "versions": _versions(),
        "skipped": {known[name].title: missing for name, missing in skipped.items()},
        "clients": {
            name: {"title": it.title, "told": it.told, "ours": it.ours, "promise": it.promise}
            for name, it in known.items()
            if name in present
        },
        "scenarios": {
            name: {"title": bad.title, "told": bad.told, "alive": bad.alive, "whole": bad.whole}
            for name, bad in SCENARIOS.items()
            if name in scenarios
        },
        "runs": runs,
    }


def _run(jobs: Sequence[tuple[str, str, int, int]], workers: int | None) -> list[dict[str, Any]]:
    if workers == 1:
        return [one(*job) for job in jobs]
    # Spawned and not forked: no process begins with what another client has imported or patched.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        under_way = [pool.submit(one, *job) for job in jobs]
        runs = []
        for number, ended in enumerate(as_completed(under_way), 1):
            run = ended.result()
            runs.append(run)
            print(
                f"{number} of {len(jobs)}: {run['client']}, {run['scenario']}, seed {run['seed']}: "
                f"{run['whole']:.1f} % whole, {run['wrong']:.1f} % wrong",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        return runs
