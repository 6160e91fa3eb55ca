"""What the project aims at, as ratios of one run. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.speed.clients import BARE, BARE_BLOCKING, RAW
from benchmarks.speed.vectors import RAW as RAW_VECTORS

Figures = Mapping[str, Mapping[str, Sequence[float]]]


@dataclass(frozen=True)
class Aim:
    """A limit on one client's figure: over another's, or by itself.

    Attributes:
        what: In words.
        metric: Which figure.
        ours: Whose.
        peer: Over whose; empty for the figure itself. Of several, separated by "|", the one that is hardest to beat.
        limit: The most, or the least, that it may be.
        least: Whether the limit is one from below.
        floor: Whose figure is the framework's own.
    """

    what: str
    metric: str
    ours: str
    peer: str
    limit: float
    least: bool = False
    floor: str = ""


_LC, _LI = "LangChain's floor", "LlamaIndex's floor"
_START = "start: import"
_EMBED = "2000 x 1024: cpu"
_TOKEN, _TOKEN_UVLOOP = "tokens: 64 x 10/s: cpu", "tokens, uvloop: 64 x 10/s: cpu"
_TOKEN_THREADS = "threads: 32 x 50/s: cpu"
_LATE = "tokens: 1000 x 10/s: p99"
AIMS = [
    Aim("a token: AsyncChutesClient over bare asyncio", _TOKEN, "chutes_core", BARE, 1.6),
    Aim("a token: ChatChutes.astream over bare asyncio", _TOKEN, "ChatChutes", BARE, 2.0),
    Aim("a token: ChatChutes.astream over ChatOpenAI", _TOKEN, "ChatChutes", "ChatOpenAI", 0.33),
    Aim("a token: ChutesFallback over ChatChutes", _TOKEN, "ChutesFallback", "ChatChutes", 1.1),
    Aim("a token on uvloop: AsyncChutesClient over bare asyncio there", _TOKEN_UVLOOP, "chutes_core", BARE, 1.6),
    Aim("a token on uvloop: ChatChutes.astream over bare asyncio there", _TOKEN_UVLOOP, "ChatChutes", BARE, 2.0),
    Aim("1,000 streams at 10/s: AsyncChutesClient, delay p99, ms", _LATE, "chutes_core", "", 100),
    Aim("1,000 streams at 10/s: ChatChutes, delay p99, ms", _LATE, "ChatChutes", "", 100),
    Aim("a token in 32 threads: ChutesClient over bare sockets", _TOKEN_THREADS, "chutes_core", BARE_BLOCKING, 1.6),
    Aim("a token in 32 threads: ChatChutes.stream over bare sockets", _TOKEN_THREADS, "ChatChutes", BARE_BLOCKING, 2.0),
    Aim("ChatChutes.invoke over raw httpx", "invoke", "ChatChutes", RAW, 1.6, floor=_LC),
    Aim("ChatChutes.invoke over ChatOpenAI", "invoke", "ChatChutes", "ChatOpenAI", 0.5, floor=_LC),
    Aim("ChatChutes.stream, a chunk over ChatOpenAI's", "stream", "ChatChutes", "ChatOpenAI", 0.25, floor=_LC),
    Aim(
        "LlamaIndex Chutes, a chunk over OpenAILike's", "stream", "LlamaIndex Chutes (openai 2)", "OpenAILike", 0.25,
        floor=_LI,
    ),
    Aim("import of ChatChutes over the framework, ms", _START, "ChatChutes", "", 150),
    Aim("import of LlamaIndex Chutes over the framework, ms", _START, "LlamaIndex Chutes", "", 150),
    Aim(
        "64-way ainvoke, requests/s over raw httpx", "64 at once: requests/s", "ChatChutes",
        f"{RAW}|httpx2, JSON parsed", 0.85, least=True, floor=_LC,
    ),
    Aim("embeddings in base64 over raw decode", _EMBED, "chutes_core", RAW_VECTORS, 1.3),
]  # fmt: skip


def median(figures: Figures, metric: str, client: str) -> float | None:
    """The median of a client's figures; None where it has none."""
    values = figures.get(metric, {}).get(client)
    return statistics.median(values) if values else None


def failing(figures: Figures, metric: str, client: str) -> str:
    """Why a client has no figure of so many streams: empty where it has one, or nobody has looked.

    >>> failing({"tokens: 64 x 10/s: overrun": {"ours": [1.0]}}, "tokens: 64 x 10/s: cpu", "ours")
    'cannot keep up'
    """
    size = metric.rpartition(": ")[0]
    if client in figures.get(metric, {}):
        return ""
    words = {"overrun": "cannot keep up", "disturbed": "the machine was busy"}
    return next((told for name, told in words.items() if client in figures.get(f"{size}: {name}", {})), "")


def judged(aim: Aim, figures: Figures) -> tuple[float | None, float | None, bool | None]:
    """The ratio that was reached, the floor's, and whether the aim is met; None for what is not known.

    >>> found = {"invoke": {"ChatChutes": [3.0], "httpx, JSON parsed": [2.0], "LangChain's floor": [2.5]}}
    >>> judged(AIMS[10], found)
    (1.5, 1.25, True)
    """
    own = median(figures, aim.metric, aim.ours)
    bases = [median(figures, aim.metric, name) for name in aim.peer.split("|")] if aim.peer else [1.0]
    known = [base for base in bases if base]
    if own is None or not known:
        return None, None, None
    base = max(known) if aim.least else min(known)
    lowest = median(figures, aim.metric, aim.floor) if aim.floor else None
    ratio = own / base
    met = ratio >= aim.limit if aim.least else ratio <= aim.limit
    return ratio, None if lowest is None else lowest / base, met
