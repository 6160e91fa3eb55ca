"""Run every client in fresh processes, round after round, so that a slow minute hits all of them."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed import certificate, profile, vectors
from benchmarks.speed.child import Order
from benchmarks.speed.clients import CLIENTS, THREADS, TOKENS, Entry
from benchmarks.speed.tokens import LASTING, Part

ROOT = Path(__file__).parent.parent.parent
Figures = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        rounds: Of the calls.
        more: How many of the rounds have everything else too.
        seconds: Of CPU for each figure of the calls.
        calls: How many calls the throughput is taken from.
        texts: Numbers of texts and dimensions; the largest once.
    """

    rounds: int
    more: int
    seconds: float
    calls: int
    texts: tuple[tuple[int, int], ...]


FULL = Size(3, 2, 0.15, 640, ((2000, 1024), (20_000, 4096)))
QUICK = Size(1, 1, 0.05, 128, ((200, 1024),))


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


def ask(python: Path, order: Order, certificate: str = "") -> Any:
    """Have an order carried out in a fresh process, which trusts a certificate."""
    command = [str(python), "-m", "benchmarks.speed.child", json.dumps(asdict(order))]
    trusting = {**os.environ, "SSL_CERT_FILE": certificate} if certificate else None
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env=trusting)
    except subprocess.TimeoutExpired:
        raise Failed("took longer than five minutes") from None
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["ended without a word"])[-1][:300])
    return json.loads(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Server:
    """The server of canned bytes: its address, that for TLS, and the certificate it has there; empty without TLS."""

    url: str
    tls_url: str = ""
    certificate: str = ""


@contextlib.contextmanager
def server(*, tls: bool = False) -> Iterator[Server]:
    """Run the server of canned bytes."""
    with tempfile.TemporaryDirectory() as folder:
        pem = str(certificate.written(Path(folder))) if tls else ""
        words = [sys.executable, "-m", "benchmarks.speed.server", *([pem] if tls else [])]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            try:
                plain, *secure = process.stdout.readline().split()
                tls_url = f"https://127.0.0.1:{secure[0]}/v1" if secure else ""
                yield Server(f"http://127.0.0.1:{plain}/v1", tls_url, pem)
            finally:
                process.stdin.close()


class Run:
    """One run, and the figures it has found."""

    def __init__(self, there: Server) -> None:
        self.server = there
        self.pythons = interpreters()
        self.figures: Figures = {}
        self.skipped: dict[str, str] = {}

    def take(self, client: str, sdk: int, order: Order, label: str = "") -> None:
        """Measure, and keep what was found, with what the server saw of it."""
        before = self._seen()
        try:
            found = ask(self.pythons[sdk], order, self.server.certificate)
        except Failed as problem:
            self._skip(f"{client}, {label}" if label else client, str(problem))
            return
        after = self._seen()
        share = (after["cpu"] - before["cpu"]) / max(after["at"] - before["at"], 1e-9)
        if label:
            found = {f"{label}: {name}": value for name, value in found.items()}
        found[f"server: {order.what}"] = share
        if order.what == "calls":
            found["connections"] = after["connections"] - before["connections"]
            found["requests"] = after["requests"] - before["requests"]
        for name, value in found.items():
            self.figures.setdefault(name, {}).setdefault(client, []).append(value)

    def _seen(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.server.url}/counters", timeout=60) as page:
            return {**json.load(page), "at": time.monotonic()}

    def _skip(self, client: str, why: str) -> None:
        print(f"skipped: {client}: {why}", flush=True)
        self.skipped.setdefault(client, why)

    def there(self, entries: Sequence[Entry]) -> list[Entry]:
        """The clients that can be imported; the others are skipped, and said to be."""
        found = []
        for entry in entries:
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

    def calls(self, entries: Sequence[Entry], size: Size, *, growth: bool) -> None:
        """One round of calls that follow one another, and of 64 at once."""
        for entry in entries:
            order = Order("calls", entry.key, self.server.url, size.seconds, growth=growth, calls=size.calls)
            self.take(entry.key, entry.sdk, order)

    def tokens(self, entries: Sequence[Entry], part: Part) -> None:
        """One round of streams whose tokens come one at a time."""
        url = self.server.tls_url if part.tls else self.server.url
        known = THREADS if part.what == "threads" else TOKENS
        for entry in entries:
            sizes = part.sizes if entry.named else part.others
            if entry in known and sizes:
                order = Order(part.what, entry.key, url, LASTING, sizes=sizes, uvloop=part.uvloop)
                self.take(entry.key, entry.sdk, order, part.label)

    def embeddings(self, texts: int, dimensions: int) -> None:
        """One round of embeddings; the largest are for those who ask for base64."""
        for name, (sdk, _) in vectors.CLIENTS.items():
            if sdk not in self.pythons or (texts > 2000 and name in vectors.SMALL_ONLY):
                continue
            self.take(name, sdk, Order("vectors", name, self.server.url, sizes=((texts, dimensions),)))


def machine() -> dict[str, object]:
    """What it ran on."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"system": platform.system(), "cpu": name, "cores": os.cpu_count(), "load before": load}


def commit() -> str:
    """What was measured, as git names it; empty outside of a repository."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    return ""


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure everything but tokens, and return it as data for :mod:`benchmarks.speed.report`."""
    size, began, on = QUICK if quick else FULL, time.monotonic(), machine()
    with server() as there:
        work = Run(there)
        entries = work.there(CLIENTS)
        for number in range(size.rounds):
            work.calls(entries, size, growth=number < size.more)
            if number < size.more:
                for texts, dimensions in size.texts:
                    if texts <= 2000 or number == 0:
                        work.embeddings(texts, dimensions)
            print(f"round {number + 1} of {size.rounds} after {time.monotonic() - began:,.0f} s", flush=True)
    return _told(work, on, began, size.rounds)


def run_tokens(parts: Sequence[Part], clients: Sequence[str] = (), *, rounds: int) -> dict[str, Any]:
    """Measure streams a token at a time; of the clients whose names hold these words, or of all."""
    began, on = time.monotonic(), machine()
    with server(tls=any(part.tls for part in parts)) as there:
        work = Run(there)
        entries = work.there(chosen(clients, list(dict.fromkeys([*TOKENS, *THREADS]))))
        for number in range(rounds):
            for part in parts:
                work.tokens(entries, part)
            print(f"round {number + 1} of {rounds} after {time.monotonic() - began:,.0f} s", flush=True)
    return _told(work, on, began, rounds)


def chosen(words: Sequence[str], entries: Sequence[Entry]) -> list[Entry]:
    """The clients of these names; where none has the name, those whose names hold it.

    >>> [entry.key for entry in chosen(["asyncio", "core", "chatchutes"], TOKENS)]
    ['asyncio, bytes', 'chutes_core', 'ChatChutes']
    """
    found = []
    for word in words:
        named = [entry for entry in entries if entry.key.lower() == word.lower()]
        found += named or [entry for entry in entries if word.lower() in entry.key.lower()]
    return found if words else list(entries)


def _told(work: Run, on: dict[str, object], began: float, rounds: int) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "seconds": round(time.monotonic() - began),
        "rounds": rounds,
        "machine": on,
        "versions": {str(sdk): ask(python, Order("versions")) for sdk, python in work.pythons.items()},
        "skipped": work.skipped,
        "figures": work.figures,
    }


def profiles() -> dict[str, Any]:
    """Profile our clients, each in a fresh process."""
    with server() as there:
        return {client: ask(interpreters()[3], Order("profile", client, there.url)) for client in profile.PROFILED}
