"""Whatever happens to a call, it begins once and is over once, and each of its requests is one attempt."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from typing import Any

import httpx
import pytest

from chutes_core import (
    AsyncChutesClient,
    AsyncFallbackClient,
    ChutesClient,
    ChutesError,
    FallbackClient,
    FallbackPolicy,
)
from chutes_core.testing import FAULTS, Answer, Fault, FaultScript, FaultyTransport, VirtualClock
from tests.core.listening import listening, told

KEY = "cpk_test"
MODELS = ["Qwen/Qwen3-32B-TEE", "zai-org/GLM-5.1-TEE", "deepseek-ai/DeepSeek-V3.2-TEE"]
HELLO = [{"role": "user", "content": "Say hello."}]
TEXT = Answer("one two three four five six seven eight", reasoning="Let me see.", pieces=8)
AFTER = ["raise", "hold", "restart", "resume", "resume_or_restart"]
GRAMMAR = re.compile(
    r"start( attempt skipped)*( attempt (failed|outrun|cancelled|skipped)( retry| takeover)*| takeover| retry)*"
    r"( attempt (answered|cancelled)( attempt outrun)*)?( give_up)? end"
)


def entry(dice: random.Random) -> Answer | Fault:
    if dice.random() < 0.4:
        return TEXT
    return Fault(
        dice.choice(sorted(FAULTS)), after=dice.randrange(1, 14), seconds=dice.choice([0.5, 30.0]), answer=TEXT
    )


def play(seed: int, *, fallback: bool, waits: bool) -> tuple[FaultyTransport, Any]:
    """One call with a random script, read to its end or left somewhere."""
    dice = random.Random(seed)
    clock = VirtualClock()
    transport = FaultyTransport(FaultScript([entry(dice) for _ in range(9)], default=TEXT), clock=clock)
    streams, stop = dice.random() < 0.7, dice.choice([None, None, 1, 3])
    policy = FallbackPolicy(after_commit=dice.choice(AFTER), max_attempts=dice.randrange(1, 9))
    options: Any = {"policy": policy} if fallback else {"max_retries": dice.randrange(4)}
    members = (MODELS,) if fallback else ()
    asked: Any = {} if fallback else {"model": MODELS[0]}

    def blocking() -> None:
        kind: Any = FallbackClient if fallback else ChutesClient
        with kind(*members, KEY, http_client=httpx.Client(transport=transport), clock=clock, **options) as client:
            if not streams:
                client.chat(HELLO, **asked)
                return
            with client.stream(HELLO, **asked) as stream:
                for number, _ in enumerate(stream):
                    if number == stop:
                        return

    async def waiting() -> None:
        kind: Any = AsyncFallbackClient if fallback else AsyncChutesClient
        http = httpx.AsyncClient(transport=transport)
        async with kind(*members, KEY, http_client=http, clock=clock, **options) as client:
            if not streams:
                await client.chat(HELLO, **asked)
                return
            async with client.stream(HELLO, **asked) as stream:
                number = 0
                async for _ in stream:
                    if number == stop:
                        return
                    number += 1

    with contextlib.suppress(ChutesError):
        asyncio.run(waiting()) if waits else blocking()
    return transport, clock


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("fallback", [False, True])
def test_a_call_begins_once_and_ends_once(fallback: bool, waits: bool) -> None:
    for seed in range(150):
        with listening() as heard:
            transport, _ = play(seed, fallback=fallback, waits=waits)
        line = " ".join(told(heard))
        assert GRAMMAR.fullmatch(line), (seed, line)
        assert len({id(event.call) for _, event in heard}) == 1
        attempts = [event.attempt for name, event in heard if name == "attempt" and event.attempt is not None]
        made = [each for each in attempts if each.outcome != "skipped"]
        assert len(made) == len(transport.requests), (seed, line)
        numbers = [event.number for name, event in heard if name == "attempt" and event.attempt.outcome != "skipped"]  # type: ignore[union-attr]
        assert numbers == list(range(1, len(made) + 1)), (seed, line)
        end = heard[-1][1]
        assert (end.error is None) == (bool(made) and made[-1].outcome == "answered"), (seed, line)
        assert end.error is not None or end.reply is not None
