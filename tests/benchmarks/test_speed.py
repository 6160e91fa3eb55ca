"""What is measured of speed, and what is told of it."""

from __future__ import annotations

import doctest
import itertools
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.speed import aims, report, run, tokens
from benchmarks.speed.canned import text_of
from benchmarks.speed.child import Order
from benchmarks.speed.clients import BARE, CLIENTS, TOKENS, Entry
from benchmarks.speed.tokens import PARTS, Part, Watch

# --------------------------------------------------------------------------------------- streams a token at a time


def test_what_is_told_is_of_the_time_in_which_all_streams_are_open() -> None:
    """Tokens before the last stream's first one, and after the first stream's last one, are not counted."""
    watch = Watch(streams=2, chunks=4, pause=10**7)
    first, second = watch.reader(), watch.reader()
    for take, ages in ((first, "9 9"), (second, "9"), (first, "5"), (second, "1"), (first, "3"), (second, "9 9")):
        take(" ".join(str(tokens.time.monotonic_ns() - int(age) * 10**12) for age in ages.split()))
    found = watch.found(memory_before=0.0)
    assert [round(found[name] / 10**6) for name in ("p50", "p99")] == [3, 5]
    assert found["cpu"] > 0
    assert found["memory"] > 0


@pytest.mark.parametrize(("share", "told"), [(0.5, tokens.DISTURBED), (0.9, tokens.OVERRUN)], ids=["half", "most"])
def test_a_client_that_is_too_late(monkeypatch: pytest.MonkeyPatch, share: float, told: dict[str, float]) -> None:
    """A stream that ends before another begins, or tokens in heaps: overrun, if it had a core for itself."""
    now = itertools.count(1)
    monkeypatch.setattr(Watch, "_moment", lambda watch: (len(watch.delays), share * (at := next(now)), float(at)))
    early, heaps = Watch(streams=2, chunks=2, pause=10**12), Watch(streams=1, chunks=3, pause=100)
    for _ in range(2):
        early.reader()("1 1")
    heaps.reader()("1 1 1")
    assert early.found(0.0) == heaps.found(0.0) == told


def test_a_token_that_is_lost_fails_the_run() -> None:
    """A client that gives out less than was sent has no figures."""
    watch = Watch(streams=1, chunks=3, pause=100)
    watch.reader()("1 1")
    with pytest.raises(AssertionError, match="2 chunks came where 3 were sent"):
        watch.found(0.0)


@pytest.fixture(scope="module")
def there() -> Iterator[run.Server]:
    with run.server(tls=True) as served:
        yield served


@pytest.mark.parametrize(
    ("what", "client", "tls"),
    [
        ("tokens", BARE, False),
        ("tokens", "aiohttp, bytes", True),
        ("tokens", "httpx2, bytes", False),
        ("tokens", "chutes_core", True),
        ("threads", "sockets, bytes", True),
        ("threads", "httpx2, bytes", False),
    ],
)
def test_streams_of_a_real_server(there: run.Server, what: str, client: str, tls: bool) -> None:
    """Every token of every stream reaches the reader, and says when it was sent."""
    order = Order(what, client, there.tls_url if tls else there.url, seconds=0.05, sizes=((1, 100), (3, 100)))
    found = run.ask(Path(sys.executable), order, there.certificate)
    for streams in (1, 3):
        told = {
            name.rpartition(": ")[2]: value for name, value in found.items() if name.startswith(f"{streams} x 100/s")
        }
        # On a machine that is busy any client may be late; a token that is lost is an error even then.
        assert told in (tokens.OVERRUN, tokens.DISTURBED) or (
            set(told) == {"cpu", "p50", "p99", "memory"} and told["p99"] >= told["p50"] > 0
        )


OURS = [entry for entry in CLIENTS if "chutes" in entry.imports[0] and not entry.twin]


@pytest.mark.filterwarnings("ignore:The catalogue does not know the context window")
@pytest.mark.parametrize("entry", OURS, ids=lambda entry: entry.name)
def test_each_client_of_ours_has_the_whole_answer(there: run.Server, entry: Entry) -> None:
    """A client that is made in a way that is refused by now would only be skipped, in a run of an hour."""
    client = entry.load()(there.url, "bench/8")
    assert client.whole(client.messages([("user", "Say something.")])) == text_of(8)


