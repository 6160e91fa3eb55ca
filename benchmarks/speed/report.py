"""The part of docs/benchmarks.md that is about speed, and its plots. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plot import Bar, bars
from benchmarks.speed.aims import AIMS, judged, median
from benchmarks.speed.calls import BATCH, HISTORIES, LENGTHS
from benchmarks.speed.canned import CHUNKS, READ
from benchmarks.speed.clients import BY_KEY, CLIENTS, RAW, SDK
from benchmarks.speed.crowd import PAUSE
from benchmarks.speed.vectors import CLIENTS as EMBEDDERS
from benchmarks.speed.vectors import RAW as RAW_VECTORS

Values = Mapping[str, Sequence[float]]
Rows = Sequence[Sequence[str]]

# The metric, the heading, and what is said of it.
_CALLS = [
    ("invoke", "One call", "µs of CPU for a call whose reply comes in one piece."),
    ("ainvoke", "One call on the event loop", "µs of CPU."),
    ("stream", "One chunk of a stream", f"µs of CPU; a stream of {CHUNKS} chunks in reads of {READ} bytes."),
    ("astream", "One chunk of a stream on the event loop", "µs of CPU."),
    ("reasoning", "One chunk of a stream that begins with reasoning", "µs of CPU."),
    ("tool calls", "One chunk of a tool call", "µs of CPU, to the call's parsed arguments."),
    ("structured", "One answer in a form", "µs of CPU, from the question to an object of a pydantic class."),
    ("batch", "One call of a batch", f"µs of CPU; {BATCH} calls by 8 threads."),
    ("64 at once: requests/s", "64 calls at once", "Requests per second of wall time, one event loop. More is better."),
    ("64 at once: cpu", "64 calls at once, CPU", "µs of CPU per call."),
]


def report(data: Mapping[str, Any], folder: str = "plots/") -> str:
    """Make the text."""
    figures = data["figures"]
    parts = [_intro(data), _aims(figures), _plots_shown(data, folder), _start(figures)]
    parts += [
        f"### {head}\n\n{said}\n\n{_table(_HEADS, _compared(figures[metric]))}"
        for metric, head, said in _CALLS
        if metric in figures
    ]
    parts += [_sealed(figures), _crowds(figures), _growth(figures), _vectors(figures), _connections(figures), _RUN]
    return "\n\n".join(part for part in parts if part) + "\n"


def plots(data: Mapping[str, Any]) -> dict[str, str]:
    """Draw the plots; the keys are file names."""
    figures, shown = data["figures"], {}
    for name, metric, title, unit in (
        ("speed-invoke.svg", "invoke", "CPU of one call", "µs"),
        ("speed-stream.svg", "stream", "CPU of one chunk of a stream", "µs"),
        ("speed-import.svg", "start: import", "CPU of the import, over the framework alone", "ms"),
        ("speed-requests.svg", "64 at once: requests/s", "64 calls at once: more is better", "requests/s"),
    ):
        if metric in figures:
            shown[name] = bars(title, unit, [_bar(client, values) for client, values in figures[metric].items()])
    return shown


def _bar(client: str, values: Sequence[float]) -> Bar:
    entry = BY_KEY[client]
    ours = "hutes" in client
    kind = "ours" if ours else "floor" if entry.floor or entry.framework == "none" else "peer"
    return Bar(client, statistics.median(values), min(values), max(values), kind)


def _plots_shown(data: Mapping[str, Any], folder: str) -> str:
    return "\n\n".join(f"![{name.removesuffix('.svg')}]({folder}{name})" for name in plots(data))


def _intro(data: Mapping[str, Any]) -> str:
    on = data["machine"]
    load = f"load {on['load before']:.1f} before" if on["load before"] is not None else "load unknown"
    versions = [
        f"- openai {sdk}: " + ", ".join(f"{name} {number}" for name, number in found.items())
        for sdk, found in data["versions"].items()
    ]
    skipped = [f"- not measured: {name}: {why}" for name, why in data["skipped"].items()]
    return f"""## Speed

