"""Budgets: what is reserved and spent stays within the limits, whoever asks and however many at once."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import BudgetExceededError, ChutesError, ConfigurationError
from chutes_core.spending.budget import REPLY_TOKENS, Budget, Estimate, estimate, prompt_tokens
from chutes_core.usage import Usage

PRICED = ModelInfo(id="acme/one", price_in=1.0, price_out=4.0, max_output=2_000, context_length=10_000)


@pytest.mark.parametrize(
    ("info", "options", "expected"),
    [
        (PRICED, {"max_tokens": 500}, Estimate(1_500, 0.003)),
        (PRICED, {"max_tokens": 0}, Estimate(1_000, 0.001)),
        (PRICED, {"max_tokens": 500, "answers": 3}, Estimate(2_500, 0.007)),
        (PRICED, {}, Estimate(3_000, 0.009)),
        (PRICED, {"reply_tokens": 100}, Estimate(1_100, 0.0014)),
        (PRICED, {"reply_tokens": 100, "max_tokens": 500}, Estimate(1_500, 0.003)),
        (ModelInfo(id="a", context_length=1_200), {}, Estimate(1_200, None)),
        (ModelInfo(id="a", context_length=900), {}, Estimate(1_001, None)),
        (ModelInfo(id="a"), {}, Estimate(1_000 + REPLY_TOKENS, None)),
        (None, {}, Estimate(1_000 + REPLY_TOKENS, None)),
    ],
)
def test_a_call_is_bounded_by_its_longest_answer(info: Any, options: dict[str, int], expected: Estimate) -> None:
    """What the call allows, else what you say, else what the model can give at most."""
    found = estimate(1_000, info, **options)
    assert found.tokens == expected.tokens
    assert found.usd == pytest.approx(expected.usd)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ("", 0),
        ("abc", 1),
        ("abcd", 2),
        ("词元é", 3),
        (["abc", "abc"], 2),
        ({"role": "user", "content": "abc"}, 5),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA" * 9_999}}, 1_200),
        ({"type": "input_audio", "input_audio": {"data": "AAAA" * 9_999, "format": "wav"}}, 1_200),
        (None, 0),
        (5, 1),
        ([101, 2_023, 102], 3),
        ("31415", 5),
        (
            {"name": "abc", "parameters": {"properties": {"abcdef": {"type": "string"}}}},
            4 + 2 + 1 + 4 + 4 + 4 + 4 + 2 + 4,
        ),
        ({"properties": {"type": {"enum": ["abc"]}}}, 4 + 4 + 4 + 4 + 2 + 1),
        (b"abc", 0),
    ],
)
def test_a_prompt_is_estimated_from_plain_data(value: object, tokens: int) -> None:
    """Texts count wherever they stand; a picture counts the same whatever its size."""
    assert prompt_tokens(value) == tokens


@given(st.text(max_size=200))
def test_an_estimate_is_rather_too_high(text: str) -> None:
    """It is never below what four letters of English or two of any other script to a token would give."""
    plain = sum(character < "\x80" for character in text)
    assert prompt_tokens(text) >= plain / 4 + (len(text) - plain) / 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs a limit"),
        ({"usd": 0}, "usd must be a positive number, not 0"),
        ({"usd": float("nan")}, "usd must be"),
        ({"usd": float("inf")}, "usd must be"),
        ({"tokens": -1}, "tokens must be"),
        ({"tokens": True}, "tokens must be"),
        ({"usd": "5"}, "usd must be"),
        ({"usd": 1, "reply_tokens": 0}, "reply_tokens must be"),
        ({"usd": 1, "unpriced": "guess"}, "'refuse' or 'allow'"),
    ],
)
def test_a_limit_that_is_none_is_refused(given: dict[str, Any], said: str) -> None:
    """Bad input is an error when the budget is made."""
    with pytest.raises(ConfigurationError, match=said):
        Budget(**given)


@pytest.mark.parametrize(
    ("limit", "wanted", "spent", "said"),
    [
        ({"usd": 1.0}, Estimate(10, 0.5), 0.6, r"may cost up to \$0.5, with \$0.4 of \$1 left"),
        ({"tokens": 100}, Estimate(95, None), 0.0, r"may use up to 95 tokens, with 90 of 100 tokens left \(10 spent"),
        ({"usd": 9.0, "tokens": 50}, Estimate(60, 0.1), 0.0, "may use up to 60 tokens"),
        ({"tokens": 1}, Estimate(40_960, None), 0.0, "may use up to 40,960 tokens, with 0 of 1 token left"),
        ({"usd": 1.0}, Estimate(10, None), 0.0, "its price is not known"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    limit: dict[str, Any], wanted: Estimate, spent: float, said: str
) -> None:
    """The error has the numbers, the model and the budget, and nothing was set aside."""
    budget = Budget(**limit)
    budget.add("acme/one", Usage(5, 5, 10), cost=spent)
    with pytest.raises(BudgetExceededError, match=said) as caught:
        budget.reserve("acme/one", wanted)
    assert (caught.value.model, caught.value.budget) == ("acme/one", budget)
    assert budget.reserved == Estimate(0, 0.0)
    assert isinstance(caught.value, ChutesError)
    assert not isinstance(caught.value, ValueError)


def test_to_the_last_cent() -> None:
    """What fits exactly fits, in spite of how floats add up; the next does not."""
    budget = Budget(usd=0.3)
    for _ in range(3):
        budget.reserve("acme/one", Estimate(1, 0.1)).settle(Usage(1, 0, 1), 0.1)
    with pytest.raises(BudgetExceededError):
        budget.reserve("acme/one", Estimate(1, 1e-9))


def test_what_was_used_takes_the_place_of_what_was_reserved() -> None:
    """A hold ends with its block, settled or not, and ending it twice changes nothing."""
    budget = Budget(tokens=100)
    with budget.reserve("acme/one", Estimate(80, None)) as hold:
        assert budget.reserved.tokens == 80
        hold.settle(Usage(10, 5, 15), model="acme/two")
    hold.release()
    with budget.reserve("acme/one", Estimate(80, None)):
        pass
    assert budget.reserved.tokens == 0
    assert budget.by_model().keys() == {"acme/two"}
    budget.reset()
    assert budget.totals().calls == 0


def test_without_a_price_a_call_may_be_allowed() -> None:
    """It costs nothing against the dollars, and is counted as one of unknown price."""
    budget = Budget(usd=1.0, unpriced="allow")
    budget.reserve("acme/two", Estimate(10**9, None)).settle(Usage(5, 5, 10))
    assert (budget.totals().cost, budget.totals().unpriced_calls) == (0.0, 1)


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), max_size=60), st.integers(1, 300))
def test_the_limit_holds_whatever_comes(calls: list[tuple[int, int]], limit: int) -> None:
    """As long as no call uses more than it reserved, no order of beginnings and ends passes the limit."""
    budget, under_way = Budget(tokens=limit), []
    for wanted, used in calls:
        try:
            under_way.append((budget.reserve("m", Estimate(wanted, None)), min(used, wanted)))
        except BudgetExceededError:
            if under_way:
                hold, tokens = under_way.pop(0)
                hold.settle(Usage(tokens, 0, tokens))
        assert budget.totals().usage.total_tokens + budget.reserved.tokens <= limit


def test_many_threads_reserve_one_after_the_other() -> None:
    """Of a hundred that begin together as many get through as fit, whatever the timing."""
    budget, start = Budget(tokens=1_000), threading.Barrier(20, timeout=60)
    got: list[bool] = []

    def work() -> None:
        start.wait()
        for _ in range(5):
            try:
                budget.reserve("m", Estimate(30, None))
            except BudgetExceededError:
                got.append(False)
            else:
                got.append(True)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(got), len(got)) == (33, 100)


def test_it_travels_and_is_shared() -> None:
    """A pickle takes limits and sums along and is a budget of its own; a deep copy is the same budget."""
    budget = Budget(usd=2.0, tokens=500, reply_tokens=50, unpriced="allow")
    budget.add("acme/one", Usage(5, 5, 10), 0.5)
    budget.reserve("acme/one", Estimate(100, 0.1))
    other = pickle.loads(pickle.dumps(budget))
    assert repr(other) == repr(budget) == "<Budget: $0.5 of $2, 10 of 500 tokens spent>"
    assert (other.reply_tokens, other.unpriced, other.reserved) == (50, "allow", Estimate(0, 0.0))
    assert copy.deepcopy(budget) is budget
    error = BudgetExceededError("no more", model="acme/one", budget=budget)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.model, repr(again.budget)) == ("no more", "acme/one", repr(budget))


def test_shares_allow_no_more_than_the_whole() -> None:
    """What is spent and reserved is not shared out, and of nothing there are no shares."""
    budget = Budget(usd=1.0, tokens=1_000)
    budget.add("acme/one", Usage(100, 0, 100), 0.2)
    budget.reserve("acme/one", Estimate(100, 0.2))
    shares = budget.split(3)
    assert sum(share.tokens or 0 for share in shares) <= 800
    assert sum(share.usd or 0 for share in shares) == pytest.approx(0.6)
    with pytest.raises(ConfigurationError):
        budget.split(0)
    with pytest.raises(BudgetExceededError, match="Nothing is left"):
        budget.split(801)
