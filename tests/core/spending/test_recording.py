"""What a request is held to before it is sent: every budget that counts it, once."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from chutes_core import ChutesClient, Ledger, openai_client
from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import BudgetExceededError
from chutes_core.spending import budget, recording
from chutes_core.spending.budget import Budget, Estimate
from chutes_core.spending.meter import Meter
from chutes_core.spending.recording import Account
from chutes_core.testing import FaultyTransport
from chutes_core.usage import Usage

MODEL = "Qwen/Qwen3-32B-TEE"


def test_an_embedding_is_held_wherever_it_counts() -> None:
    """No framework tells a handler what is embedded: the client reserves for it, in every budget and once in each."""
    own, around = Budget(tokens=200), Budget(tokens=100)
    body = {"model": MODEL, "input": ["word " * 30]}
    Meter(around).open("call", model="a")
    Meter(own).open("call", model="a", wanted=Estimate(10, None))
    account = Account(own, Catalog.bundled)
    held = account.hold(body)
    assert held is not None
    assert [hold.budget for hold in held] == [own, around]
    assert [own.reserved.tokens, around.reserved.tokens] == [60, 50]
    around.add("a", Usage(20, 0, 20), None)  # it still fits into the first, and not into the second
    with pytest.raises(BudgetExceededError):
        account.hold(body)
    assert [own.reserved.tokens, around.reserved.tokens] == [60, 50]
    held.release()
    assert [own.reserved.tokens, around.reserved.tokens] == [10, 0]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a model is looked up, and a price calculated, from now on."""
    counts: Counter[str] = Counter()

    def count(place: object, name: str) -> None:
        real: Callable[..., object] = getattr(place, name)

        @functools.wraps(real)
        def counting(*given: object) -> object:
            counts[name] += 1
            return real(*given)

        monkeypatch.setattr(place, name, counting)

    count(Catalog, "get")
    count(recording, "cost")
    count(budget, "cost")
    return counts


def http() -> httpx.Client:
    return httpx.Client(transport=FaultyTransport())


@pytest.mark.parametrize(("ledger", "costs"), [(Ledger, 1), (lambda: Budget(usd=9), 2)], ids=["ledger", "budget"])
def test_a_model_is_looked_up_once_for_a_call(ledger: Callable[[], Ledger], costs: int, counted: Counter[str]) -> None:
    """Request, reservation and entry share what was found; a budget prices the most it may use, then the use."""
    said: Any = [{"role": "user", "content": "Hello!"}]
    with ChutesClient("cpk_0123", http_client=http(), ledger=ledger(), catalog=Catalog.bundled()) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.chat(said, model=MODEL),
            lambda: list(client.stream(said, model="qwen/qwen3-32b:THINKING")),
        ]
        for call, lookups in zip(calls, (1, 2), strict=True):  # the second has a suffix to take off first
            counted.clear()
            call()
            assert counted == {"get": lookups, "cost": costs}
        assert client.ledger.totals().unpriced_calls == 0
    with openai_client("cpk_0123", http_client=http(), ledger=ledger(), catalog=Catalog.bundled()) as stock:
        counted.clear()
        stock.chat.completions.create(model=MODEL, messages=said)
        assert counted == {"get": 1, "cost": costs}


def test_another_model_in_the_extra_fields_is_the_one_that_counts() -> None:
    """What is reserved is what the model that is sent may cost."""
    limit = Budget(usd=9)
    with ChutesClient("cpk_0123", http_client=http(), ledger=limit, catalog=Catalog.bundled()) as client:
        said: Any = [{"role": "user", "content": "Hello!"}]
        with pytest.raises(BudgetExceededError, match="its price is not known"):
            client.chat(said, model=MODEL, extra_body={"model": "acme/unpriced"})
