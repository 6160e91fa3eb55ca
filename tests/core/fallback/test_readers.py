"""Two members at once, in threads and in tasks: what a caller sees of it, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from benchmarks.faults import virtual
from chutes_core import AsyncFallbackClient, Budget, Catalog, ChutesError, FallbackClient, FallbackPolicy, Kind
from chutes_core.fallback import Attempt, Call, Health, Member, Try, readers
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.relay import Relay
from chutes_core.response import Choice, Delta, Reply
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from tests.core.raw_server import DONE, END, HEAD, RawServer, Request, event, raw_server

from .played import Played
from .stages import ANSWER, HELLO, MEMBERS, PAYING, STYLES, Whole

HEDGED = FallbackPolicy(hedge=2, first_token=10, gap=5, deadline=60)
ALL = pytest.mark.parametrize("style", STYLES)
OTHER = Answer("Another one says forty-three.", pieces=4)
THINKING = Answer("The answer is forty-two.", reasoning="Let me think.", pieces=4)
MODES = ["raise", "hold", "restart", "resume", "resume_or_restart", "resume_or_hold"]


def slow(seconds: float, answer: Answer = ANSWER) -> Fault:
    """A member that is silent for so long, and then answers."""
    return Fault("hang_after_headers", seconds=seconds, answer=answer)


TABLE: dict[str, tuple[list[Any], str | Kind, list[tuple[str, str]], float]] = {
    # what the members do in the order in which they are asked; what comes; the attempts; when
    "in time": ([slow(1)], ANSWER.text, [("acme/one", "answered")], 1),
    "the second is faster": (
        [slow(9), OTHER], OTHER.text, [("acme/one", "outrun"), ("acme/two", "answered")], 2,
    ),
    "before its headers": (
        [Fault("hang"), OTHER], OTHER.text, [("acme/one", "outrun"), ("acme/two", "answered")], 2,
    ),
    "the first after all": (
        [slow(3), slow(9, OTHER)], ANSWER.text, [("acme/two", "outrun"), ("acme/one", "answered")], 3,
    ),
    "the second fails": (
        [slow(3), "capacity"], ANSWER.text, [("acme/two", "failed"), ("acme/one", "answered")], 3,
    ),
    "the first fails": (
        [Fault("hang"), slow(9, OTHER)], OTHER.text, [("acme/one", "failed"), ("acme/two", "answered")], 11,
    ),
    "both fail": (
        [Fault("hang"), "capacity", OTHER], OTHER.text,
        [("acme/two", "failed"), ("acme/one", "failed"), ("other/three", "answered")], 10,
    ),
    "a failure before is an ordinary one": (
        ["capacity", slow(9), OTHER], OTHER.text,
        [("acme/one", "failed"), ("acme/two", "outrun"), ("other/three", "answered")], 2,
    ),
    "a request that is wrong": (
        [slow(3), "bad_request"], ANSWER.text, [("acme/two", "failed"), ("acme/one", "answered")], 3,
    ),
    "thoughts are life": ([THINKING], THINKING.text, [("acme/one", "answered")], 0),
    "a call of a tool": (
        [slow(9), PAYING], PAYING.text, [("acme/one", "outrun"), ("acme/two", "answered")], 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("after", MODES)
@ALL
@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str, style: str, after: Any) -> None:
    """In every colour, streamed and whole, whatever follows a broken answer: one member's words, the other unheard."""
    script, comes, attempts, seconds = TABLE[name]
    policy = FallbackPolicy(hedge=2, first_token=10, gap=5, deadline=60, after_commit=after)
    done = Whole(script, style, policy).run()
    assert (done.error, done.text) == (None, comes)
    assert [(each.model, each.outcome) for each in done.call.attempts] == attempts
    assert done.clock.now() == pytest.approx(seconds)
    assert done.transport.open_replies == 0
    assert done.health is not None
    for member in MEMBERS:
        own = [outcome for model, outcome in attempts if model == member.name]
        assert done.health.vitals(member.target).failures == own.count("failed") * (name != "a request that is wrong")


