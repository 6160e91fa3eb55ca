"""What is told of speed: the part of docs/benchmarks.md, the page docs/benchmarks/speed.md, and the plots. Pure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plot import Bar, bars
from benchmarks.speed.aims import AIMS, failing, judged, median
from benchmarks.speed.calls import BATCH, HISTORIES, LENGTHS
from benchmarks.speed.canned import CHUNKS, READ
from benchmarks.speed.clients import BARE, BARE_BLOCKING, BY_KEY, CLIENTS, RAW, SDK, THREADS, TOKENS
from benchmarks.speed.tokens import LASTING, MANY, OPENING, PARTS, USUAL, Part, name_of
from benchmarks.speed.vectors import CLIENTS as EMBEDDERS
from benchmarks.speed.vectors import RAW as RAW_VECTORS

Values = Mapping[str, Sequence[float]]
Rows = Sequence[Sequence[str]]

# The metric, the heading, and what is said of it.
_CALLS = [
    ("invoke", "One call", "µs of CPU for a call whose reply comes in one piece."),
    ("ainvoke", "One call on the event loop", "µs of CPU."),
    ("stream", "One chunk of a stream in blocks", f"µs of CPU; a stream of {CHUNKS} chunks in reads of {READ} bytes."),
    ("astream", "One chunk of a stream in blocks on the event loop", "µs of CPU."),
    ("reasoning", "One chunk of a stream that begins with reasoning", "µs of CPU."),
    ("tool calls", "One chunk of a tool call", "µs of CPU, to the call's parsed arguments."),
    ("structured", "One answer in a form", "µs of CPU, from the question to an object of a pydantic class."),
    ("batch", "One call of a batch", f"µs of CPU; {BATCH} calls by 8 threads."),
    ("64 at once: requests/s", "64 calls at once", "Requests per second of wall time, one event loop. More is better."),
    ("64 at once: cpu", "64 calls at once, CPU", "µs of CPU per call."),
]


Runs = Mapping[str, Mapping[str, Any]]
"""The stored runs: that of ``tokens`` and that of ``calls``, each with its own date."""
_PART = PARTS[0]


def together(runs: Runs) -> dict[str, Values]:
    """The figures of all runs."""
    return {metric: values for data in runs.values() for metric, values in data["figures"].items()}


def summary(runs: Runs, folder: str) -> str:
    """Make the short part: the aims, the plots and the figures that matter most."""
    figures = together(runs)
    parts = [
        f"""## Speed

CPU of the client's process, against a server of canned bytes in a process of its own. Ratios are what to look at:
absolute figures are those of one machine on one day. [All figures](benchmarks/speed.md).

{_when(runs)}""",
        _aims(figures),
        *(f"![{name.removesuffix('.svg')}]({folder}{name})" for name in plots(runs)),
        _tokens_in_short(figures),
        _calls_in_short(figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def report(runs: Runs) -> str:
    """Make the page of all figures."""
    figures = together(runs)
    parts = [_intro(runs), tokens(figures), _start(figures)]
    parts += [
        f"## {head}\n\n{said}\n\n{_table(_HEADS, _compared(figures[metric]))}"
        for metric, head, said in _CALLS
        if metric in figures
    ]
    parts += [_sealed(figures), _growth(figures), _vectors(figures), _connections(figures)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plots(runs: Runs) -> dict[str, str]:
    """Draw the plots; the keys are file names."""
    figures, shown = together(runs), {}
    for name, metric, title, unit in (
        ("speed-tokens.svg", f"{_PART.label}: {name_of(*USUAL)}: cpu", "CPU of one chunk, a token at a time", "µs"),
        ("speed-stream.svg", "stream", "CPU of one chunk of a stream in blocks", "µs"),
        ("speed-invoke.svg", "invoke", "CPU of one call", "µs"),
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


_NAMES = {"tokens": "a token at a time", "calls": "everything else"}


def _when(runs: Runs) -> str:
    """Of each run when, on what and of which version it was."""
    lines = []
    for name, data in runs.items():
        on = data["machine"]
        load = f"load {on['load before']:.1f} before" if on["load before"] is not None else "load unknown"
        version = f" of {data['commit']}" if data.get("commit") else ""
        lines.append(
            f"- {_NAMES[name]}: {data['date']}{version}, {on['system']}, {on['cpu']}, {on['cores']} cores, {load}; "
            f"rounds: {data['rounds']}, {data['seconds']} s"
        )
    return "\n".join(lines)


def _intro(runs: Runs) -> str:
    lines = []
    for name, data in runs.items():
        for sdk, found in data["versions"].items():
            told = ", ".join(f"{package} {number}" for package, number in found.items())
            lines.append(f"- {_NAMES[name]}, openai {sdk}: {told}")
        lines += [f"- not measured: {client}: {why}" for client, why in data["skipped"].items()]
    return f"""# Speed: all figures

