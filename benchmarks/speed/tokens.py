"""Many streams at once, each of whose tokens comes in a packet of its own, as it does from a model.

Every chunk of a paced stream says when the server sent it, so a chunk's delay is what the client adds. CPU and delays
are those of the time between the opening of the last stream and the last token of the first one. What a client cannot
keep up with adds up, as it does in a real server.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.clients import Client, Entry

OPENING = 0.005  # s from the opening of one stream to that of the next
LASTING = 2.0  # s for which all streams are open
_HOPELESS = 4.0  # cores: whoever would need more, by what fewer tokens a second needed, is not asked
_BUSY = 0.7  # of a core: whoever needs that much may fail, and has not kept up then
QUESTION = [("user", "Say something long.")]
_WHOLE = 0.8  # of a core, while all streams are open: who had less was kept from working by others
OVERRUN = {"overrun": 1.0}
DISTURBED = {"disturbed": 1.0}
Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """One way to read streams a token at a time.

    Attributes:
        what: The order to a child: ``tokens`` on an event loop, or ``threads``.
        sizes: Numbers of streams, and tokens a second of each; fewer tokens a second in all before more.
        others: The sizes for clients that the aims do not name.
    """

    what: str
    sizes: Sizes
    others: Sizes = ()
    tls: bool = False
    uvloop: bool = False

    @property
    def label(self) -> str:
        """What the names of its figures begin with.

        >>> Part("tokens", (), tls=True).label
        'tokens, TLS'
        """
        return ", ".join([self.what, *(["TLS"] if self.tls else []), *(["uvloop"] if self.uvloop else [])])


USUAL, MANY = (64, 10), (1000, 10)
_LOOP = ((1, 10), (1, 50), USUAL, (256, 10), (64, 50), MANY, (256, 50), (1000, 50))
_THREADS = ((1, 50), (32, 50))
PARTS = (
    Part("tokens", _LOOP, others=(USUAL, (256, 10), MANY)),
    Part("tokens", (USUAL,), uvloop=True),
    Part("tokens", (USUAL,), tls=True),
    Part("threads", _THREADS),
    Part("threads", _THREADS[1:], tls=True),
)
QUICK = (Part("tokens", (USUAL,), others=(USUAL,)), Part("threads", ((32, 50),)))


def resident() -> float:
    """The memory of this process in KiB: now where the system says it, else its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return peak()


