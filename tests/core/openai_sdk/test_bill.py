"""Ledgers and budgets behind the stock openai clients: nothing is overspent, and every reservation is given back."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest

from chutes_core import (
    Budget,
    BudgetExceededError,
    Catalog,
    IncompleteAnswerError,
    Ledger,
    Usage,
    async_openai_client,
    openai_client,
)
from chutes_core.openai_sdk.bill import Bill
from chutes_core.spending.meter import watch, watching
from chutes_core.spending.recording import Account
from chutes_core.testing import FaultyTransport

MODEL = "acme/one"
SAID: Any = [{"role": "user", "content": "Say something."}]


def door(script: Any = (), **options: Any) -> tuple[openai.OpenAI, FaultyTransport]:
    """A client before a scripted service."""
    transport = FaultyTransport(script)
    return openai_client("cpk_test", http_client=httpx.Client(transport=transport), **options), transport


def adoor(script: Any = (), **options: Any) -> tuple[openai.AsyncOpenAI, FaultyTransport]:
    transport = FaultyTransport(script)
    return async_openai_client("cpk_test", http_client=httpx.AsyncClient(transport=transport), **options), transport


def ask(client: openai.OpenAI, *, stream: bool = False, **params: Any) -> None:
    reply: Any = client.chat.completions.create(model=MODEL, messages=SAID, stream=stream, **params)
    if stream:
        list(reply)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_what_does_not_fit_is_not_sent(name: str, stream: bool) -> None:
    """A call that could pass the limit is refused before anything is sent, as an exception of both libraries, once."""
    client, transport = door(ledger=Budget(tokens=100))
    ask(client, stream=stream, **{name: 50})
    with pytest.raises(BudgetExceededError, match="Nothing was sent") as caught:
        ask(client, stream=stream, **{name: 500})
    assert isinstance(caught.value, openai.OpenAIError)
    assert len(transport.requests) == 1


async def test_the_async_client_keeps_to_it_too() -> None:
    """Blocking or not, whole or streamed."""
    budget = Budget(tokens=100)
    client, transport = adoor(ledger=budget)
    async for _ in await client.chat.completions.create(model=MODEL, messages=SAID, stream=True, max_tokens=50):
        assert budget.reserved.tokens > 50
    await client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=50)
    assert budget.reserved.tokens == 0
    for stream in (False, True):
        with pytest.raises(BudgetExceededError):
            await client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=500, stream=stream)
    assert len(transport.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_calls_at_the_same_time_do_not_pass_it_together(stream: bool) -> None:
    """What others have reserved does not fit twice."""
    budget = Budget(tokens=200)
    client, transport = door(ledger=budget, max_retries=0)

    def once(_: int) -> None:
        with suppress(BudgetExceededError):
            ask(client, stream=stream, max_tokens=50)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(once, range(40)))
    assert 0 < budget.totals().usage.total_tokens <= 200
    assert budget.totals().calls == len(transport.requests) < 40
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize(
    "fault", ["capacity", "auth", "refused", "reset", "error_line", "no_finish", "restart", "malformed", "empty"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_gives_its_reservation_back(fault: str, stream: bool) -> None:
    """However a call fails."""
    budget = Budget(tokens=1_000)
    client, _ = door([fault], ledger=budget, max_retries=0)
    with pytest.raises(openai.OpenAIError):
        ask(client, stream=stream, max_tokens=50)
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("read", [0, 1, 3])
def test_a_stream_that_is_left_gives_its_reservation_back(read: int) -> None:
    """By closing it, or by dropping it without a word, read or not."""
    budget = Budget(tokens=1_000)
    client, _ = door(ledger=budget)
    for closes in (True, False):
        stream = client.chat.completions.create(model=MODEL, messages=SAID, stream=True, max_tokens=50)
        for _ in range(read):
            next(stream)
        assert budget.reserved.tokens > 50
        if closes:
            stream.close()
        else:
            del stream
            gc.collect()
        assert budget.reserved.tokens == 0
    assert budget.totals().calls == (2 if read else 0)


async def test_a_cancelled_call_gives_its_reservation_back() -> None:
    """While it waits for the reply, and while it reads it."""
    budget = Budget(tokens=1_000)
    began = asyncio.Event()

    async def silent(request: httpx.Request) -> httpx.Response:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    http = httpx.AsyncClient(transport=httpx.MockTransport(silent))
    client = async_openai_client("cpk_test", http_client=http, ledger=budget)
    call = asyncio.ensure_future(client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=50))
    await began.wait()
    assert budget.reserved.tokens > 50
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert budget.reserved.tokens == 0
    reading, _ = adoor(ledger=budget)
    async with await reading.chat.completions.create(model=MODEL, messages=SAID, stream=True, max_tokens=50) as stream:
        await anext(stream)
    assert budget.reserved.tokens == 0


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_usage_is_a_call_of_unknown_price(stream: bool) -> None:
    """As with the client of ours."""
    ledger = Ledger()
    ask(door(["no_usage"], ledger=ledger)[0], stream=stream)
    assert (ledger.totals().calls, ledger.totals().unpriced_calls) == (1, 1)


def test_what_broke_in_the_middle_is_counted_once() -> None:
    """With what it had used by then; what never began is not counted."""
    ledger = Ledger()
    client, _ = door(["error_line", "capacity", "empty"], ledger=ledger, max_retries=0)
    with pytest.raises(IncompleteAnswerError):
        ask(client, stream=True)
    for _ in range(2):
        with pytest.raises(openai.OpenAIError):
            ask(client, stream=True)
    assert ledger.totals().calls == 1
    assert ledger.totals().usage.total_tokens > 0


def _embedding(request: httpx.Request) -> httpx.Response:
    rows = [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}]
    used = {"prompt_tokens": 7, "total_tokens": 7}
    return httpx.Response(200, json={"object": "list", "model": MODEL, "data": rows, "usage": used})


def test_embeddings_are_counted_and_held_too() -> None:
    """A text, and tokens that were made by others: neither has an answer to reserve for."""
    budget = Budget(tokens=30)
    http = httpx.Client(transport=httpx.MockTransport(_embedding))
    client = openai_client("cpk_test", http_client=http, ledger=budget)
    assert client.embeddings.create(model=MODEL, input="Hello").data[0].embedding == [0.6, 0.8]
    assert budget.totals().usage == Usage(7, 0, 7)
    with pytest.raises(BudgetExceededError):
        client.embeddings.create(model=MODEL, input="word " * 100)
    with pytest.raises(BudgetExceededError):
        client.embeddings.create(model=MODEL, input=[7] * 100)
    assert budget.totals().calls == 1


class _Watcher:
    def __init__(self) -> None:
        self.told: list[str] = []

    def used(self, model: str, usage: Usage | None, cost: float | None, ledger: Ledger | None) -> None:
        self.told.append(model)


def test_who_watches_when_a_call_begins_is_told_of_it() -> None:
    """Also where a stream is read after the block that watches."""
    watcher, before = _Watcher(), watching()
    client, _ = door()
    watch(watcher)
    try:
        stream = client.chat.completions.create(model=MODEL, messages=SAID, stream=True)
    finally:
        watch(before)
    list(stream)
    assert len(watcher.told) == 1


def test_a_bill_that_is_dropped_holds_nothing() -> None:
    """Nobody need close it, and closing it twice does no harm."""
    budget = Budget(tokens=1_000)
    body = {"model": MODEL, "messages": SAID, "max_tokens": 50}
    bill = Bill(Account(budget, lambda: Catalog.load(offline=True)), body)
    bill.close()
    bill.close()
    assert budget.reserved.tokens == 0
    bill = Bill(Account(budget, lambda: Catalog.load(offline=True)), body)
    assert budget.reserved.tokens > 50
    del bill
    gc.collect()
    assert budget.reserved.tokens == 0


def _broken() -> Iterator[bytes]:
    yield b'{"object": "list", '
    raise httpx.ReadError("broken", request=httpx.Request("GET", "http://x", headers={"Authorization": "Bearer cpk_1"}))


@pytest.mark.parametrize("path", ["models", "embeddings"])
def test_a_body_that_breaks_on_a_path_that_is_not_judged_shows_no_key(path: str) -> None:
    """The SDK chains what broke to its own exception: that has no request with a key."""
    http = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, content=_broken())))
    client = openai_client("cpk_0123", http_client=http, max_retries=0)
    with pytest.raises(openai.APIConnectionError) as caught:
        client.models.list() if path == "models" else client.embeddings.create(model=MODEL, input="x")
    seen: BaseException | None = caught.value.__cause__
    assert seen is not None
    while seen is not None:
        assert "cpk_" not in json.dumps(dict(getattr(seen, "request", httpx.Request("GET", "http://x")).headers))
        seen = seen.__cause__ or seen.__context__