CPU of the client's process, against a server of canned bytes in a process of its own. Every client runs in a fresh
process, {data["rounds"]} rounds, interleaved; figures are medians, with the least and the most beside them. Ratios
are what to look at: absolute figures are those of one machine on one day. What needs openai 2 is measured beside
httpx, the SDK and our own models in that environment, and its ratios are to those.

- {data["date"]}, {on["system"]}, {on["cpu"]}, {on["cores"]} cores, {load}; {data["seconds"]} s
{chr(10).join([*versions, *skipped])}

A *floor* is a model of a few lines that does the least its framework allows over raw httpx: no integration can be much
cheaper, and what lies between it and raw httpx is the framework's own."""


def _aims(figures: Mapping[str, Values]) -> str:
    rows = []
    for aim in AIMS:
        ratio, lowest, met = judged(aim, figures)
        if ratio is None:
            rows.append([aim.what, _limit(aim.limit, aim.least), "not measured", "", ""])
            continue
        verdict = "met" if met else "**missed**"
        if not met and lowest is not None and (lowest < aim.limit if aim.least else lowest > aim.limit):
            verdict += f": the framework alone is {'below' if aim.least else 'above'} it"
        shown = _number(ratio) if ratio > 10 else f"{ratio:.2f}"
        rows.append([aim.what, _limit(aim.limit, aim.least), shown, "" if lowest is None else f"{lowest:.2f}", verdict])
    return "### Aims\n\n" + _table(["", "aim", "reached", "the framework's floor", ""], rows)


def _limit(limit: float, least: bool) -> str:
    return f"{'at least' if least else 'at most'} {limit:g}"


_HEADS = ["Client", "median", "least to most", "to httpx", "to the SDK", "to ours"]


def _compared(values: Values) -> Rows:
    """The rows of a table: each client beside httpx, the SDK, and our model of its framework."""
    rows = []
    for entry in CLIENTS:
        if entry.key not in values:
            continue
        each = values[entry.key]
        own = statistics.median(each)
        ours = {"LangChain": "ChatChutes", "LlamaIndex": "LlamaIndex Chutes"}.get(entry.framework, "chutes_core")
        bases = [_of(values, name, entry.sdk) for name in (RAW, SDK, ours)]
        ratios = ["" if base is None else f"{own / base:.2f}" for base in bases]
        rows.append([entry.key, _number(own), _range(each), *ratios])
    return rows


def _of(values: Values, name: str, sdk: int) -> float | None:
    """The median of a client in an environment."""
    found = values.get(name if sdk == 3 else f"{name} (openai 2)")
    return statistics.median(found) if found else None


def _wide(figures: Mapping[str, Values], metrics: Mapping[str, str]) -> str:
    """A table with a column for each metric."""
    names = [entry.key for entry in CLIENTS if any(entry.key in figures.get(metric, {}) for metric in metrics)]
    rows = [[name, *(_cell(figures.get(metric, {}).get(name)) for metric in metrics)] for name in names]
    return _table(["Client", *metrics.values()], rows)


def _cell(values: Sequence[float] | None) -> str:
    return f"{_number(statistics.median(values))} ({_range(values)})" if values else ""


def _start(figures: Mapping[str, Values]) -> str:
    columns = {f"start: {name}": name for name in ("framework", "import", "construct", "first call", "cold start")}
    said = (
        "ms of CPU in a fresh process: the framework alone, the import of the class after it, an object, its first "
        "call with all that is loaded only then. A cold start is the last three together."
    )
    return f"### Start\n\n{said}\n\n{_wide(figures, columns)}"


def _sealed(figures: Mapping[str, Values]) -> str:
    """What the encrypted path adds."""
    rows = []
    for plain, sealed in (("chutes_core", "chutes_core, e2ee"), ("ChatChutes", "ChatChutes, e2ee")):
        added = []
        for metric in ("invoke", "ainvoke", "stream", "astream", "start: cold start"):
            before, after = (median(figures, metric, name) for name in (plain, sealed))
            added.append("" if before is None or after is None else f"{_number(after - before)} ({after / before:.2f})")
        rows.append([sealed, *added])
    if not any(any(row[1:]) for row in rows):
        return ""
    heads = ["Client", "a call", "on the event loop", "a chunk", "on the event loop", "a cold start, ms"]
    said = (
        "What encrypting a request and decrypting its reply adds to the same client without: µs of CPU, and in "
        "brackets the whole as a multiple of the plain call. By then the machine is known and its proof checked; a "
        "cold start includes both. The encrypted stream is also longer: each chunk is in base64, with its usage "
        "beside it."
    )
    return f"### End-to-end encryption\n\n{said}\n\n{_table(heads, rows)}"


