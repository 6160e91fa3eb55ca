"""A fallback's stream: what is held back, what observers hear, and what other providers' deltas carry along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chutes_core import APIError, FallbackError, Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import Attempt, Call, FallbackPolicy, Health, Member, Try
from chutes_core.fallback.carried import Carried, CarriedReply
from chutes_core.fallback.relay import Relay, Restart
from chutes_core.fallback.stream import AsyncFallbackStream, FallbackReply, FallbackStream
from chutes_core.response import Choice, Delta, Reply, ToolCallDelta
from chutes_core.testing import VirtualClock
from chutes_core.usage import Usage

from .played import Played

STYLES = pytest.mark.parametrize("style", ["blocking", "async"])
RESTART = FallbackPolicy(after_commit="restart")
PART = Reply(None, "one", (Choice(0, "Fo", "", (), (), None),), Usage(9, 1, 10))
WHOLE = CarriedReply(None, "two", (Choice(0, "Four", "", (), (), "stop"),), Usage(9, 2, 11), origin="theirs")


class Notes:
    """Writes down what an observer hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waited = 0

    def begins(self, step: Try) -> None:
        self.lines.append(f"{step.member.name} begins")

    def ended(self, attempt: Attempt, error: BaseException | None, step: Try | None) -> None:
        self.lines.append(f"{attempt.model} {attempt.outcome} {type(error).__name__}")

    async def heard(self) -> None:
        await asyncio.sleep(0)
        self.waited = len(self.lines)


class Run:
    """A call over two members that play scripts."""

    def __init__(self, *scripts: list[Any], policy: FallbackPolicy | None = None, whole: bool = False) -> None:
        clock = VirtualClock()
        names = ["one", "two", "three"][: len(scripts)]
        self.notes = Notes()
        self.played = [Played(script, WHOLE if script is scripts[-1] else PART) for script in scripts]
        call = Call([Member(name) for name in names], policy or FallbackPolicy(), Health(), now=clock.now, visible=True)
        self.relay = Relay(call, whole=whole, price=lambda reply: 0.5, observer=self.notes)
        waiting = iter(self.played)
        self.ask: Any = lambda step: next(waiting)
        self.clock = clock

    def read(self, style: str, most: int = 99) -> tuple[list[Delta], FallbackReply]:
        """Read at most so many deltas."""
        got: list[Delta] = []

        async def waiting() -> FallbackReply:
            async with AsyncFallbackStream(self.relay, self.ask, self.clock) as stream:
                async for delta in stream:
                    got.append(delta)
                    if len(got) == most:
                        break
                return stream.reply

        if style == "async":
            return got, asyncio.run(waiting())
        with FallbackStream(self.relay, self.ask, self.clock) as stream:
            for delta in stream:
                got.append(delta)
                if len(got) == most:
                    break
            return got, stream.reply


RESET = failure(Kind.RESET)


@STYLES
def test_what_is_carried_comes_out_as_it_was(style: str) -> None:
    """The framework's own chunks, and its own answer; the price of another provider's answer is not ours to tell."""
    chunk = object()
    run = Run([RESET], [Carried("Four", origin=chunk)])
    (delta,), reply = run.read(style)
    assert isinstance(delta, Carried)
    assert delta.origin is chunk
    assert (reply.origin, reply.model, reply.member, reply.content) == ("theirs", "two", "two", "Four")
    assert [(each.outcome, each.served, each.cost) for each in reply.attempts] == [
        ("failed", None, None),
        ("answered", "two", None),
    ]
    assert all(each.closed for each in run.played)


@STYLES
@pytest.mark.parametrize("whole", [False, True])
def test_observers_hear_of_every_attempt(style: str, whole: bool) -> None:
    """At once, with what it ended in."""
    run = Run([failure(Kind.RESET)], [Delta("Four")], whole=whole)
    run.read(style)
    assert run.notes.lines == [
        "one begins",
        "one failed StreamInterruptedError",
        "two begins",
        "two answered NoneType",
    ]
    assert run.notes.waited == (4 if style == "async" else 0)


@STYLES
def test_observers_hear_of_who_leaves(style: str) -> None:
    """It is no failure."""
    run = Run([Delta("Fo"), Delta("ur")])
    run.read(style, most=1)
    assert run.notes.lines == ["one begins", "one cancelled GeneratorExit"]
    assert run.notes.waited == (2 if style == "async" else 0)


@STYLES
def test_a_broken_answer_has_what_had_arrived(style: str) -> None:
    """Also where the model's own client does not say, and with the tokens that it used."""
    run = Run([Delta("Fo"), ConnectionResetError("gone")])
    with pytest.raises(APIError) as caught:
        run.read(style)
    assert caught.value.partial_reply is run.played[0].reply
    assert [each.usage for each in run.relay.call.attempts] == [run.played[0].reply.usage]


@STYLES
def test_a_restart_says_who_begins(style: str) -> None:
    """And tool calls wait until their answer is whole."""
    call = Delta(tool_calls=[ToolCallDelta(0, "call_1", "pay", "{}")])
    run = Run([Delta("Fo"), call, RESET], [Delta("Four"), call], policy=RESTART)
    deltas, _ = run.read(style)
    assert [(type(each), each.content) for each in deltas] == [
        (Delta, "Fo"),
        (Restart, ""),
        (Delta, "Four"),
        (Delta, ""),
    ]
    assert deltas[3] is call


@STYLES
def test_what_a_picture_shows_counts(style: str) -> None:
    """A chunk that is neither text nor a call may be the first to be seen."""
    run = Run([Carried(origin=1, shown=True), RESET], [Delta("Four")])
    with pytest.raises(APIError):
        run.read(style)


@STYLES
def test_an_answer_may_be_refused_when_it_is_whole(style: str) -> None:
    """Which is its member's failure."""
    run = Run([Delta("Fo")], [Delta("Four")], whole=True)

    def accept(reply: Reply) -> Reply:
        if reply is PART:
            raise failure(Kind.MALFORMED)
        return reply

    run.relay.accept = accept  # type: ignore[method-assign]
    _, reply = run.read(style)
    assert [each.kind for each in reply.attempts] == [Kind.MALFORMED, None]


@STYLES
def test_when_nobody_answers(style: str) -> None:
    """One error, and the reply is what has arrived from the last."""
    run = Run([failure(Kind.COLD)], [failure(Kind.NOT_INCLUDED)], policy=FallbackPolicy(max_attempts=2))
    with pytest.raises(FallbackError) as caught:
        run.read(style)
    assert len(caught.value.attempts) == 2
    assert run.relay.latest is run.played[-1].reply
