"""A client whose ledger is a budget, and what it tells those who watch a call: request for request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from chutes_core import AsyncChutesClient, Budget, BudgetExceededError, Catalog, ChutesClient, Usage
from chutes_core.spending.budget import Estimate
from chutes_core.spending.meter import Meter, watch
from chutes_core.testing import Answer, Fault, FaultScript
from chutes_core.wire import hands

from .clients import HELLO, MODES, call, http_package, scripted

MODEL = "Qwen/Qwen3-32B-TEE"
ANSWER = Answer("Hello there, friend.", pieces=4)
EMPTY = Fault("role_only", answer=ANSWER)


def embeddings(failing: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A service of vectors that fails some times first: what it was asked, and the settings that lead to it."""
    package, asked = http_package(), []

    def reply(request: Any) -> Any:
        body = json.loads(request.content)
        asked.append(body)
        if len(asked) <= failing:
            return package.Response(429, json={"detail": "Infrastructure is at maximum capacity, try again later"})
        rows = [{"index": number, "embedding": [1.0, 0.0]} for number in range(len(body["input"]))]
        usage = {"prompt_tokens": 3 * len(rows), "total_tokens": 3 * len(rows)}
        return package.Response(200, json={"model": body["model"], "data": rows, "usage": usage})

    return asked, {"transport": package.MockTransport(reply)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limit", [{"usd": 1e-6}, {"tokens": 100}])
def test_a_call_that_could_pass_the_limit_is_not_sent(mode: str, limit: dict[str, Any]) -> None:
    """The client refuses it, and the service hears nothing."""
    budget = Budget(**limit)
    outcome = call(mode, [ANSWER], model=MODEL, ledger=budget, catalog=Catalog.bundled())
    assert isinstance(outcome.error, BudgetExceededError)
    assert outcome.attempts == 0
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("mode", MODES)
def test_every_try_is_held_to_the_limit(mode: str) -> None:
    """A try that failed has used tokens too: the next one is made only if it still fits."""
    budget = Budget(tokens=80)
    script = FaultScript([EMPTY] * 10)
    outcome = call(mode, script, model=MODEL, ledger=budget, max_retries=9, params={"max_tokens": 30})
    assert isinstance(outcome.error, BudgetExceededError)
    assert budget.totals().usage.total_tokens == 15 * outcome.attempts <= 80
    assert outcome.attempts == 3
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_call_within_the_limit_is_entered_once(mode: str) -> None:
    """What it used takes the place of what it reserved."""
    budget = Budget(usd=1.0)
    outcome = call(mode, [ANSWER], model=MODEL, ledger=budget, catalog=Catalog.bundled())
    assert outcome.error is None
    assert (budget.totals().calls, budget.totals().usage.total_tokens) == (1, 15)
    assert budget.totals().cost > 0
    assert budget.reserved.usd == 0.0


def test_a_stream_holds_its_share_until_it_ends() -> None:
    """Leaving it early enters what it used until then and gives the rest back."""
    budget = Budget(tokens=1_000)
    client = scripted([ANSWER], ledger=budget).client
    with client.stream(HELLO, model=MODEL, max_tokens=500) as stream:
        next(stream)
        assert budget.reserved.tokens > 500
    assert budget.reserved.tokens == 0
    assert budget.totals().usage.total_tokens == 12


@pytest.mark.parametrize("sync", [True, False])
def test_embeddings_are_held_to_it_too(sync: bool) -> None:
    """Batch by batch, with the tokens of their texts; the price of an embedding is not known."""
    asked, options = embeddings()
    package = http_package()
    http: Any = package.Client(**options) if sync else package.AsyncClient(**options)
    budget = Budget(tokens=20)
    client: Any = (ChutesClient if sync else AsyncChutesClient)("cpk_test", http_client=http, ledger=budget)

    def embed() -> Any:
        made = client.embed(["four letters"] * 12, model="acme/embed", batch_size=2, concurrency=1)
        return made if sync else asyncio.run(made)

    with pytest.raises(BudgetExceededError):
        embed()
    assert 0 < 6 * len(asked) == budget.totals().usage.total_tokens <= 20
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("mode", MODES)
def test_who_watches_is_told_of_every_request(mode: str) -> None:
    """Of tries that failed as of the one that succeeded, with the model that answered."""
    meter = Meter()
    watch(meter)
    try:
        call(mode, [EMPTY, EMPTY, ANSWER], model=MODEL, max_retries=2)
    finally:
        watch(None)
    assert meter.ledger.by_model().keys() == {MODEL}
    assert (meter.totals().calls, meter.totals().usage.total_tokens) == (3, 45)


def test_who_watches_when_a_call_begins_is_told_of_all_of_it() -> None:
    """Two streams that are read in turns are each told to their own watcher, also when they are left early."""
    client = scripted(FaultScript(default=ANSWER)).client
    meters = [Meter(), Meter()]
    streams = []
    for meter in meters:
        watch(meter)
        streams.append(client.stream(HELLO, model=MODEL))
    watch(None)
    for stream in streams * 2:
        next(stream)
    streams[0].close()
    list(streams[1])
    assert [meter.totals().usage for meter in meters] == [Usage(11, 2, 13), Usage(11, 4, 15)]


async def test_embeddings_that_are_left_end_no_chat() -> None:
    """A call that a handler has open goes on when embeddings beside it are cancelled."""
    package = http_package()
    transport = package.MockTransport(_for_ever)
    client = AsyncChutesClient("cpk_test", http_client=package.AsyncClient(transport=transport))
    opened = Meter(Budget(tokens=1_000)).open("call", model=MODEL, wanted=Estimate(20, None))
    task = asyncio.create_task(client.embed(["Hello"], model="acme/embed"))
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not opened.over


async def _for_ever(*_: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("waits", ["for a key", "for an image", "for the answer", "to retry"])
async def test_a_call_that_is_left_says_so_wherever_it_waits(
    waits: str, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No framework tells its handlers that a call was cancelled, so the client ends it, with its reservation."""
    monkeypatch.setattr(hands, "ainline_images", _for_ever)
    made = scripted(
        ["capacity" if waits == "to retry" else "hang"],
        sync=False,
        key=_for_ever if waits == "for a key" else "cpk_test",
        inline_images=waits == "for an image",
    )
    monkeypatch.setattr(made.clock, "asleep", _for_ever)
    budget = Budget(tokens=1_000)
    opened = Meter(budget).open("call", model=MODEL, wanted=Estimate(20, None))

    async def ask() -> None:
        if streams:
            async for _ in made.client.stream(HELLO, model=MODEL):
                pass
        else:
            await made.client.chat(HELLO, model=MODEL)

    task = asyncio.create_task(ask())
    for _ in range(100):
        await asyncio.sleep(0)
    assert made.attempts == (0 if waits in ("for a key", "for an image") else 1)
    assert budget.reserved.tokens == 20
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert opened.over
    assert budget.reserved.tokens == 0