def peak() -> float:
    """The most memory that this process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)


class Watch:
    """What is seen of streams that are read at once, of so many chunks each, one every so many milliseconds.

    Attributes:
        delays: Of each token, in ms, in the order in which they came.
    """

    def __init__(self, streams: int, chunks: int, pause: int) -> None:
        self._streams, self._chunks, self._pause = streams, chunks, pause
        self._opened, self._lock = 0, threading.Lock()
        self._all_open = self._first_ends = (0, 0.0, 0.0)
        self._memory = 0.0
        self.delays: list[float] = []
        self._began = self._moment()

    def reader(self) -> Callable[[str], None]:
        """What takes the texts of one stream."""
        seen = 0
        delays, now = self.delays, time.monotonic_ns

        def take(text: str) -> None:
            nonlocal seen
            for sent in text.split():
                delays.append((now() - int(sent)) / 1e6)
                seen += 1
                if seen == 1:
                    self._open()
                elif seen == self._chunks and not self._first_ends[0]:
                    self._first_ends = self._moment()

        return take

    def _open(self) -> None:
        with self._lock:
            self._opened += 1
            if self._opened == self._streams:
                self._memory = resident()
                self._all_open = self._moment()

    def _moment(self) -> tuple[int, float, float]:
        return len(self.delays), time.process_time(), time.monotonic()

    def late(self) -> dict[str, float]:
        """What is told of a client that has not kept up from the start."""
        (_, cpu, then), (_, cpu_now, now) = self._began, self._moment()
        return OVERRUN if cpu_now - cpu > _WHOLE * (now - then) else DISTURBED

    def found(self, memory_before: float) -> dict[str, float]:
        """The figures, or only why there are none.

        A client was overrun where it did not have all streams open at once, or had half of the tokens later than the
        next ones were sent: it would seem cheap then, with many tokens in one read. If it had no core to itself all the
        while, the machine was busy with something else, and nothing is known of the client.
        """
        if len(self.delays) != self._streams * self._chunks:
            raise AssertionError(f"{len(self.delays)} chunks came where {self._streams * self._chunks} were sent")
        (start, cpu, then), (end, cpu_then, now) = self._all_open, self._first_ends
        ordered = sorted(self.delays[start:end])
        if not ordered:
            return self.late()
        if (middle := ordered[len(ordered) // 2]) > self._pause:
            return OVERRUN if cpu_then - cpu > _WHOLE * (now - then) else DISTURBED
        return {
            "cpu": (cpu_then - cpu) / len(ordered) * 1e6,
            "p50": middle,
            "p99": ordered[int(len(ordered) * 0.99)],
            "memory": (self._memory - memory_before) / self._streams,
        }


def measure(
    entry: Entry, url: str, sizes: Sizes, lasting: float, *, threads: bool = False, uvloop: bool = False
) -> dict[str, float]:
    """Hold so many streams of so many tokens a second open at once for so long, one size after the other.

    CPU per chunk is in µs, the chunks' delays in ms, memory per stream in KiB. A client is overrun by a size that would
    need much more than a core, by what the size before it needed, and by all after one that has overrun it: these are
    not tried.
    """
    if threads:
        return _each(entry, url, sizes, lasting, _in_threads)
    with asyncio.Runner(loop_factory=_uvloop if uvloop else None) as runner:
        # One event loop for all: the connections of some clients do not survive theirs.
        return _each(entry, url, sizes, lasting, lambda *told: runner.run(_on_the_loop(*told)))


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


def _each(
    entry: Entry, url: str, sizes: Sizes, lasting: float, hold: Callable[[Client, Watch, int], None]
) -> dict[str, float]:
    make, cpu, overrun = entry.load(), 0.0, False
    found: dict[str, float] = {}
    hold(make(url, "bench/paced-1-1"), Watch(1, 1, 1), 1)
    gc.collect()
    before = resident()
    for streams, rate in sizes:
        load = cpu * streams * rate / 1e6
        seen = OVERRUN
        if not overrun and load < _HOPELESS:
            chunks = round((OPENING * streams + lasting) * rate)
            pause = 1000 // rate
            watch = Watch(streams, chunks, pause)
            try:
                hold(make(url, f"bench/paced-{chunks}-{pause}"), watch, streams)
                seen = watch.found(before)
            except Exception:  # under load: a limit of time has passed, or a fallback has gone to its second member
                if load < _BUSY:
                    raise
                seen = watch.late()
            gc.collect()
        overrun, cpu = seen == OVERRUN, seen.get("cpu", cpu)
        found |= {f"{name_of(streams, rate)}: {name}": value for name, value in seen.items()}
    return found


def name_of(streams: int, rate: int) -> str:
    """A size in the names of figures.

    >>> name_of(64, 10)
    '64 x 10/s'
    """
    return f"{streams} x {rate}/s"


async def _on_the_loop(client: Client, watch: Watch, streams: int) -> None:
    asked, astream, text = client.messages(QUESTION), client.astream, client.text
    assert astream is not None

    async def read(after: float) -> None:
        await asyncio.sleep(after)
        take = watch.reader()
        async for chunk in astream(asked):
            take(text(chunk))

    await asyncio.gather(*(read(OPENING * number) for number in range(streams)))


def _in_threads(client: Client, watch: Watch, streams: int) -> None:
    asked, stream, text = client.messages(QUESTION), client.stream, client.text

    def read(after: float) -> None:
        time.sleep(after)
        take = watch.reader()
        for chunk in stream(asked):
            take(text(chunk))

    threads = [threading.Thread(target=read, args=(OPENING * number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