def _crowds(figures: Mapping[str, Values]) -> str:
    sizes = sorted({int(metric.partition(" ")[0]) for metric in figures if " streams: " in metric})
    if not sizes:
        return ""
    parts = [
        "### Many streams at once\n\n"
        f"On one event loop, opened within a second; a chunk each {PAUSE} ms. CPU per chunk includes opening the "
        "stream. Delay is from the server's sending to the reader's having it; where a client cannot keep up, it adds "
        "up. Memory per stream is taken when all are open."
    ]
    for size in sizes:
        told = {"cpu": "CPU per chunk, µs", "p50": "delay p50, ms", "p99": "delay p99, ms", "memory": "KiB per stream"}
        columns = {
            f"{size} streams: {name}": head for name, head in told.items() if f"{size} streams: {name}" in figures
        }
        parts.append(f"**{size:,} streams**\n\n{_wide(figures, columns)}")
    return "\n\n".join(parts)


def _growth(figures: Mapping[str, Values]) -> str:
    streams = {f"stream of {length}": f"{length:,} chunks" for length in LENGTHS}
    histories = {f"history of {turns}": f"{turns} messages" for turns in HISTORIES}
    if not figures.keys() & streams.keys():
        return ""
    return (
        f"### Growth\n\nµs of CPU per chunk of answers of different lengths: it should not grow.\n\n"
        f"{_wide(figures, streams)}\n\n"
        f"µs of CPU per call with conversations of different lengths: it should grow as they do.\n\n"
        f"{_wide(figures, histories)}"
    )


def _vectors(figures: Mapping[str, Values]) -> str:
    sizes = [metric.removesuffix(": cpu") for metric in figures if metric.endswith(": cpu") and " x " in metric]
    parts = []
    for size in sizes:
        cpu, memory = figures[f"{size}: cpu"], figures[f"{size}: memory"]
        base = median(figures, f"{size}: cpu", RAW_VECTORS)
        rows = [
            [
                name,
                _cell(cpu[name]),
                f"{statistics.median(cpu[name]) / base:.2f}" if base else "",
                _cell(memory[name]),
            ]
            for name in EMBEDDERS
            if name in cpu
        ]
        texts, _, dimensions = size.partition(" x ")
        parts.append(
            f"**{int(texts):,} texts, {int(dimensions):,} dimensions**\n\n"
            + _table(["Client", "CPU, ms", "to raw base64", "peak memory, MiB"], rows)
        )
    if not parts:
        return ""
    said = "Each with its own batches; raw is httpx, JSON and base64 into lists of floats, 32 texts at a time."
    return "\n\n".join([f"### Embeddings\n\n{said}", *parts])


def _connections(figures: Mapping[str, Values]) -> str:
    opened, asked = figures.get("connections", {}), figures.get("requests", {})
    busiest = max(
        (max(each) for metric, found in figures.items() if metric.startswith("server") for each in found.values()),
        default=0.0,
    )
    rows = [
        [entry.key, f"{statistics.median(asked[entry.key]):,.0f}", f"{statistics.median(opened[entry.key]):,.0f}"]
        for entry in CLIENTS
        if entry.key in opened
    ]
    return (
        "### Connections\n\nRequests of a whole run of calls, and the connections that were opened for them (every "
        f"client is made anew for each answer's length). The server used {busiest:.0%} of a core at its busiest; "
        "between the reads of a stream it waits in a loop.\n\n" + _table(["Client", "requests", "connections"], rows)
    )


_RUN = """### How to run it

`make bench` sets up the environments with the peers and runs everything; a peer that cannot be installed is skipped
and named. `python -m benchmarks speed --quick` is a smoke run. The figures are in `benchmarks.json`."""


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _table(heads: Sequence[str], rows: Rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