def test_a_size_that_would_need_much_more_than_a_core_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the size before needed tells, so that nobody waits in vain; nor is any size after it."""
    tried = []
    monkeypatch.setattr(Watch, "found", lambda watch, before: {"cpu": 100.0})
    entry = Entry("nobody", "none", ("", ""), "wire:bare")
    sizes = ((1, 10), (1000, 50), (1, 50))
    found = tokens._each(
        entry, "http://127.0.0.1:1/v1", sizes, 1.0, lambda client, watch, streams: tried.append(streams)
    )
    assert tried == [1, 1]  # the first is to warm up
    assert found == {"1 x 10/s: cpu": 100.0, "1000 x 50/s: overrun": 1.0, "1 x 50/s: overrun": 1.0}


# ------------------------------------------------------------------------------------------- what is told of it


def runs() -> dict[str, dict[str, Any]]:
    """A stored run in which every reader takes 50 µs, and ours what is given."""
    cpu, late = "tokens: 64 x 10/s: cpu", "tokens: 1000 x 10/s: p99"
    figures = {cpu: {BARE: [50.0], "ChatChutes": [90.0, 110.0]}, late: {BARE: [10.0]}}
    figures["tokens: 1000 x 10/s: overrun"] = {"ChatChutes": [1.0]}
    about = {"date": "2020-01-02", "commit": "abc1234", "seconds": 60, "rounds": 2, "skipped": {"X": "not installed"}}
    on = {"system": "Linux", "cpu": "a CPU", "cores": 2, "load before": 0.5}
    return {"tokens": {**about, "machine": on, "versions": {"3": {"python": "3.11.0"}}, "figures": figures}}


def rows(text: str, client: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if f"| {client} |" in line]


def test_the_short_part() -> None:
    """It has the aims, the figures of a token, the plot, and when and of which version they are."""
    text = report.summary(runs(), "plots/")
    assert rows(text, "ChatChutes") == [["ChatChutes", "100", "2.00", "1,000", "cannot keep up"]]
    assert "| a token: ChatChutes.astream over bare asyncio | at most 2 | 2.00 |  | met |" in text
    assert "| 1,000 streams at 10/s: ChatChutes, delay p99, ms | at most 100 | cannot keep up |  | **missed** |" in text
    assert "| 1,000 streams at 10/s: AsyncChutesClient, delay p99, ms | at most 100 | not measured |  |  |" in text
    assert "2020-01-02 of abc1234, Linux, a CPU, 2 cores" in text
    assert "![speed-tokens](plots/speed-tokens.svg)" in text


def test_the_page_of_all_figures() -> None:
    """It has a table for every size, and says what was not measured."""
    text = report.report(runs())
    assert rows(text, "ChatChutes")[0][:3] == ["ChatChutes", "100 (90.0 to 110)", "2.00"]
    assert rows(text, "ChatChutes")[1] == ["ChatChutes", "cannot keep up", *[""] * 5]
    assert "- not measured: X: not installed" in text


def test_the_plot() -> None:
    """It is well-formed, and names every client that was measured."""
    drawn = report.plots(runs())["speed-tokens.svg"]
    words = {each.text for each in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}
    assert {BARE, "ChatChutes"} <= words


def test_the_pages_are_those_of_the_stored_figures() -> None:
    """Nobody has edited them by hand, and none was forgotten."""
    for name, text in command.pages().items():
        assert (command.DOCS / name).read_text() == text, f"docs/{name}: run `python -m benchmarks report`"


def test_all_aims_are_of_what_is_measured() -> None:
    """Each aim about tokens is of a size and a way that a run has, and of clients that are measured so."""
    sizes = {f"{part.label}: {tokens.name_of(*size)}" for part in PARTS for size in part.sizes}
    aimed = [aim for aim in aims.AIMS if aim.metric.startswith(("tokens", "threads"))]
    assert {aim.metric.rpartition(": ")[0] for aim in aimed} <= sizes
    named = {entry.key for entry in [*TOKENS, *run.THREADS] if entry.named}
    assert {name for aim in aimed for name in (aim.ours, aim.peer) if name} <= named


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", None),
        ("--clients core", Part("tokens", ((64, 10),), others=((64, 10),))),
        ("--streams 64,1 --rate 50", Part("tokens", ((1, 50), (64, 50)), others=((1, 50), (64, 50)))),
        ("--threads --tls", Part("threads", ((64, 10),), others=((64, 10),), tls=True)),
    ],
    ids=["all", "a client", "sizes", "threads"],
)
def test_the_command_line_names_the_streams(words: str, part: Part | None) -> None:
    """Without a word about streams everything is measured and kept; with one, only that is."""
    assert command._part(command._arguments(["tokens", *words.split()])) == part


@pytest.mark.parametrize("module", [aims, run, tokens])
def test_examples_run(module: Any) -> None:
    """The examples in the docstrings hold."""
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
