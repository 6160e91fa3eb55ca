"""CPU of the clients, each in a fresh process, in interleaved rounds; writes docs/benchmarks.md.

python -m benchmarks                       all of it
python -m benchmarks one NAME URL MODE     one client once; prints microseconds per call or per chunk
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

from benchmarks.clients import CLIENTS
from benchmarks.server import CHUNKS, READ

ROUNDS, CALLS, STREAMS = 5, 100, 10
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def one(name: str, url: str, mode: str) -> float:
    """Measure one client in this process, in microseconds."""
    warnings.simplefilter("ignore")
    call = CLIENTS[name](url, mode == "stream")
    call(), call()
    count = STREAMS if mode == "stream" else CALLS
    began = time.process_time()
    for _ in range(count):
        call()
    spent = (time.process_time() - began) / count
    return spent / (CHUNKS if mode == "stream" else 1) * 1e6


def measure() -> dict[tuple[str, str], list[float]]:
    """Run every client in turn, round after round, so that a slow minute hits all of them."""
    figures: dict[tuple[str, str], list[float]] = {}
    words = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        for number in range(ROUNDS):
            for mode in ("invoke", "stream"):
                for name in CLIENTS:
                    run = [sys.executable, "-m", "benchmarks", "one", name, url, mode]
                    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
                    figures.setdefault((mode, name), []).append(float(told))
            print(f"round {number + 1} of {ROUNDS}", flush=True)
        server.stdin.close()
    return figures


def table(figures: dict[tuple[str, str], list[float]], mode: str) -> str:
    """One table: median, spread, and the ratio to raw httpx in the same run."""
    base = statistics.median(figures[mode, "httpx, JSON parsed"])
    lines = ["| Client | median µs | least to most | to raw httpx |", "| --- | --- | --- | --- |"]
    for name in CLIENTS:
        each = figures[mode, name]
        median = statistics.median(each)
        lines.append(f"| {name} | {median:,.1f} | {min(each):,.1f} to {max(each):,.1f} | {median / base:.2f} |")
    return "\n".join(lines)


def page(figures: dict[tuple[str, str], list[float]]) -> str:
    """The page that is written."""
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("openai", "httpx", "langchain-core", "langchain-openai", "llama-index-core")
    )
    return f"""# Benchmarks

CPU of the client's process, against a server of canned bytes in a process of its own. Made by `make bench`; every
client runs in a fresh process, {ROUNDS} rounds, interleaved. Look at the ratios: the machine is shared, and its
absolute figures are worth little.

{platform.system()} {platform.machine()}, Python {platform.python_version()}; {versions}.

## One call

The median of {CALLS} calls in a row, each with a reply in one piece.

{table(figures, "invoke")}

## One chunk of a stream

A stream of {CHUNKS} chunks with usage on each, in reads of {READ} bytes; {STREAMS} streams in a row.

{table(figures, "stream")}
"""


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(one(*sys.argv[2:5]))
    else:
        PAGE.write_text(page(measure()))
        print(f"wrote {PAGE.name}")
