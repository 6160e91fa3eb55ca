"""What a call used and cost, and sums over many calls."""

from __future__ import annotations

import copy
import pickle
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.usage import Ledger, Totals, Usage, cost

PRICED = ModelInfo(id="acme/one", price_in=0.4, price_out=3.0, price_cached=0.04)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, Usage(9, 5, 14)),
        ({"prompt_tokens": 9}, Usage(9, 0, 9)),
        ({"completion_tokens": 5}, Usage(0, 5, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 20}, Usage(9, 5, 20)),
        ({"prompt_tokens": 9, "reasoning_tokens": 2}, Usage(9, 0, 9, reasoning_tokens=2)),
        (
            {"prompt_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 3}, "reasoning_tokens": 0},
            Usage(9, 0, 9, reasoning_tokens=3),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(9, 0, 9, cached_tokens=4),
        ),
        (
            {"prompt_tokens": 9, "prompt_tokens_details": None, "cached_tokens": 4},
            Usage(9, 0, 9, cached_tokens=4),
        ),
        ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, Usage(9, 5, 14)),
        ({}, None),
        (None, None),
    ],
)
def test_usage_is_read_in_either_engines_form(raw: object, expected: Usage | None) -> None:
    """Counts are found where either engine puts them; where there are none there is no usage."""
    assert Usage.parse(raw) == expected


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("usage", "usage is text, not an object"),
        ({"prompt_tokens": True}, "usage.prompt_tokens is true, not a whole number"),
        ({"completion_tokens": "5"}, "usage.completion_tokens is text"),
        ({"completion_tokens": 5.5}, "usage.completion_tokens is a number, not a whole number"),
        ({"total_tokens": -1, "prompt_tokens": 1}, "usage.total_tokens is out of range"),
        ({"prompt_tokens": 10**4000}, "usage.prompt_tokens is out of range"),
        ({"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": [1]}}, "usage.prompt_tokens_details.cached_t"),
        ({"prompt_tokens": 1, "completion_tokens_details": 7}, "usage.completion_tokens_details is a number"),
    ],
)
def test_a_count_that_is_none_is_refused_by_name(raw: object, said: str) -> None:
    """A count that cannot be right is not added to a bill, and not taken for zero either."""
    with pytest.raises(ValueError, match=said):
        Usage.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"prompt_tokens": 9, "completion_tokens": 5.0},
        {"input_tokens": 9, "output_tokens": 5},
        {"prompt_token_count": 9, "candidates_token_count": 5},
        SimpleNamespace(model_dump=lambda: {"input_tokens": 9, "completion_tokens": 5, "total_tokens": None}),
    ],
)
def test_usage_of_any_provider(raw: object) -> None:
    """Each calls its counts something else, and may give an object; what is no usage is none."""
    assert Usage.of_any(raw) == Usage(9, 5, 14)
    assert Usage.of_any("usage") is Usage.of_any({"other": 1}) is None


def test_usages_add_up_and_unknown_stays_unknown() -> None:
    """A count that neither call knows stays None; one that one call knows counts."""
    assert Usage(1, 2, 3) + Usage(10, 20, 30, cached_tokens=4) == Usage(11, 22, 33, None, 4)


def test_cost_prices_cached_tokens_as_such() -> None:
    """Cached prompt tokens cost their own price, the others the full one."""
    usage = Usage(1_000_000, 100_000, 1_100_000, cached_tokens=400_000)
    assert cost(usage, PRICED) == pytest.approx(0.6 * 0.4 + 0.4 * 0.04 + 0.1 * 3.0)


def test_cost_without_a_cached_price_is_the_full_price() -> None:
    """Where the price of cached tokens is unknown they cost as much as the others."""
    info = ModelInfo(id="a", price_in=1.0, price_out=1.0)
    assert cost(Usage(2_000_000, 0, 2_000_000, cached_tokens=1_000_000), info) == 2.0


def test_cost_with_no_report_of_cached_tokens_takes_none_as_cached() -> None:
    """An engine that does not report cached tokens is billed for all of them in full."""
    assert cost(Usage(1_000_000, 0, 1_000_000), PRICED) == pytest.approx(0.4)


@pytest.mark.parametrize("prices", [{}, {"price_in": 1.0}, {"price_out": 1.0}, {"price_cached": 1.0}])
def test_cost_of_an_unknown_price_is_unknown(prices: dict[str, float]) -> None:
    """A missing price makes the cost None, not zero."""
    assert cost(Usage(10, 5, 15), ModelInfo(id="a", **prices)) is None  # type: ignore[arg-type]


def test_cost_of_an_embedding_needs_no_price_of_the_answer() -> None:
    """A call without answer tokens is priced by the prompt alone."""
    assert cost(Usage(1_000_000, 0, 1_000_000), ModelInfo(id="a", price_in=0.02)) == pytest.approx(0.02)