@pytest.mark.parametrize("style", ["sync-stream", "async-stream"])
def test_the_winner_may_die_like_any_other(style: str) -> None:
    """Once an answer has begun there is no race: what follows its death is as the policy says."""
    done = Whole([slow(9), Fault("reset", after=2, answer=OTHER)], style, HEDGED).run()
    assert done.error is not None
    assert done.error.kind is Kind.RESET  # type: ignore[attr-defined]
    assert [each.outcome for each in done.error.attempts] == ["outrun", "failed"]  # type: ignore[attr-defined]
    restart = FallbackPolicy(hedge=2, first_token=10, gap=5, after_commit="restart")
    done = Whole([slow(9), Fault("reset", after=2, answer=OTHER), slow(3)], style, restart).run()
    assert done.text == ANSWER.text
    assert [each.outcome for each in done.call.attempts] == ["outrun", "failed", "answered"], "one in a call"


@ALL
def test_what_the_loser_used_is_counted_once(style: str) -> None:
    """What it said that it used is in its attempt, and no client counts it twice."""
    early = Fault("stall", after=0, seconds=9)  # it has opened its answer, and told of its usage
    done = Whole([early, OTHER], style, HEDGED).run()
    assert [each.outcome for each in done.call.attempts] == ["outrun", "answered"]
    used = [each.usage.total_tokens if each.usage else 0 for each in done.call.attempts]
    assert used == done.meter.tokens
    assert used[0] > 0


@ALL
def test_a_latency_is_at_least_what_was_waited(style: str) -> None:
    """A member that is outrun again and again is known to be slow, although none of its answers came."""
    health = Health()
    for _ in range(3):
        Whole([slow(9), OTHER], style, HEDGED, health=health).run()
    slowness = health.vitals(MEMBERS[0].target)
    assert [seconds for seconds, _ in slowness.recent] == [2.0, 2.0, 2.0]
    assert (slowness.ttft, slowness.failures) == (2.0, 0)


@pytest.mark.parametrize("style", ["async-whole", "async-stream"])
async def test_a_cancel_at_every_await(style: str) -> None:
    """Wherever a task is cancelled, both connections are closed, no task is left, and nobody is marked for it."""
    for steps in range(1000):
        done = Whole([slow(3), slow(1, OTHER)], style, HEDGED)
        task = asyncio.create_task(done.arun())
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert done.transport.open_replies == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not any(each.outcome == "failed" for each in done.call.attempts)
        assert len(done.call.attempts) == done.call.made >= len(done.transport.requests)
        if finished:
            assert done.text in (ANSWER.text, OTHER.text)
            assert steps > 20
            return
        assert task.cancelled()
    pytest.fail("the call never ended")


# ------------------------------------------------------------------------------------- answers that are told what to do

SAID = Reply("1", "one", (Choice(0, "Hi", "", (), (), "stop"),), None)
SEEN: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")


class Slow(Played):
    """An answer that sleeps on a clock before it begins, in both colours."""

    def __init__(self, clock: VirtualClock, seconds: float, deltas: list[Any]) -> None:
        super().__init__(deltas, SAID)
        self._clock, self._seconds = clock, seconds
        self.context = ""
        self.threads: set[int] = set()
        self.leave: Callable[..., Any] = super().__aexit__

    async def __aexit__(self, *about: Any) -> None:
        await self.leave(*about)

    def __next__(self) -> Delta:
        self.context = SEEN.get()
        self.threads.add(threading.get_ident())
        seconds, self._seconds = self._seconds, 0.0
        if seconds:
            self._clock.sleep(seconds)
        return super().__next__()

    async def __anext__(self) -> Delta:
        self.context = SEEN.get()
        seconds, self._seconds = self._seconds, 0.0
        if seconds:
            await self._clock.asleep(seconds)
        return await super().__anext__()


class Two:
    """A call over two such answers."""

    def __init__(self, first: tuple[float, list[Any]], second: tuple[float, list[Any]], *, whole: bool = False) -> None:
        self.clock = VirtualClock()
        self.health = Health(now=self.clock.now)
        self.told: list[Attempt] = []
        call = Call([Member("one"), Member("two")], HEDGED, self.health, now=self.clock.now, visible=not whole)
        self.call = call
        self.relay = Relay(call, whole=whole, observer=self)
        self.answers = {"one": Slow(self.clock, *first), "two": Slow(self.clock, *second)}

    def ask(self, step: Try) -> Any:
        return self.answers[step.member.name]

    def begins(self, step: Try) -> None:
        """Say nothing."""

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        self.told.append(attempt)

    async def heard(self) -> None:
        await asyncio.sleep(0)

    def read(self, style: str) -> list[str]:
        if style.startswith("sync"):
            return [delta.content for delta in fallback(self.relay, self.ask, clock=self.clock)]

        async def main() -> list[str]:
            return [delta.content async for delta in afallback(self.relay, self.ask, clock=self.clock)]

        return asyncio.run(main())

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        assert self.told == self.call.attempts, "each is told of once"
        assert all(self.answers[each.model].closed for each in self.told)
        return [(each.model, each.outcome) for each in self.call.attempts]


