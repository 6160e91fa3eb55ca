from __future__ import annotations

import asyncio
import doctest
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from benchmarks.faults import judge as judging
from benchmarks.faults import matrix, run, summary, virtual
from benchmarks.faults.__main__ import main
from benchmarks.faults.clients import Client, Kit, all_clients
from benchmarks.faults.judge import Heard, Restart, Seen, Tools, judge
from benchmarks.faults.plots import plots
from benchmarks.faults.report import report
from benchmarks.faults.report import summary as summarized
from benchmarks.faults.server import Server
from benchmarks.faults.world import MODELS, SCENARIOS, Call, World

CALL = Call(7, 0.0, tool=False, tokens=3)
PAYMENT = Call(9, 0.0, tool=True, tokens=6)
TEXT = "0007.00,0007.01,0007.02,"
RIGHT = ("pay", {"amount": 100_000})


# -------------------------------------------------------------------------------------------------- the judge


@pytest.mark.parametrize(
    ("parts", "error", "verdict"),
    [
        ([TEXT[:8], TEXT[8:], Tools([])], None, "whole"),
        ([TEXT[:8], Tools([])], None, "wrong"),
        ([TEXT[:16], TEXT], None, "wrong"),
        ([TEXT[:16], Restart(), TEXT], None, "whole"),
        ([TEXT, Restart(), TEXT[:16]], None, "wrong"),
        ([], None, "wrong"),
        ([TEXT, Tools([RIGHT])], None, "wrong"),
        ([], OSError(), "before"),
        (["", Tools([])][:1], OSError(), "before"),
        ([TEXT[:8]], OSError(), "after"),
        ([TEXT[:8], Restart()], OSError(), "after"),
        ([TEXT], OSError(), "after"),
    ],
)
def test_an_answer_in_text_is_whole_wrong_or_an_error(parts: list[Seen], error: Exception | None, verdict: str) -> None:
    """What was shown in the end counts: all of it is whole, anything else without an error is wrong."""
    heard = Heard(error=error)
    for part in parts:
        heard.take(part)
    assert judge(CALL, heard) == verdict


@pytest.mark.parametrize(
    ("parts", "error", "verdict"),
    [
        ([Tools(), Tools([RIGHT])], None, "whole"),
        ([Tools(), Tools([("pay", {"amount": 1000})])], None, "wrong"),
        ([Tools(), Tools([RIGHT, RIGHT])], None, "wrong"),
        ([Tools(), Tools([])], None, "wrong"),
        ([Tools(), Restart(), Tools([RIGHT])], None, "whole"),
        ([Tools([RIGHT]), "and a word"], None, "wrong"),
        ([Tools()], OSError(), "after"),
    ],
)
def test_a_tool_call_is_whole_wrong_or_an_error(parts: list[Seen], error: Exception | None, verdict: str) -> None:
    """A payment of another amount, or two of them, is wrong."""
    heard = Heard(error=error)
    for part in parts:
        heard.take(part)
    assert judge(PAYMENT, heard) == verdict


# -------------------------------------------------------------------------------------------------- the time


def test_time_jumps_to_what_happens_next() -> None:
    """Tasks that sleep for hours wake in their order, and every clock tells the same."""

    async def sleeper(seconds: float, woken: list[float]) -> None:
        await asyncio.sleep(seconds)
        woken.append(time.monotonic())

    async def body(loop: virtual.VirtualLoop) -> tuple[list[float], float, float]:
        woken: list[float] = []
        await asyncio.gather(*(sleeper(hours * 3600.0, woken) for hours in (3, 1, 2)))
        time.sleep(60)  # noqa: ASYNC251  # a blocking sleep, as a client might have one
        return woken, loop.time(), time.time()

    before = time.monotonic
    woken, ended, wall = virtual.run(body)
    assert woken == [3600.0, 7200.0, 10800.0]
    assert (ended, wall) == (10860.0, virtual.EPOCH + 10860.0)
    assert time.monotonic is before


