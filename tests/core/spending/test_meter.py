"""The meter behind the frameworks' handlers: one call counts once, in its run, whoever tells of it."""

from __future__ import annotations

import contextvars

import pytest

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import BudgetExceededError
from chutes_core.spending.budget import Budget, Estimate
from chutes_core.spending.meter import Meter, watch, watching
from chutes_core.usage import Ledger, Usage

USED = Usage(10, 5, 15)
MODEL = "Qwen/Qwen3-32B-TEE"


def test_what_the_client_says_goes_before_what_the_framework_says() -> None:
    """Every try is counted when the client tells of it, and the framework's sum is not added on top."""
    meter = Meter()
    call = meter.open("call", model="a", run="run")
    call.used("a", USED, 0.1)
    call.used("a", USED, 0.2)
    meter.close("call", [("a", USED, 0.2)])
    assert (meter.totals().calls, meter.totals().cost) == (2, pytest.approx(0.3))
    assert meter.runs[0].totals() == meter.totals()


def test_what_the_client_says_late_still_counts_once() -> None:
    """A stream that is left early ends after its run has; what the framework has counted is not counted again."""
    meter = Meter()
    left = meter.open("left", model="a")
    meter.close("left")
    left.used("a", USED, None)
    told = meter.open("told", model="a")
    meter.close("told", [("a", USED, None)])
    told.used("a", USED, None)
    assert meter.totals().calls == 2


def test_a_call_is_opened_and_closed_once() -> None:
    """A handler that is told twice, or of the end of what it never saw begin, counts nothing twice."""
    meter = Meter(Budget(tokens=100))
    first = meter.open("call", model="a", wanted=Estimate(60, None))
    assert meter.open("call", model="a", wanted=Estimate(60, None)) is first
    for _ in range(2):
        meter.close("call", [("", USED, None)])
    meter.close("other", [("a", USED, None)])
    assert meter.ledger.by_model().keys() == {"a"}
    assert meter.totals().calls == 1


def test_calls_made_for_a_call_count_instead_of_it() -> None:
    """A fallback's attempts that are told as calls of their own take over its reservation too."""
    meter = Meter(Budget(tokens=100))
    whole = meter.open("whole", model="a,b", run="run", wanted=Estimate(80, None), deaf=True)
    part = meter.open("part", model="a", run="whole", wanted=Estimate(80, None))
    whole.used("a", USED, None)
    part.used("a", USED, None)
    meter.close("part")
    meter.close("whole", [("a", USED, None)])
    assert (meter.totals().calls, meter.runs[0].id) == (1, "run")
    assert meter.budget is not None
    assert (meter.budget.reserved.tokens, meter.budget.totals().calls) == (0, 1)


def test_a_deaf_call_counts_what_the_framework_says() -> None:
    """What clients say of it is in that sum."""
    meter = Meter()
    meter.open("whole", model="a,b", deaf=True).used("a", USED, None)
    meter.close("whole", [("a", USED, None), ("b", USED, None)])
    assert meter.totals().calls == 2


def test_steps_belong_to_the_run_that_began_first() -> None:
    """However deep, and also when a step's parent was never told of."""
    meter = Meter()
    meter.begin("agent", None, "agent")
    meter.begin("node", "agent")
    for number, run in enumerate(("node", "agent", "unseen", "unseen", None)):
        meter.open(number, model="a", run=run, name="alone")
        meter.close(number, [("a", USED, None)])
    meter.end("node")
    meter.end("agent")
    assert [(run.name, run.totals().calls) for run in meter.runs] == [("agent", 2), ("alone", 2), ("alone", 1)]


def test_watchers_follow_the_calls_of_their_context() -> None:
    """A call is watched from its beginning to its end, and then whoever watched before is told again."""
    meter, outside = Meter(), Meter()
    watch(outside)
    call = meter.open("call", model="a")
    assert watching() is call
    other = contextvars.copy_context()
    meter.close("call")
    assert watching() is outside
    assert other.run(watching) is outside
    for number in range(3):
        meter.open(number, model="a")
        meter.close(number)
    assert watching() is outside


def test_two_meters_count_the_same_call() -> None:
    """Each is told of every request."""
    one, two = Meter(), Meter()
    one.open("call", model="a")
    two.open("call", model="a").used("a", USED, None)
    for meter in (one, two):
        meter.close("call", [("a", USED, None)])
        assert meter.totals().calls == 1


def test_a_budget_that_is_the_clients_ledger_counts_once() -> None:
    """The client has entered it there by itself."""
    budget = Budget(tokens=100)
    budget.add("a", USED)
    meter = Meter(budget)
    meter.open("call", model="a").used("a", USED, None, budget)
    meter.open("next", model="a").used("a", USED, None, Ledger())
    assert budget.totals().calls == 2


def test_prices_that_were_given_fill_what_is_not_known() -> None:
    """They go before the catalogue's, which knows models on Chutes only."""
    meter = Meter(prices={"other/model": (1.0, 2.0), MODEL: ModelInfo(id=MODEL, price_in=5.0, price_out=5.0)})
    assert meter.price("other/model", USED, ours=False) == pytest.approx(20e-6)
    assert meter.price(MODEL, USED, ours=True) == pytest.approx(75e-6)
    assert Meter(catalog=Catalog.bundled()).price(MODEL, USED, ours=True) is not None
    assert Meter(catalog=Catalog.bundled()).price(MODEL, USED, ours=False) is None
    assert meter.price("", USED, ours=True) is None
    assert meter.price(MODEL, None, ours=True) is None


def test_abandoned_calls_hold_nothing() -> None:
    """Where nobody will tell of their end, what they reserved is given back."""
    meter = Meter(Budget(tokens=100))
    meter.open("call", model="a", wanted=Estimate(90, None))
    with pytest.raises(BudgetExceededError):
        meter.open("next", model="a", wanted=Estimate(90, None))
    meter.abandon()
    meter.open("next", model="a", wanted=Estimate(90, None))
