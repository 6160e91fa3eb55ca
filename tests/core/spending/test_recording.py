"""What a request is held to before it is sent: every budget that counts it, once."""

from __future__ import annotations

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import BudgetExceededError
from chutes_core.spending.budget import Budget, Estimate
from chutes_core.spending.meter import Meter
from chutes_core.spending.recording import Account
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
