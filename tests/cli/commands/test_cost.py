"""``chutes-connect cost``: sums that can be checked by hand."""

from __future__ import annotations

import argparse

import pytest

from chutes_cli.commands.cost import Workload, estimates, reference
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.settings import BASE_URL
from chutes_local import LocalChutes
from tests.cli.conftest import MODEL, Run

WORK = ("cost", "--calls-per-day", "10k", "--in", "800", "--out", "300")
ONE = ModelInfo(id="acme/one", price_in=0.1, price_out=0.4, price_cached=0.01)


def test_the_sum_by_hand() -> None:
    """10,000 calls of 800 and 300 tokens at 0.1 and 0.4 dollars a million are 2 dollars a day."""
    (found,) = estimates([ONE], Workload(10_000, 800, 300))
    assert found.per_call == pytest.approx(0.0002)
    assert found.per_day == pytest.approx(2.0)
    assert found.per_month == pytest.approx(60.0)
    assert found.ratio is None


def test_what_is_cached_costs_less() -> None:
    """Half of the prompt from the cache costs the cache's price."""
    (found,) = estimates([ONE], Workload(1_000_000, 1000, 0, cached=0.5))
    assert found.per_day == pytest.approx(500 * 0.1 + 500 * 0.01)


def test_the_cheapest_first_and_the_unknown_last() -> None:
    """What is not known has no figure, and comes last; ratios are to the first reference."""
    unknown = ModelInfo(id="acme/unknown")
    other = reference("gpt-x=1,4")
    found = estimates([unknown, ONE], Workload(1, 1000, 1000), [other])
    assert [each.model for each in found] == ["acme/one", "gpt-x", "acme/unknown"]
    assert [each.ratio for each in found] == [pytest.approx(0.1), 1.0, None]
    assert found[1].is_reference


def test_a_workload_of_nothing_has_no_ratio() -> None:
    """Nothing divided by nothing is not known."""
    assert [each.ratio for each in estimates([ONE], Workload(1, 0, 0), [reference("x=1,1")])] == [None, None]


@pytest.mark.parametrize("text", ["x", "x=1", "=1,2", "x=1,two", "x=-1,2", "x=1,2,3,4"])
def test_a_reference_that_cannot_be_read(text: str) -> None:
    """A reference is a name and two or three prices."""
    with pytest.raises(argparse.ArgumentTypeError, match="must be NAME=IN,OUT"):
        reference(text)


def test_the_table_compares_with_what_is_paid_elsewhere(run: Run) -> None:
    """The reference stands among the models, and every row says how many times its price it costs."""
    ran = run(*WORK, "--models", f"{MODEL},zai-org/GLM-5.2-TEE", "--reference", "gpt-x=2.5,10", width=80)
    assert [line.split() for line in ran.lines] == [
        ["model", "a", "call", "a", "day", "30", "days", "of", "gpt-x"],
        [MODEL, "$0.000208", "$2.08", "$62.40", "0.04x"],
        ["zai-org/GLM-5.2-TEE", "$0.00218", "$21.85", "$655.50", "0.44x"],
        ["gpt-x", "$0.005", "$50.00", "$1,500.00", "1.00x"],
    ]
    assert "the snapshot of 2026-08-22" in ran.err
    assert max(map(len, ran.lines)) <= 80


def test_json_has_the_workload_and_every_figure(run: Run) -> None:
    """--json repeats what was asked, with numbers that are not rounded."""
    found = run(*WORK, "--cached", "50%", "--pick", "tools, <=0.3$", "--reference", "gpt-x=2.5,10", "--json").json
    assert found["workload"] == {"calls_per_day": 10000, "in": 800, "out": 300, "cached": 0.5, "days": 30}
    assert found["reference"] == "gpt-x"
    assert [each["model"] for each in found["models"]] == ["deepseek-ai/DeepSeek-V4-Flash-0731-TEE", "gpt-x"]
    assert set(found["models"][0]) == {"model", "per_call", "per_day", "per_month", "ratio", "is_reference"}


def test_nothing_is_asked_of_the_service_unless_it_is_wanted(run: Run, service: LocalChutes) -> None:
    """The list at hand will do; --live takes the prices of today."""
    assert run(*WORK, "--base-url", BASE_URL).status == 0
    assert not service.journal.entries
    assert "chutes-local/outside-sample" in run(*WORK, "--live").out


@pytest.mark.parametrize("text", ["-5", "0", "many"])
def test_a_number_of_calls_is_asked_for_as_one(run: Run, text: str) -> None:
    """What is said of a wrong number of calls speaks of calls, not of tokens."""
    said = run(*WORK, "--calls-per-day", text).err
    assert f"{text!r} is not a positive number of calls, such as 10000 or 10k" in said


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--models", "Qwen/Qwen3-33B"], 8),
        (["--pick", "fast"], 2),
        (["--pick", "<=0.0001"], 1),
        (["--cached", "2"], 2),
        (["--calls-per-day", "0"], 2),
    ],
)
def test_mistakes(run: Run, words: list[str], status: int) -> None:
    """What cannot be meant is refused, and what nobody meets is not found."""
    ran = run(*WORK, *words)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.count("\n") == 1


def test_prices_of_a_gateway_of_ones_own_are_its_own(run: Run, service: LocalChutes) -> None:
    """They are in its list of models; where that cannot be had they are unknown, and never those of the service."""
    assert run(*WORK, "--models", MODEL, "--json").json["models"][0]["per_call"] is not None
    service.faults.parse("/v1/models=bad_gateway")
    ran = run(*WORK, "--models", MODEL, "--json")
    assert (ran.status, ran.json["models"][0]["per_call"]) == (0, None)
    assert " · price unknown · " in run("chat", MODEL, "Hello").err
