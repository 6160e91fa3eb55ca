"""The drivers: blocking and async give out the same parts, hold what must wait, and leave nothing open."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core import APIError, AsyncChutesClient, AsyncStream, ChutesClient, Delta, Kind, Stream, Usage
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackError, FallbackPolicy, Health, Member, Try
from chutes_core.fallback.drivers import afallback, fallback
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.relay import Relay, Restart
from chutes_core.response import Reply
from chutes_core.testing import FAULTS, Answer, Fault, FaultScript, FaultyTransport, VirtualClock

from .played import Played

MEMBERS = [Member(f"acme/{name}") for name in ("one", "two", "three")]
HELLO = [{"role": "user", "content": "Hi"}]


class Stage:
    """Three models on one scripted service, and a call over them."""

    def __init__(
        self,
        script: list[Answer | Fault | str],
        *,
        whole: bool,
        policy: FallbackPolicy | None = None,
        health: Health | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.transport = FaultyTransport(FaultScript(script, default=ANSWER), clock=self.clock)
        self.client = ChutesClient(
            "cpk_test", http_client=httpx.Client(transport=self.transport), clock=self.clock, max_retries=0
        )
        self.health = health or Health(now=self.clock.now)
        self.call = Call(
            MEMBERS, policy or POLICY, self.health, now=self.clock.now, chance=lambda: 0.5, visible=not whole
        )
        self.relay = Relay(self.call, whole=whole)

    def ask(self, step: Try) -> Stream:
        return self.client.stream(HELLO, model=step.member.name, timeout=step.limits)

    def aask(self, step: Try) -> AsyncStream:
        client = AsyncChutesClient(
            "cpk_test", http_client=httpx.AsyncClient(transport=self.transport), clock=self.clock, max_retries=0
        )
        return client.stream(HELLO, model=step.member.name, timeout=step.limits)

    def run(self) -> tuple[list[Delta], Exception | None]:
        parts: list[Delta] = []
        try:
            for part in fallback(self.relay, self.ask, clock=self.clock):
                parts.append(part)
        except (APIError, FallbackError) as error:
            return parts, error
        return parts, None

    async def arun(self) -> tuple[list[Delta], Exception | None]:
        parts: list[Delta] = []
        try:
            async for part in afallback(self.relay, self.aask, clock=self.clock):
                parts.append(part)
        except (APIError, FallbackError) as error:
            return parts, error
        return parts, None

    def trace(self) -> list[tuple[str, str, Any]]:
        return [(each.model, each.outcome, each.kind) for each in self.call.attempts]


ANSWER = Answer("The answer is forty-two.", pieces=4)
PAYING = Answer("Paying.", tool_calls=[("pay", {"amount": 1000})], pieces=3)
POLICY = FallbackPolicy(first_token=5, gap=5, deadline=60)
RESTART = FallbackPolicy(first_token=5, gap=5, deadline=60, after_commit="restart")
FAULT = st.builds(
    Fault, st.sampled_from(sorted(FAULTS)), after=st.integers(0, 4), answer=st.sampled_from([ANSWER, PAYING])
)


def last_answer(parts: list[Delta]) -> list[Delta]:
    """What a reader has after the last reset marker."""
    marks = [position for position, part in enumerate(parts) if isinstance(part, Restart)]
    return parts[marks[-1] + 1 :] if marks else parts


@given(st.lists(FAULT, max_size=6), st.booleans(), st.sampled_from([POLICY, RESTART]))
def test_both_drivers_tell_the_same_story(script: list[Any], whole: bool, policy: FallbackPolicy) -> None:
    """The same faults give the same parts, the same trace and the same error, blocking and async."""
    blocking, waiting = (Stage(script, whole=whole, policy=policy) for _ in range(2))
    parts, error = blocking.run()
    other_parts, other_error = asyncio.run(waiting.arun())
    assert (parts, str(error)) == (other_parts, str(other_error))
    assert blocking.trace() == waiting.trace()
    assert blocking.clock.now() == waiting.clock.now()


@given(st.lists(FAULT, max_size=8), st.booleans(), st.sampled_from([POLICY, RESTART]))
def test_one_whole_answer_or_one_error(script: list[Any], whole: bool, policy: FallbackPolicy) -> None:
    """Whatever happens: a whole answer of one member, or an error; no cut tool call; in time; nothing left open."""
    stage = Stage(script, whole=whole, policy=policy)
    parts, error = stage.run()
    assert stage.transport.open_replies == 0
    assert policy.deadline is not None
    assert stage.clock.now() <= policy.deadline + 1e-6
    assert len(stage.transport.requests) == stage.call.made <= policy.max_attempts
    answer = last_answer(parts)
    text = "".join(part.content for part in answer)
    arguments = "".join(step.arguments for part in answer for step in part.tool_calls)
    if error is None:
        assert text in (ANSWER.text, PAYING.text, "")
        assert stage.call.served is not None
    if whole:
        assert parts == []
        assert (stage.relay.reply is None) is (error is not None)
    assert arguments in ("", '{"amount": 1000}'), "tool calls are held until they are whole"


def test_what_shows_nothing_is_held_back() -> None:
    """Parts without anything to see come out with the first visible one, so a silent takeover leaves no trace."""
    stage = Stage([Fault("reset", after=0)], whole=False)
    parts, error = stage.run()
    assert error is None
    assert "".join(part.content for part in parts) == ANSWER.text
    assert [each[1] for each in stage.trace()] == ["failed", "answered"]


def test_a_restart_is_marked() -> None:
    """With restart, a reader who forgets everything before the marker has one whole answer."""
    stage = Stage([Fault("error_line", after=2, answer=ANSWER)], whole=False, policy=RESTART)
    parts, error = stage.run()
    assert error is None
    assert sum(isinstance(part, Restart) for part in parts) == 1
    assert "".join(part.content for part in last_answer(parts)) == ANSWER.text
    assert stage.call.attempts[0].usage == Usage(11, 2, 13)


def test_without_restart_the_failure_has_the_part() -> None:
    """By default a broken answer of which a part was seen is raised as itself."""
    stage = Stage([Fault("error_line", after=2, answer=ANSWER)], whole=False)
    parts, error = stage.run()
    assert isinstance(error, APIError)
    assert error.kind is Kind.STREAM_ERROR
    assert error.partial == "".join(part.content for part in parts)


@pytest.mark.parametrize("steps", range(4))
def test_leaving_in_the_middle_is_no_failure(steps: int) -> None:
    """A reader who stops leaves no connection open and no mark on any member."""
    stage = Stage([], whole=False)
    parts = fallback(stage.relay, stage.ask, clock=stage.clock)
    for _ in range(steps):
        next(parts)
    parts.close()
    assert stage.transport.open_replies == 0
    assert stage.health.snapshot()["members"] == {}
    assert [each[1] for each in stage.trace()] == (["cancelled"] if steps else [])


@pytest.mark.parametrize("waits", range(12))
async def test_a_cancel_at_any_await_is_no_failure(waits: int) -> None:
    """The same for a task that is cancelled at any of its awaits."""
    stage = Stage(["cold"], whole=True)
    task = asyncio.create_task(stage.arun())
    for _ in range(waits):
        await asyncio.sleep(0)
    finished = task.done()
    task.cancel()
    if not finished:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert stage.transport.open_replies == 0
    assert not [key for key in stage.health.snapshot()["members"] if key == "|acme/two"] or finished  # type: ignore[union-attr, attr-defined]


def test_a_mistake_of_the_caller_is_not_a_failure_of_a_model() -> None:
    """An exception that no client raises goes through as it is, at once."""
    stage = Stage([], whole=False)

    answer = Played([Delta("a"), KeyError("typo")], Reply(None, None, ()))
    parts = fallback(stage.relay, lambda step: answer, clock=stage.clock)
    assert next(parts).content == "a"
    with pytest.raises(KeyError):
        next(parts)
    assert stage.health.snapshot()["members"] == {}


def _error(name: str, **attributes: Any) -> Exception:
    return type(name, (Exception,), attributes)("told")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_error("RateLimitError", status_code=429), Kind.RATE_LIMIT),
        (_error("InternalServerError", status_code=500), Kind.UPSTREAM),
        (_error("ModelRateLimitError"), Kind.RATE_LIMIT),
        (_error("ContextOverflowError"), Kind.CONTEXT_LENGTH),
        (_error("APITimeoutError"), Kind.FIRST_TOKEN_TIMEOUT),
        (_error("APIConnectionError"), Kind.CONNECT),
        (_error("RemoteProtocolError"), Kind.RESET),
        (ConnectionResetError("gone"), Kind.RESET),
        (TimeoutError("late"), Kind.FIRST_TOKEN_TIMEOUT),
        (failure(Kind.COLD), Kind.COLD),
        (_error("SomethingElse"), None),
        (KeyError("typo"), None),
        (ValueError("typo"), None),
    ],
)
def test_other_clients_failures_are_read(error: Exception, kind: Kind | None) -> None:
    """Status, then name: what other providers' clients raise is understood, and code's own mistakes are not taken."""
    found = as_failure(error, "other/model")
    assert (found.kind if found else None) is kind


def test_other_clients_retry_after_is_read() -> None:
    """A Retry-After in a foreign exception's response is kept."""
    error = _error("RateLimitError", status_code=429, response=httpx.Response(429, headers={"retry-after": "7"}))
    found = as_failure(error, "other/model")
    assert found is not None
    assert found.retry_after == 7