def test_a_free_model_costs_nothing() -> None:
    """A price of zero is a price."""
    assert cost(Usage(10, 5, 15), ModelInfo(id="a", price_in=0.0, price_out=0.0)) == 0.0


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.none() | st.integers(-5, 10**8))
def test_cost_lies_between_all_cached_and_none_cached(prompt: int, answer: int, cached: int | None) -> None:
    """However many cached tokens an engine claims, the cost stays within what is possible."""
    found = cost(Usage(prompt, answer, prompt + answer, cached_tokens=cached), PRICED)
    lowest, highest = (prompt * price / 1e6 + answer * 3.0 / 1e6 for price in (0.04, 0.4))
    assert found is not None
    assert lowest - 1e-9 <= found <= highest + 1e-9


def test_ledger_adds_up_by_model_and_in_all() -> None:
    """Sums are kept by model, and over all of them."""
    ledger = Ledger()
    ledger.add("one", Usage(10, 5, 15, cached_tokens=2), 0.25)
    ledger.add("one", Usage(20, 5, 25), 0.5)
    ledger.add("two", Usage(1, 1, 2), 1.0)
    one = Totals(2, Usage(30, 10, 40, cached_tokens=2), 0.75, 0)
    two = Totals(1, Usage(1, 1, 2), 1.0, 0)
    assert ledger.by_model() == {"one": one, "two": two}
    assert ledger.totals("one") == one
    assert ledger.totals() == Totals(3, Usage(31, 11, 42, cached_tokens=2), 1.75, 0)


def test_ledger_counts_calls_of_unknown_price_apart() -> None:
    """A call of unknown cost adds its tokens, adds nothing to the cost, and is counted as missing from it."""
    ledger = Ledger()
    ledger.add("one", Usage(10, 5, 15))
    ledger.add("one", Usage(10, 5, 15), 0.0)
    assert ledger.totals() == Totals(2, Usage(20, 10, 30), 0.0, 1)


def test_ledger_counts_a_call_without_usage() -> None:
    """A call whose usage was not reported is still a call."""
    ledger = Ledger()
    ledger.add("one", None)
    assert ledger.totals("one") == Totals(1, Usage(0, 0, 0), 0.0, 1)


def test_ledger_of_a_model_never_called_is_empty() -> None:
    """Asking for sums neither fails nor enters anything."""
    ledger = Ledger()
    assert ledger.totals("one") == ledger.totals() == Totals()
    assert ledger.by_model() == {}


def test_ledger_forgets_on_reset() -> None:
    """After a reset a ledger is as new, and what was read before stays as it was."""
    ledger = Ledger()
    ledger.add("one", Usage(10, 5, 15), 0.25)
    before = ledger.by_model()
    ledger.reset()
    assert ledger.totals() == Totals()
    assert before["one"].calls == 1


def test_ledger_says_what_it_holds() -> None:
    """The repr gives calls, tokens, cost, and how much of it is unknown."""
    ledger = Ledger()
    assert repr(ledger) == "<Ledger: 0 calls, 0 tokens, $0>"
    ledger.add("one", Usage(1_000, 500, 1_500), 0.0123)
    assert repr(ledger) == "<Ledger: 1 call, 1,500 tokens, $0.0123>"
    ledger.add("one", Usage(0, 0, 0))
    ledger.add("one", Usage(0, 0, 0))
    assert repr(ledger) == "<Ledger: 3 calls, 1,500 tokens, $0.0123 and 2 calls of unknown price>"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda ledger: pickle.loads(pickle.dumps(ledger))])
def test_ledger_travels_without_its_lock(duplicate: object) -> None:
    """A copy has the same sums, and adding to it leaves the original alone."""
    ledger = Ledger()
    ledger.add("one", Usage(10, 5, 15), 0.25)
    twin = duplicate(ledger)  # type: ignore[operator]
    twin.add("one", Usage(10, 5, 15), 0.25)
    assert (ledger.totals().calls, twin.totals().calls) == (1, 2)


def test_ledger_loses_nothing_between_threads() -> None:
    """Sums entered by several threads at once are all there."""
    ledger, start = Ledger(), threading.Barrier(4)

    def work(name: str) -> None:
        start.wait()
        for _ in range(500):
            ledger.add("shared", Usage(1, 1, 2), 0.5)
            ledger.add(name, Usage(1, 0, 1))

    threads = [threading.Thread(target=work, args=(f"own-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.totals("shared") == Totals(2000, Usage(2000, 2000, 4000), 1000.0, 0)
    assert ledger.totals() == Totals(4000, Usage(4000, 2000, 6000), 1000.0, 2000)


def test_what_was_added_is_the_difference() -> None:
    """Totals less earlier ones of the same ledger are what came in between."""
    ledger = Ledger()
    ledger.add("a", Usage(1, 2, 3, 1, 1), 0.5)
    before = ledger.totals()
    ledger.add("b", Usage(10, 20, 30), None)
    assert ledger.totals() - before == Totals(1, Usage(10, 20, 30), 0.0, 1)
