"""Run every client in fresh processes, round after round, so that a slow minute hits all of them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed import profile, vectors
from benchmarks.speed.child import Order
from benchmarks.speed.clients import CLIENTS, Entry

ROOT = Path(__file__).parent.parent.parent
Figures = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: Of the calls.
        more: How many of the rounds have everything else too.
        seconds: Of CPU for each figure of the calls.
        crowds: Numbers of streams at once; each group in a process of its own.
        calls: How many calls the throughput is taken from.
        texts: Numbers of texts and dimensions; the largest once.
    """

    rounds: int
    more: int
    seconds: float
    crowds: tuple[tuple[int, ...], ...]
    calls: int
    texts: tuple[tuple[int, int], ...]


FULL = Size(3, 2, 0.15, ((64, 256), (1000,)), 640, ((2000, 1024), (20_000, 4096)))
QUICK = Size(1, 1, 0.05, ((64,),), 128, ((200, 1024),))


def interpreters() -> dict[int, Path]:
    """The environment for each SDK: as told in BENCH_PYTHON and BENCH_PYTHON2, else those that `make` sets up."""
    found = {3: Path(sys.executable)}
    for sdk, variable, names in (
        (3, "BENCH_PYTHON", (".venv-bench",)),
        (2, "BENCH_PYTHON2", (".venv-bench-openai2", ".venv-openai2")),
    ):
        given = os.environ.get(variable)
        places = [Path(given)] if given else [ROOT / name / "bin" / "python" for name in names]
        if there := next((place for place in places if place.exists()), None):
            found[sdk] = there
    return found


class Failed(Exception):
    """A client could not be measured."""


def ask(python: Path, order: Order) -> Any:
    """Have an order carried out in a fresh process."""
    command = [str(python), "-m", "benchmarks.speed.child", json.dumps(asdict(order))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    except subprocess.TimeoutExpired:
        raise Failed("took longer than five minutes") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["ended without a word"])[-1][:300])
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run the server of canned bytes; gives its address."""
    words = [sys.executable, "-m", "benchmarks.speed.server"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.stdin.close()


class Run:
    """One run of everything, and the figures it has found."""

    def __init__(self, size: Size, url: str) -> None:
        self.size, self.url = size, url
        self.pythons = interpreters()
        self.figures: Figures = {}
        self.skipped: dict[str, str] = {}

    def take(self, client: str, sdk: int, order: Order) -> None:
        """Measure, and keep what was found, with what the server saw of it."""
        before = self._seen()
        try:
            found = ask(self.pythons[sdk], order)
        except Failed as problem:
            self._skip(client, str(problem))
            return
        after = self._seen()
        share = (after["cpu"] - before["cpu"]) / max(after["at"] - before["at"], 1e-9)
        found[f"server: {order.what}"] = share
        if order.what == "calls":
            found["connections"] = after["connections"] - before["connections"]
            found["requests"] = after["requests"] - before["requests"]
        for name, value in found.items():
            self.figures.setdefault(name, {}).setdefault(client, []).append(value)

    def _seen(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/counters", timeout=60) as page:
            return {**json.load(page), "at": time.monotonic()}

    def _skip(self, client: str, why: str) -> None:
        print(f"skipped: {client}: {why}", flush=True)
        self.skipped.setdefault(client, why)

    def there(self) -> list[Entry]:
        """The clients that can be imported; the others are skipped, and said to be."""
        found = []
        for entry in CLIENTS:
            if entry.sdk not in self.pythons:
                self._skip(entry.key, f"there is no environment with openai {entry.sdk}")
                continue
            try:
                ask(self.pythons[entry.sdk], Order("probe", entry.key))
            except Failed as problem:
                self._skip(entry.key, str(problem))
            else:
                found.append(entry)
        return found

    def calls(self, entries: list[Entry], number: int) -> None:
        """One round of calls that follow one another, and of 64 at once."""
        size = self.size
        for entry in entries:
            order = Order("calls", entry.key, self.url, size.seconds, growth=number < size.more, calls=size.calls)
            self.take(entry.key, entry.sdk, order)

    def crowds(self, entries: list[Entry]) -> None:
        """One round of many streams at once."""
        for sizes in self.size.crowds:
            for entry in entries:
                if entry.crowd:
                    self.take(entry.key, entry.sdk, Order("crowd", entry.key, self.url, sizes=sizes))

    def embeddings(self, texts: int, dimensions: int) -> None:
        """One round of embeddings; the largest are for those who ask for base64."""
        for name, (sdk, _) in vectors.CLIENTS.items():
            if sdk not in self.pythons or (texts > 2000 and name in vectors.SMALL_ONLY):
                continue
            self.take(name, sdk, Order("vectors", name, self.url, sizes=(texts, dimensions)))


def machine() -> dict[str, object]:
    """What it ran on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"system": platform.system(), "cpu": name, "cores": os.cpu_count(), "load before": load}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure everything and return it as data for :mod:`benchmarks.speed.report`."""
    size, began, on = QUICK if quick else FULL, time.monotonic(), machine()
    with server() as url:
        work = Run(size, url)
        entries = work.there()
        for number in range(size.rounds):
            work.calls(entries, number)
            if number < size.more:
                work.crowds(entries)
                for texts, dimensions in size.texts:
                    if texts <= 2000 or number == 0:
                        work.embeddings(texts, dimensions)
            print(f"round {number + 1} of {size.rounds} after {time.monotonic() - began:,.0f} s", flush=True)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": quick,
        "seconds": round(time.monotonic() - began),
        "rounds": size.rounds,
        "machine": on,
        "versions": {str(sdk): ask(python, Order("versions")) for sdk, python in work.pythons.items()},
        "skipped": work.skipped,
        "figures": work.figures,
    }


def profiles() -> dict[str, Any]:
    """Profile our clients, each in a fresh process."""
    with server() as url:
        return {client: ask(interpreters()[3], Order("profile", client, url)) for client in profile.PROFILED}
