"""One client in a fresh process: it is told what to measure in a JSON argument, and prints what it found as JSON."""

from __future__ import annotations

import gc
import json
import sys
import time
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from benchmarks.speed.clients import BY_KEY, FRAMEWORKS, Entry

PACKAGES = (
    "openai", "httpx", "httpx2", "aiohttp", "uvloop", "pydantic", "langchain-core", "langchain-openai",
    "langchain-fireworks", "langchain-openrouter", "langchain-litellm", "litellm", "llama-index-core",
    "llama-index-llms-openai-like", "llama-index-llms-litellm",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What a process is to do.

    Attributes:
        what: ``versions``, ``probe``, ``calls``, ``tokens``, ``threads``, ``vectors`` or ``profile``.
        client: Of whom.
        url: Where the server is.
        seconds: How much CPU each figure of ``calls`` gets, and for how long all streams of the others are open.
        growth: Whether ``calls`` measures the features, and how cost grows with length.
        sizes: The numbers of streams and of tokens a second of each; of vectors, those of texts and dimensions.
        calls: How many calls the throughput is taken from.
        uvloop: Whether ``tokens`` are read on an event loop of uvloop.
    """

    what: str
    client: str = ""
    url: str = ""
    seconds: float = 0.0
    growth: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    calls: int = 0
    uvloop: bool = False


def start(entry: Entry, url: str) -> dict[str, float]:
    """Measure the import over the framework, the construction and the first call, in CPU milliseconds."""
    for module in FRAMEWORKS[entry.framework]:
        import_module(module)
    gc.collect()  # the framework's own garbage: else it is collected, at random, at our expense
    framework = time.process_time()
    if not entry.floor:
        getattr(import_module(entry.imports[0]), entry.imports[1])
    imported = time.process_time() - framework
    make = entry.load()
    began = time.process_time()
    client = make(url, "bench/8")
    constructed = time.process_time() - began
    messages = client.messages([("user", "Say something.")])
    began = time.process_time()
    client.whole(messages)
    first = time.process_time() - began
    found = {"framework": framework, "import": imported, "construct": constructed, "first call": first}
    found["cold start"] = imported + constructed + first
    return {f"start: {name}": seconds * 1e3 for name, seconds in found.items()}


def versions() -> dict[str, str]:
    """The versions of everything that is measured, where it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def probe(entry: Entry) -> None:
    """Import a client, to see whether it is there, and to have its bytecode written before anything is measured."""
    for module in (*FRAMEWORKS[entry.framework], entry.imports[0]):
        if module:
            import_module(module)
    entry.load()


def main(order: Order) -> object:
    """Carry out an order."""
    if order.what == "versions":
        return {"python": sys.version.split()[0], **versions()}
    if order.what == "vectors":
        from benchmarks.speed import vectors

        return vectors.measure(order.client, order.url, *order.sizes[0])
    if order.what == "profile":
        from benchmarks.speed import profile

        return profile.measure(order.client, order.url)
    entry = BY_KEY[order.client]
    if order.what == "probe":
        probe(entry)
        return {}
    if order.what in ("tokens", "threads"):
        from benchmarks.speed import tokens

        threads = order.what == "threads"
        return tokens.measure(entry, order.url, order.sizes, order.seconds, threads=threads, uvloop=order.uvloop)
    found = start(entry, order.url)
    from benchmarks.speed import calls

    return found | calls.measure(entry, order.url, order.seconds, growth=order.growth, at_once=order.calls)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main(Order(**json.loads(sys.argv[1])))))