@pytest.mark.parametrize("style", ["sync", "async"])
def test_the_context_is_the_callers(style: str) -> None:
    """Members are asked in a copy of the caller's context; what is read later is read where the caller reads."""
    token = SEEN.set("the caller's")
    try:
        run = Two((9, [Delta("one")]), (1, [Delta("two"), Delta("!")]))
        assert run.read(style) == ["two", "!"]
    finally:
        SEEN.reset(token)
    assert [answer.context for answer in run.answers.values()] == ["the caller's"] * 2
    assert run.outcomes == [("one", "outrun"), ("two", "answered")]
    if style == "sync":
        assert len(run.answers["two"].threads) == 2
        assert threading.get_ident() in run.answers["two"].threads
        assert threading.get_ident() not in run.answers["one"].threads


@pytest.mark.parametrize("style", ["sync", "async"])
def test_what_shows_nothing_decides_nothing(style: str) -> None:
    """An empty piece wins no race; it comes before the first one that shows something, as ever."""
    run = Two((1, [Delta(""), KeyError("typo")]), (9, []))
    run.answers["one"]._deltas = iter([Delta(""), Delta("")])
    run = Two((3, [Delta(""), Delta("one")]), (2, [Delta("")]))
    assert "".join(run.read(style)) == "one"
    assert run.outcomes[-1] == ("one", "answered")


@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("fails", ["one", "two"])
def test_a_mistake_in_code_goes_through(style: str, fails: str) -> None:
    """An exception that no client raises ends the call at once, with both attempts closed and no mark on any member."""
    broken: tuple[float, list[Any]] = (3, [KeyError("typo")])
    silent: tuple[float, list[Any]] = (9, [Delta("late")])
    run = Two(broken, silent) if fails == "one" else Two(silent, broken)
    with pytest.raises(KeyError):
        run.read(style)
    assert sorted(run.outcomes) == [("one", "cancelled"), ("two", "cancelled")]
    assert run.health.snapshot()["members"] == {}


class Panic(BaseException):
    """What code in other languages raises, and is no Exception."""


@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("fails", ["one", "two"])
def test_what_is_no_exception_goes_through_too(style: str, fails: str) -> None:
    """It ends the call where the caller waits, and not only the thread in which it was raised."""
    broken: tuple[float, list[Any]] = (3, [Panic()])
    silent: tuple[float, list[Any]] = (9, [Delta("late")])
    run = Two(broken, silent) if fails == "one" else Two(silent, broken)
    with pytest.raises(Panic):
        run.read(style)
    assert sorted(run.outcomes) == [("one", "cancelled"), ("two", "cancelled")]
    assert run.health.snapshot()["members"] == {}


