"""What hooks and the log are told of a fallback's call: one call, whose attempts are its members'."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from chutes_core import (
    AsyncFallbackClient,
    Catalog,
    FallbackClient,
    FallbackError,
    FallbackPolicy,
    ModelInfo,
    Traits,
    hooks,
)
from chutes_core.testing import Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from tests.core.listening import NAMES, listening, told

KEY, MODELS = "cpk_test", ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE"]
HELLO = [{"role": "user", "content": "Say hello."}]
STYLES = ("chat", "stream", "achat", "astream")
TEXT = Answer("one two three four five six seven eight nine ten", pieces=10)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    assert not hooks.listening()
    assert not any(getattr(hooks, f"on_{name}").active for name in NAMES)


def play(style: str, first: list[Any], second: list[Any] = (), **policy: Any) -> Any:  # type: ignore[assignment]
    """Ask two models, each with its script; return the reply, or the error."""
    clock = VirtualClock()
    script = FaultScript(by_model=dict(zip(MODELS, (first, second), strict=True)), default=Answer("Hello!"))
    transport = FaultyTransport(script, clock=clock)
    models = [ModelInfo(id=name, traits=Traits(prefill="as_is")) for name in MODELS]
    catalog = Catalog(models, source="here", fetched_at=0.0, snapshot_date="2026-01-01")
    options: Any = {"policy": FallbackPolicy(**policy), "clock": clock, "catalog": catalog}

    def blocking() -> Any:
        with FallbackClient(MODELS, KEY, http_client=httpx.Client(transport=transport), **options) as client:
            return client.chat(HELLO) if style == "chat" else client.stream(HELLO).read()

    async def waiting() -> Any:
        http = httpx.AsyncClient(transport=transport)
        async with AsyncFallbackClient(MODELS, KEY, http_client=http, **options) as client:
            return await client.chat(HELLO) if style == "achat" else await client.stream(HELLO).read()

    try:
        return asyncio.run(waiting()) if style.startswith("a") else blocking()
    except Exception as error:
        return error


@pytest.mark.parametrize("style", STYLES)
def test_a_takeover(style: str) -> None:
    with listening() as heard:
        reply = play(style, ["capacity"])
    assert told(heard) == ["start", "attempt failed", "takeover", "attempt answered", "end"]
    start, failed, takeover, answered, end = (event for _, event in heard)
    assert len({id(event.call) for _, event in heard}) == 1
    assert all(event.fallback and event.operation == "chat" and event.face is None for _, event in heard)
    assert (start.model, failed.model, takeover.model, answered.model, end.model) == (*MODELS[:1] * 2, *MODELS[1:] * 3)
    assert start.request is not None
    assert start.request["messages"] == HELLO
    assert start.url.endswith("/chat/completions")
    assert failed.attempt == replace(reply.attempts[0], detail="")
    assert (takeover.how, failed.number, answered.number) == ("next", 1, 2)
    assert answered.attempt == reply.attempts[1]
    assert end.reply is not None
    assert (end.reply.content, end.reply.usage) == (reply.content, reply.usage)
    assert end.first is not None


@pytest.mark.parametrize("style", STYLES)
def test_all_fail(style: str) -> None:
    with listening() as heard:
        error = play(style, ["not_found"] * 9, ["cold"] * 99, max_attempts=2)
    assert isinstance(error, FallbackError)
    assert told(heard) == ["start", "attempt failed", "takeover", "attempt failed", "give_up", "end"]
    assert heard[-1][1].error == "cold"
    assert heard[-1][1].reply is None


@pytest.mark.parametrize("style", STYLES)
def test_another_round_is_a_retry(style: str) -> None:
    with listening() as heard:
        play(style, ["capacity"], ["capacity", "capacity"])
    assert [event.how for name, event in heard if name in ("takeover", "retry")][:2] == ["next", "again"]
    assert told(heard).count("retry") == 1


@pytest.mark.parametrize("style", ["stream", "astream"])
@pytest.mark.parametrize(("mode", "how"), [("restart", "restart"), ("resume", "resume"), ("raise", None)])
def test_after_text(style: str, mode: str, how: str | None) -> None:
    broken = Fault("reset", after=6, answer=TEXT)
    with listening() as heard:
        reply = play(style, [broken], [Answer(" seven eight nine ten.")], after_commit=mode)
    hows = [event.how for name, event in heard if name == "takeover"]
    assert set(hows) == ({how} if how else set())
    assert (heard[-1][1].error is None) == (not isinstance(reply, Exception))


@pytest.mark.parametrize("style", STYLES)
def test_nothing_that_the_service_says_is_told(style: str, caplog: pytest.LogCaptureFixture) -> None:
    """It may quote what was asked; whoever made the call has it in the error."""
    caplog.set_level("DEBUG", "chutes_core")
    with listening() as heard:
        error = play(style, ["bad_request"])
    assert "temperature" in error.attempts[0].detail
    failed = [event.attempt for _, event in heard if event.attempt is not None]
    assert {(attempt.outcome, attempt.detail) for attempt in failed} == {("failed", "")}
    assert "temperature" not in "".join(str(vars(record)) for record in caplog.records)


def test_members_that_are_skipped_are_told_of() -> None:
    with listening() as heard:
        play("chat", [], ignore=[MODELS[0]])
    assert told(heard) == ["start", "attempt skipped", "attempt answered", "end"]
    assert heard[1][1].number == 0


def test_nobody_can_be_asked() -> None:
    with listening() as heard:
        play("chat", [], ignore=MODELS)
    assert told(heard) == ["start", "attempt skipped", "attempt skipped", "end"]
    assert heard[-1][1].error == "RequestRefusedError"


@pytest.mark.parametrize("style", STYLES)
def test_the_log_says_who_failed_and_who_took_over(style: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "chutes_core")
    play(style, ["capacity"])
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("chutes_core.fallback", "WARNING", f"{MODELS[0]}: capacity 429 after 0.0 s (attempt 1)"),
        ("chutes_core.fallback", "INFO", f"{MODELS[1]} takes over"),
    ]
    fields: list[Any] = [vars(record) for record in caplog.records]
    assert [(each["chutes_model"], each["chutes_kind"]) for each in fields] == [
        (MODELS[0], "capacity"),
        (MODELS[1], None),
    ]


def test_a_whole_answer_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "chutes_core")
    play("chat", [])
    assert not caplog.records


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_stream_that_is_left_is_cancelled(stop: int) -> None:
    http = httpx.Client(transport=FaultyTransport([TEXT]))
    with listening() as heard, FallbackClient(MODELS, KEY, http_client=http).stream(HELLO) as stream:
        for _, _delta in zip(range(stop), stream, strict=False):
            pass
        stream.close()
    assert told(heard) == (["start", "attempt cancelled", "end"] if stop else [])
    assert not stop or heard[-1][1].error == "cancelled"