What the clients cost; [the page before](../benchmarks.md) has what matters of it. CPU of the client's process, against
a server of canned bytes in a process of its own. Every client runs in a fresh process, in rounds, interleaved; figures
are medians, with the least and the most beside them. Ratios are what to look at: absolute figures are those of one
machine on one day. What needs openai 2 is measured beside httpx, the SDK and our own models in that environment, and
its ratios are to those.

{_when(runs)}
{chr(10).join(lines)}

A *floor* is a model of a few lines that does the least its framework allows over raw httpx: no integration can be much
cheaper, and what lies between it and raw httpx is the framework's own."""


def tokens(figures: Mapping[str, Values], parts: Sequence[Part] = PARTS) -> str:
    """The section about streams a token at a time."""
    tables = [_tokens(figures, part, *size) for part in parts for size in part.sizes]
    if not any(tables):
        return ""
    said = f"""## A token at a time

From a model every token comes in a packet of its own. The streams are opened one every {OPENING * 1000:g} ms. What is
told is of the {LASTING:g} s in which all of them are open: CPU per chunk, also as a multiple of that of a reader that
takes bytes off the wire and looks at none of them; the delay from the server's sending a token to the reader's having
it; memory, when all are open, over one stream; and how many such streams the CPU of one core would carry. Whoever
*cannot keep up* would need more than a core, has not opened all streams when the first ones end, or has half of the
tokens later than the next ones were sent, with a core to itself; if it had none, *the machine was busy*. A fallback has
two members, of which the first answers. While a client was measured the server used at most
{_busiest(figures, "tokens", "threads"):.0%} of a core."""
    return "\n\n".join([said, *(table for table in tables if table)])


_WAYS = {
    "tokens": "on an event loop",
    "tokens, uvloop": "on an event loop of uvloop",
    "tokens, TLS": "on an event loop, over TLS",
    "threads": "each in a thread",
    "threads, TLS": "each in a thread, over TLS",
}


def _tokens(figures: Mapping[str, Values], part: Part, streams: int, rate: int) -> str:
    name = f"{part.label}: {name_of(streams, rate)}"
    cpus = figures.get(f"{name}: cpu", {})
    base = median(figures, f"{name}: cpu", BARE_BLOCKING if part.what == "threads" else BARE)
    rows = []
    for entry in THREADS if part.what == "threads" else TOKENS:
        if entry.key in cpus:
            cpu = statistics.median(cpus[entry.key])
            others = (_cell(figures.get(f"{name}: {what}", {}).get(entry.key)) for what in ("p50", "p99", "memory"))
            ratio = f"{cpu / base:.2f}" if base else ""
            rows.append([entry.key, _cell(cpus[entry.key]), ratio, *others, f"{1e6 / cpu / rate:,.0f}"])
        elif why := failing(figures, f"{name}: cpu", entry.key):
            rows.append([entry.key, why, *[""] * 5])
    if not rows:
        return ""
    count = "One stream" if streams == 1 else f"{streams:,} streams"
    bare = "to bare sockets" if part.what == "threads" else "to bare asyncio"
    heads = ["Client", "CPU, µs", bare, "delay p50, ms", "delay p99, ms", "KiB per stream", "streams a core carries"]
    return f"### {count} at {rate} tokens a second, {_WAYS[part.label]}\n\n{_table(heads, rows)}"