def test_timeouts_pass_in_virtual_time() -> None:
    """A limit of asyncio cuts a wait that is longer, at its moment."""

    async def body(loop: virtual.VirtualLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.sleep(5)
        return loop.time()

    assert virtual.run(body) == 3.0


def test_work_for_threads_is_done_in_place() -> None:
    """What is handed to a thread has run, and no time has passed, when the loop goes on."""

    async def body(loop: virtual.VirtualLoop) -> tuple[int, float]:
        import anyio.to_thread

        async with asyncio.timeout(1):
            found = await asyncio.to_thread(len, "four"), await anyio.to_thread.run_sync(len, "six")
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(divmod, 1, 0)
        return sum(found), loop.time()

    assert virtual.run(body) == (7, 0.0)


def test_a_loop_that_waits_for_ever_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can happen any more, there is an error and not a hang."""
    monkeypatch.setattr(virtual, "_PATIENCE", 0.0)

    async def body(loop: virtual.VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(virtual.Stuck):
        virtual.run(body)


# -------------------------------------------------------------------------------------------------- the world


def fates(scenario: str, seed: int, *, backwards: bool = False) -> list[Any]:
    world = World(SCENARIOS[scenario], seed, 200)
    asked = [(call, model, nth) for call in world.calls for model in range(3) for nth in range(2)]
    drawn = [
        (call.index, model, nth, world.fate(call, model, nth, 0.0))
        for call, model, nth in asked[:: -1 if backwards else 1]
    ]
    return sorted(drawn, key=lambda each: each[:3])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_seed_is_a_world(scenario: str) -> None:
    """The same seed gives the same calls and the same luck, in whichever order attempts are made; another does not."""
    assert World(SCENARIOS[scenario], 1, 50).calls == World(SCENARIOS[scenario], 1, 50).calls
    assert fates(scenario, 1) == fates(scenario, 1, backwards=True)
    assert fates(scenario, 1) != fates(scenario, 2)


def test_faults_come_as_often_as_they_should() -> None:
    """Of many attempts about 30 % meet capacity, 10 % cold, 5 % silence and 5 % a break inside the answer."""
    world = World(SCENARIOS["iid"], 0, 2_000)
    met = [world.fate(call, model, 0, 0.0) for call in world.calls for model in range(3)]
    share = {kind: sum(fate.kind == kind for fate in met) / len(met) for kind in ("capacity", "cold", "late", "reset")}
    assert share == pytest.approx({"capacity": 0.3, "cold": 0.1, "late": 0.05, "reset": 0.05}, abs=0.015)
    lengths = {call.index: call.tokens for call in world.calls}
    breaks = [(fate.after, lengths[number // 3]) for number, fate in enumerate(met) if fate.kind == "reset"]
    assert all(1 <= after < tokens for after, tokens in breaks)


@pytest.mark.parametrize("seed", range(10))
def test_bursts_leave_a_model_up(seed: int) -> None:
    """At every moment at least one model answers, and each is down a third of the time."""
    world = World(SCENARIOS["bursty"], seed, 10)
    moments = [number / 10 for number in range(3_000)]
    assert all(any(not world.is_down(model, now) for model in range(3)) for now in moments)
    down = [sum(world.is_down(model, now) for now in moments) / len(moments) for model in range(3)]
    assert down == pytest.approx([1 / 3] * 3, abs=0.001)


def test_the_outage_of_all_lasts_a_minute() -> None:
    """From a third of the way on, every model refuses for 60 s."""
    world = World(SCENARIOS["down"], 0, 600)
    down = [now for now in range(600) if all(world.is_down(model, now) for model in range(3))]
    assert down == list(range(200, 260))


# ------------------------------------------------------------------------------------------------- the server


def world_of(kind: str, seed: int = 0) -> tuple[World, Call, str]:
    """A world, and the first call in it whose first attempt at the first model meets a fault of a kind."""
    world = World(SCENARIOS["iid"], seed, 200)
    call = next(call for call in world.calls if world.fate(call, 0, 0, 0.0).kind == kind and not call.tool)
    return world, call, MODELS[0]


def body_of(call: Call, model: str, *, stream: bool = True) -> dict[str, object]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": call.prompt}]}


def test_the_server_takes_its_time_and_keeps_the_books() -> None:
    """An answer takes as long as was drawn, and attempts, tokens and open replies are counted by call."""
    world, call, model = world_of("")
    fate = world.fate(call, 0, 0, 0.0)

    async def body(loop: virtual.VirtualLoop) -> tuple[list[float], list[int]]:
        server = Server(world)
        url, asked = "http://gateway.test/v1", body_of(call, model)
        async with httpx.AsyncClient(transport=server) as http, http.stream("POST", url, json=asked) as reply:
            times = [loop.time()]
            books = [server.open[call.index]]
            await reply.aread()
            times.append(loop.time())
        return times, [*books, server.open[call.index], server.attempts[call.index], server.tokens[call.index]]

    times, books = virtual.run(body)
    assert times == pytest.approx([fate.first, fate.first + fate.pace * (call.tokens - 1)])
    assert books == [1, 0, 1, call.tokens]


def test_the_server_honours_the_read_limit() -> None:
    """A client that waits for 3 s hears after 3 s that it waited in vain, and nothing stays open."""
    world, call, model = world_of("late")

    async def body(loop: virtual.VirtualLoop) -> tuple[float, int]:
        server = Server(world)
        async with httpx.AsyncClient(transport=server, timeout=3) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("http://gateway.test/v1", json=body_of(call, model))
        return loop.time(), server.open.total()

    assert virtual.run(body) == (3.0, 0)


def test_a_reply_that_nobody_closes_is_a_leak() -> None:
    """A stream that is left in the middle counts as open until it is closed."""
    world, call, model = world_of("")

    async def body(loop: virtual.VirtualLoop) -> list[int]:
        server = Server(world)
        async with httpx.AsyncClient(transport=server) as http:
            request = http.build_request("POST", "http://gateway.test/v1", json=body_of(call, model))
            reply = await http.send(request, stream=True)
            left = server.open[call.index]
            await reply.aclose()
        return [left, server.open[call.index]]

    assert virtual.run(body) == [1, 0]


def test_capacity_is_shared_and_given_back() -> None:
    """Of three that ask at once a model with room for two serves two, and when these are done another."""
    world = World(replace(SCENARIOS["herd"], capacity=2), 0, 4)

    async def body(loop: virtual.VirtualLoop) -> list[int]:
        async with httpx.AsyncClient(transport=Server(world), timeout=None) as http:  # noqa: S113  # virtual time

            async def ask(number: int) -> int:
                reply = await http.post("http://gateway.test/v1", json=body_of(world.calls[number], MODELS[0]))
                return reply.status_code

            return [*sorted(await asyncio.gather(*map(ask, range(3)))), await ask(3)]

    assert virtual.run(body) == [200, 200, 429, 200]


# --------------------------------------------------------------------------------------------------- the runs


class Trusting:
    """A client that takes what comes for the answer, as long as the network does not complain."""

    def __init__(self, kit: Kit) -> None:
        self._http = httpx.AsyncClient(transport=kit.server, timeout=3)

    async def stream(self, call: Call) -> AsyncIterator[Seen]:
        url, body = "http://gateway.test/v1", body_of(call, MODELS[0])
        calls: list[str] = []
        async with self._http.stream("POST", url, json=body) as reply:
            if reply.status_code != 200:
                raise httpx.HTTPError("refused")
            async for line in reply.aiter_lines():
                for choice in json.loads(line[6:])["choices"] if line.startswith("data: {") else ():
                    calls += [piece["function"]["arguments"] for piece in choice["delta"].get("tool_calls") or ()]
                    yield choice["delta"].get("content") or ""
        yield Tools([("pay", json.loads("".join(calls)))] if calls else [])

    async def whole(self, call: Call) -> list[Seen]:
        return [part async for part in self.stream(call)]


TRUSTING = Client("trusting", "A trusting client", "for tests", (), Trusting)


@pytest.mark.parametrize(("scenario", "verdict"), [("iid", "after"), ("cut", "wrong"), ("splice", "wrong")])
def test_the_benchmark_finds_a_client_that_is_fooled(scenario: str, verdict: str) -> None:
    """What a reset turns into an error, a clean end and a splice turn into a wrong answer that nobody notices."""
    found = run.figures(run.outcomes(TRUSTING, scenario, 0, 100))
    assert found[verdict] > 0
    assert found["before"] > 30
    assert found["attempts"] == 1


@pytest.mark.parametrize("name", ["restart", "restart-li", "raise"])
@pytest.mark.parametrize("scenario", ["iid", "cut", "splice", "invoke"])
def test_ours_are_never_silently_wrong(name: str, scenario: str) -> None:
    """In a short run no answer of ours is wrong without saying so, and no reply stays open."""
    found = run.figures(run.outcomes(all_clients()[name], scenario, 0, 20))
    assert found["wrong"] == 0
    assert found["leaks"] == 0
    assert found["after"] == 0 or name == "raise"


def test_a_run_is_the_same_twice() -> None:
    """Same client, same seed, same outcomes, to the microsecond."""
    first, second = (run.outcomes(all_clients()["restart"], "cut", 3, 30) for _ in range(2))
    assert first == second


# -------------------------------------------------------------------------------------------- what is told of it


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return matrix.matrix(["restart", "raise"], ["cut", "invoke"], seeds=2, calls=20, workers=1)


def test_the_report_is_a_page_of_markdown(data: dict[str, Any]) -> None:
    """Every scenario has its heading and its tables, with as many cells in each row as in its head."""
    text = report(data)
    assert text.startswith("# When models fail")
    assert "## Cut the Chutes way\n" in text
    assert evenly(text) == 5


def test_the_summary_is_a_section_of_markdown(data: dict[str, Any]) -> None:
    """It has the aims, the plots and the way to the page."""
    text = summarized(data, "plots/")
    assert text.startswith("## When models fail\n")
    assert "plots/faults-outcomes.svg" in text
    assert "(benchmarks/faults.md)" in text
    assert evenly(text) == 1


def evenly(text: str) -> int:
    """How many tables there are; each has as many cells in each row as in its head."""
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.replace(" | ", "|").count("|") for line in block}) == 1 for block in blocks)
    return len(blocks)


def test_the_plots_are_images(data: dict[str, Any]) -> None:
    """Each plot is well-formed, names every client and says what its axes count."""
    drawn = plots(data)
    assert set(drawn) == {"faults-outcomes.svg", "faults-first-token.svg"}
    for text in drawn.values():
        words = {each.text for each in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")}
        assert "ChutesFallback, restart" in words
        assert {"% of calls", "seconds to the first token"} & words


def test_a_peer_that_is_not_installed_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on without it and says so, there and in the report."""
    absent = Client("absent", "Somebody else's", "not at all", ("no_such_package",), Trusting)
    monkeypatch.setattr(matrix, "all_clients", lambda: {"trusting": TRUSTING, "absent": absent})
    told = matrix.matrix(["trusting", "absent"], ["iid"], seeds=1, calls=5, workers=1)
    assert [each["client"] for each in told["runs"]] == ["trusting"]
    line = "Somebody else's is left out: no_such_package is not installed."
    assert line in capsys.readouterr().err
    assert line in report(told)


def test_the_command_refuses_what_it_does_not_know() -> None:
    """A client or scenario that does not exist is named, with those that do."""
    with pytest.raises(SystemExit, match=r"no scenario 'idd'; there are: iid, cut"):
        main(["--scenarios", "idd"])


@pytest.mark.parametrize("module", [judging, run, summary])
def test_examples_run(module: Any) -> None:
    """The examples in the docstrings hold."""
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_gateway_goes_on_with_what_was_begun() -> None:
    """What was given out comes back as the beginning, is read as a prompt, and the rest is generated."""
    call = Call(7, 0.0, tool=False, tokens=4)
    rest = call.answer_from(call.text[:16])
    assert (rest.text, rest.pieces) == (call.text[16:], 2)
    assert rest.prompt_tokens == call.answer.prompt_tokens + 2
    with pytest.raises(AssertionError, match="what the reader was given"):
        call.answer_from("something else")


def test_going_on_costs_less_than_beginning_anew() -> None:
    """On a day on which streams are cut, every answer is whole either way, and fewer tokens are generated."""
    pytest.importorskip("langchain_core")
    paid = {}
    for name in ("resume", "restart"):
        found = run.figures(run.outcomes(all_clients()[name], "cut", 0, 120))
        assert (found["whole"], found["wrong"], found["leaks"]) == (100.0, 0.0, 0)
        paid[name] = found["amplification"]
    assert paid["resume"] < paid["restart"]