@pytest.mark.parametrize("fails", ["one", "two"])
def test_a_thread_that_cannot_be_started(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of the system, and every answer is closed."""
    run = Two((9, [Delta("one")]), (1, [Delta("two")]))
    threads: Any = run.clock.threads()
    start: Callable[[Any], Any] = threads.start
    monkeypatch.setattr(run.clock, "threads", lambda: threads)

    def refused(read: Any) -> Any:
        if read.__self__.step.member.name == fails:
            raise RuntimeError("can't start new thread")
        return start(read)

    threads.start = refused
    with pytest.raises(RuntimeError, match="start new thread"):
        run.read("sync")
    assert {outcome for _, outcome in run.outcomes} == {"cancelled"}
    assert run.answers[fails].closed


async def test_a_task_that_is_cancelled_twice_tells_of_both() -> None:
    """Cancel scopes cancel again at every await: both attempts are told of, and both answers are closed."""
    never = float("inf")
    run = Two((never, [Delta("one")]), (never, [Delta("two")]))

    async def read() -> None:
        async for _ in afallback(run.relay, run.ask, clock=run.clock):
            pass

    task = asyncio.create_task(read())
    while any(each._seconds for each in run.answers.values()):  # noqa: ASYNC110 - until both are asked
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert sorted(run.outcomes) == [("one", "cancelled"), ("two", "cancelled")]


async def test_a_loser_that_takes_its_time_to_close_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner's answer goes on meanwhile."""
    monkeypatch.setattr(readers, "_CLOSING", 0.0)
    run = Two((9, [Delta("one")]), (1, [Delta("two")]))
    let, loser = asyncio.Event(), run.answers["one"]
    close = loser.leave

    async def slowly(*about: Any) -> None:
        await let.wait()
        await close(*about)

    loser.leave = slowly
    deltas = afallback(run.relay, run.ask, clock=run.clock)
    assert [delta.content async for delta in deltas] == ["two"]
    assert not loser.closed
    let.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert run.outcomes == [("one", "outrun"), ("two", "answered")]


def test_an_interrupt_stops_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt while both are silent leaves no thread, and both attempts are told of."""
    run = Two((9, [Delta("one")]), (9, [Delta("two")]))
    threads: Any = run.clock.threads()
    waits: Callable[[float | None], Any] = threads.next
    monkeypatch.setattr(run.clock, "threads", lambda: threads)

    def interrupted(within: float | None) -> Any:
        if within is None:
            raise KeyboardInterrupt
        return waits(within)

    threads.next = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.read("sync")
    assert sorted(run.outcomes) == [("one", "cancelled"), ("two", "cancelled")]
    assert not [each for each in threading.enumerate() if each.name == "chutes-hedge"]


def test_a_reader_who_leaves_closes_the_winner() -> None:
    """After the race there is one answer; leaving it is as ever."""
    run = Two((9, [Delta("one")]), (1, [Delta("two"), Delta("!")]))
    deltas = fallback(run.relay, run.ask, clock=run.clock)
    assert next(deltas).content == "two"
    assert run.answers["one"].closed
    deltas.close()
    assert run.outcomes == [("one", "outrun"), ("two", "cancelled")]


# ------------------------------------------------------------------------------------------------------ real sockets


class Machines:
    """Two machines on real sockets: the first is silent, before or after its headers, until its client has gone."""

    def __init__(self, after: str) -> None:
        self.after = after
        self.gone = threading.Event()
        self.release = threading.Event()

    def __call__(self, connection: socket.socket, request: Request, server: RawServer) -> None:
        if request.body["model"] == "acme/warm":
            connection.sendall(HEAD + event({"content": "warm"}) + event({}, "stop") + DONE + END)
            return
        if request.body["model"] == "acme/one":
            if self.after != "nothing":
                connection.sendall(HEAD)
            if self.after == "an opening":
                connection.sendall(event({"role": "assistant", "content": ""}))
            if connection.recv(1) == b"":
                self.gone.set()
            return
        connection.sendall(HEAD + event({"content": "Hello"}))
        assert self.gone.wait(60), "the loser is closed while the winner still speaks"
        connection.sendall(event({"content": " there"}) + event({}, "stop") + DONE + END)


@pytest.fixture(params=["nothing", "headers", "an opening"])
def machines(request: pytest.FixtureRequest) -> Iterator[tuple[Machines, RawServer]]:
    made = Machines(request.param)
    with raw_server(made) as server:
        yield made, server


QUICK = FallbackPolicy(hedge=0.05, first_token=50, gap=50)


def _options(server: RawServer) -> dict[str, Any]:
    return {"base_url": server.base_url, "policy": QUICK, "catalog": Catalog.bundled()}


@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "used connection"])
def test_the_losers_socket_is_closed_at_once(machines: tuple[Machines, RawServer], reused: bool) -> None:
    """The thread that waits for the silent member is woken, its connection closed, and the answer goes on."""
    made, server = machines
    with FallbackClient(["acme/one", "acme/two"], "cpk_test", **_options(server)) as client:
        if reused:
            assert client.chat(HELLO, model="acme/warm").content == "warm"
        with client.stream(HELLO) as stream:
            assert next(stream).content == "Hello"
            assert made.gone.wait(60)
            assert not [each for each in threading.enumerate() if each.name == "chutes-hedge"]
            reply = stream.read()
        assert [(each.model, each.outcome) for each in reply.attempts] == [
            ("acme/one", "outrun"),
            ("acme/two", "answered"),
        ]
        assert reply.content == "Hello there"
        made.gone.clear()
        assert client.chat(HELLO).content == "Hello there", "what is left in the pool is of use"


async def test_the_losers_socket_is_closed_on_the_event_loop(machines: tuple[Machines, RawServer]) -> None:
    """The task that waits is cancelled, and its connection closed."""
    made, server = machines
    async with AsyncFallbackClient(["acme/one", "acme/two"], "cpk_test", **_options(server)) as client:
        async with client.stream(HELLO) as stream:
            assert (await anext(stream)).content == "Hello"
            await asyncio.to_thread(made.gone.wait, 60)
            assert made.gone.is_set()
            reply = await stream.read()
        assert [each.outcome for each in reply.attempts] == ["outrun", "answered"]
        made.gone.clear()
        assert (await client.chat(HELLO)).content == "Hello there"


def test_both_sockets_are_closed_when_the_call_ends_in_an_error() -> None:
    """A budget of time for the whole call ends both."""
    gone = threading.Semaphore(0)

    def silent(connection: socket.socket, request: Request, server: RawServer) -> None:
        if connection.recv(1) == b"":
            gone.release()

    with raw_server(silent) as server:
        policy = FallbackPolicy(hedge=0.05, deadline=0.3, first_token=0.3, max_attempts=2)
        with FallbackClient(
            ["acme/one", "acme/two"], "cpk_test", policy=policy, base_url=server.base_url, catalog=Catalog.bundled()
        ) as client:
            with pytest.raises(ChutesError):
                client.chat(HELLO)
            assert all(gone.acquire(timeout=60) for _ in range(2))


@pytest.mark.parametrize("style", ["sync", "async"])
@pytest.mark.parametrize("script", [[slow(3)], [Fault("hang"), ANSWER]], ids=["the first answers", "the first fails"])
def test_a_budget_with_room_for_one_is_no_reason_to_fail(style: str, script: list[Any]) -> None:
    """A hedge that does not fit is not made; who was not asked for that has its turn if the first one fails."""
    clock = VirtualClock()
    transport = FaultyTransport(FaultScript(script), clock=clock)
    ledger = Budget(tokens=600)
    names, shared = ["acme/one", "acme/two"], {"policy": HEDGED, "clock": clock, "ledger": ledger}

    async def main() -> Any:
        async with (
            httpx.AsyncClient(transport=transport) as http,
            AsyncFallbackClient(names, "cpk_test", http_client=http, **shared) as client,  # type: ignore[arg-type]
        ):
            return await client.chat(HELLO, max_tokens=400)

    if style == "async":
        reply = asyncio.run(main())
    else:
        with httpx.Client(transport=transport) as http:
            client = FallbackClient(names, "cpk_test", http_client=http, **shared)  # type: ignore[arg-type]
            reply = client.chat(HELLO, max_tokens=400)
    assert reply.content == ANSWER.text
    skipped, *rest = [(each.model, each.outcome) for each in reply.attempts]
    assert skipped == ("acme/two", "skipped")
    assert rest[-1] == ("acme/one" if len(script) == 1 else "acme/two", "answered")
    assert ledger.reserved.tokens == 0


def test_usage_is_in_the_ledger_once() -> None:
    """The client's own ledger has what both used."""
    done = Whole([Fault("stall", after=0, seconds=9), OTHER], "sync-whole", HEDGED)
    client = done.made()
    reply = client.chat(HELLO)
    total = sum(each.usage.total_tokens for each in reply.attempts if each.usage)
    assert client.ledger.totals().usage.total_tokens == total
    assert json.dumps([each.outcome for each in reply.attempts]) == '["outrun", "answered"]'


def test_a_slow_service_does_not_get_twice_the_traffic() -> None:
    """However many calls there are, all at once or one after the other: half of the burst, and one call in ten."""

    async def main(loop: virtual.VirtualLoop) -> int:
        clock: Any = virtual.LoopClock(loop)
        transport = FaultyTransport(FaultScript([slow(5)] * 2_000), clock=clock)
        async with AsyncFallbackClient(
            ["acme/one", "acme/two"], "cpk_test", policy=FallbackPolicy(hedge=1), clock=clock,
            http_client=httpx.AsyncClient(transport=transport), catalog=Catalog.bundled(),
        ) as client:  # fmt: skip
            for _ in range(5):
                replies = await asyncio.gather(*(client.chat(HELLO) for _ in range(100)))
                assert {reply.content for reply in replies} == {ANSWER.text}
        assert transport.open_replies == 0
        return len(transport.requests)

    assert 500 + 10 < virtual.run(main) <= 500 + 10 + 50