def _tokens_in_short(figures: Mapping[str, Values]) -> str:
    cpu, late = f"{_PART.label}: {name_of(*USUAL)}: cpu", f"{_PART.label}: {name_of(*MANY)}: p99"
    base, rows = median(figures, cpu, BARE), []
    for entry in TOKENS:
        own, many = median(figures, cpu, entry.key), median(figures, late, entry.key)
        told = failing(figures, late, entry.key) if many is None else _number(many)
        if own is not None:
            ratio = f"{own / base:.2f}" if base else ""
            rows.append([entry.key, _number(own), ratio, f"{1e6 / own / USUAL[1]:,.0f}", told])
        elif why := failing(figures, cpu, entry.key):
            rows.append([entry.key, why, "", "", told])
    if not rows:
        return ""
    said = (
        f"From a model every token comes in a packet of its own. {USUAL[0]} streams of {USUAL[1]} tokens a second on "
        f"one event loop, and how late tokens are with {MANY[0]:,} of them:"
    )
    heads = ["Client", "CPU of a token, µs", "to bare asyncio", "streams a core carries", "delay p99 with 1,000, ms"]
    return f"### A token at a time\n\n{said}\n\n{_table(heads, rows)}"


def _calls_in_short(figures: Mapping[str, Values]) -> str:
    columns = {"start: cold start": "cold start, ms", "invoke": "a call, µs", "stream": "a chunk in blocks, µs"}
    rows = []
    for entry in CLIENTS:
        values = [median(figures, metric, entry.key) for metric in columns]
        if any(values) and not entry.twin:
            rows.append([entry.key, *("" if value is None else _number(value) for value in values)])
    if not rows:
        return ""
    said = (
        "CPU of an import with the first call, of a call whose reply comes in one piece, and of a chunk of a stream "
        f"that comes {READ:,} bytes at a time:"
    )
    return f"### A call\n\n{said}\n\n{_table(['Client', *columns.values()], rows)}"


def _aims(figures: Mapping[str, Values]) -> str:
    rows = []
    for aim in AIMS:
        ratio, lowest, met = judged(aim, figures)
        if ratio is None:
            why = failing(figures, aim.metric, aim.ours)
            told = [why or "not measured", "", "**missed**" if why == "cannot keep up" else ""]
            rows.append([aim.what, _limit(aim.limit, aim.least), *told])
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
    if not values:
        return ""
    middle = _number(statistics.median(values))
    return f"{middle} ({_range(values)})" if len(values) > 1 else middle


def _start(figures: Mapping[str, Values]) -> str:
    columns = {f"start: {name}": name for name in ("framework", "import", "construct", "first call", "cold start")}
    said = (
        "ms of CPU in a fresh process: the framework alone, the import of the class after it, an object, its first "
        "call with all that is loaded only then. A cold start is the last three together."
    )
    return f"## Start\n\n{said}\n\n{_wide(figures, columns)}"


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
    return f"## End-to-end encryption\n\n{said}\n\n{_table(heads, rows)}"


def _growth(figures: Mapping[str, Values]) -> str:
    streams = {f"stream of {length}": f"{length:,} chunks" for length in LENGTHS}
    histories = {f"history of {turns}": f"{turns} messages" for turns in HISTORIES}
    if not figures.keys() & streams.keys():
        return ""
    return (
        f"## Growth\n\nµs of CPU per chunk of answers of different lengths: it should not grow.\n\n"
        f"{_wide(figures, streams)}\n\n"
        f"µs of CPU per call with conversations of different lengths: it should grow as they do.\n\n"
        f"{_wide(figures, histories)}"
    )


def _vectors(figures: Mapping[str, Values]) -> str:
    sizes = [metric.removesuffix(": cpu") for metric in figures if re.fullmatch(r"\d+ x \d+: cpu", metric)]
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
    return "\n\n".join([f"## Embeddings\n\n{said}", *parts])


def _connections(figures: Mapping[str, Values]) -> str:
    opened, asked = figures.get("connections", {}), figures.get("requests", {})
    rows = [
        [entry.key, f"{statistics.median(asked[entry.key]):,.0f}", f"{statistics.median(opened[entry.key]):,.0f}"]
        for entry in CLIENTS
        if entry.key in opened
    ]
    if not rows:
        return ""
    return (
        "## Connections\n\nRequests of a whole run of calls, and the connections that were opened for them (every "
        f"client is made anew for each answer's length). The server used {_busiest(figures, 'calls', 'vectors'):.0%} "
        "of a core at its busiest; between the reads of a stream it waits in a loop.\n\n"
        + _table(["Client", "requests", "connections"], rows)
    )


def _busiest(figures: Mapping[str, Values], *orders: str) -> float:
    """The most of a core that the server used while a client carried out such an order."""
    found = (figures.get(f"server: {order}", {}).values() for order in orders)
    return max((value for clients in found for each in clients for value in each), default=0.0)


def _range(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def _table(heads: Sequence[str], rows: Rows) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
