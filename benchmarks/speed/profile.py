"""Where the CPU of our clients goes, by package: samples of the profiling timer, which runs only while we do.

python -m benchmarks profile prints a table of shares. A profiler that hooks into calls would charge those that make
many small ones; one that goes by the clock on the wall would count the waiting for the server.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from benchmarks.speed.calls import drain
from benchmarks.speed.canned import CHUNKS
from benchmarks.speed.clients import BY_KEY

INTERVAL = 0.001
SECONDS = 8.0
PROFILED = ["chutes_core", "ChatChutes", "ChutesFallback", "LlamaIndex Chutes", "LlamaIndex ChutesFallback"]
WORK = {"a call": "bench/8", "a stream": f"bench/{CHUNKS}"}
LAYERS = {
    "ours: the core": ("chutes_core",),
    "ours: the framework's side": ("langchain_chutes", "llama_index_chutes"),
    "the framework": ("langchain_core", "langsmith", "llama_index", "llama_index_instrumentation", "tiktoken"),
    "pydantic": ("pydantic", "pydantic_core"),
    "HTTP": ("httpx", "httpcore", "httpx2", "httpcore2", "h11", "anyio", "sniffio"),
}
REST = "Python's own library"


def package_of(file: str) -> str:
    """The package that a source file belongs to; empty for Python's own library.

    >>> package_of("/x/site-packages/h11/_events.py"), package_of("/x/lib/python3.11/json/decoder.py")
    ('h11', '')
    """
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    ours = [name for name in ("chutes_core", "langchain_chutes", "llama_index_chutes") if name in parts]
    return ours[0] if ours else ""


def layer_of(file: str) -> str:
    """The layer of a source file."""
    package = package_of(file)
    return next((layer for layer, packages in LAYERS.items() if package in packages), package or REST)


def sampled(work: Callable[[], object], seconds: float) -> Counter[str]:
    """Repeat some work for so much CPU, and count in which layer it was found at each tick."""
    found: Counter[str] = Counter()

    def tick(number: int, frame: FrameType | None) -> None:
        if frame is not None:
            found[layer_of(frame.f_code.co_filename)] += 1

    before = signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        until = time.process_time() + seconds
        while time.process_time() < until:
            work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found


def measure(client: str, url: str) -> dict[str, dict[str, float]]:
    """The share of each layer in a call and in a stream."""
    make, shares = BY_KEY[client].load(), {}
    for what, model in WORK.items():
        made = make(url, model)
        asked = made.messages([("user", "Say something long.")])

        def work(made=made, asked=asked, whole=what == "a call") -> object:  # type: ignore[no-untyped-def]
            return made.whole(asked) if whole else drain(made, asked)

        work()
        found = sampled(work, SECONDS)
        shares[what] = {layer: count / found.total() for layer, count in found.most_common()}
    return shares


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The shares of all clients, in percent."""
    names = [f"{client}, {what}" for client, shares in found.items() for what in shares]
    columns = [each for shares in found.values() for each in shares.values()]
    layers = [layer for layer in (*LAYERS, REST) if any(layer in column for column in columns)]
    lines = [["", *layers, "other"], ["---"] * (len(layers) + 2)]
    for name, column in zip(names, columns, strict=True):
        known = [column.get(layer, 0.0) for layer in layers]
        lines.append([name, *(f"{share:.0%}" for share in (*known, 1 - sum(known)))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
