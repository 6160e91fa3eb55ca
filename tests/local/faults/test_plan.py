"""Fault plans: text, counts, probabilities, scripts."""

from __future__ import annotations

import threading

import pytest

from chutes_local.faults.kinds import KINDS, Fault
from chutes_local.faults.plan import FaultPlan, as_fault


def drawn(plan: FaultPlan, count: int, *names: str) -> list[str | None]:
    faults = [plan.draw(*(names or ("m",))) for _ in range(count)]
    return [fault.kind if fault else None for fault in faults]


def test_a_rule_strikes_its_model_alone() -> None:
    """A rule concerns the model it names."""
    plan = FaultPlan("m=capacity")
    assert drawn(plan, 2) == ["capacity", "capacity"]
    assert drawn(plan, 1, "other") == [None]


def test_a_pattern_strikes_models_but_no_paths() -> None:
    """A star means every model; paths have rules of their own."""
    plan = FaultPlan("*=cold", "/v1/models=bad_gateway")
    assert drawn(plan, 1, "any/model") == ["cold"]
    assert drawn(plan, 1, "/v1/other") == [None]
    assert drawn(plan, 1, "/v1/models") == ["bad_gateway"]


def test_the_first_rule_that_fires_wins() -> None:
    """Rules are asked in order; a used-up one gives way to the next."""
    plan = FaultPlan("m=cold x1", "m=capacity x1")
    assert drawn(plan, 3) == ["cold", "capacity", None]


def test_the_seed_fixes_the_outcomes() -> None:
    """The same seed draws the same faults, another seed others."""
    first = drawn(FaultPlan("m=capacity:0.5", seed=1), 40)
    assert first == drawn(FaultPlan("m=capacity:0.5", seed=1), 40)
    assert first != drawn(FaultPlan("m=capacity:0.5", seed=2), 40)
    assert {None, "capacity"} == set(first)


def test_clear_starts_the_probabilities_anew() -> None:
    """After clear() the same rule draws the same row again."""
    plan = FaultPlan("m=capacity:0.5", seed=3)
    before = drawn(plan, 20)
    plan.clear()
    assert drawn(plan, 1) == [None]
    plan.parse("m=capacity:0.5")
    assert drawn(plan, 20) == before


def test_requests_for_other_models_do_not_move_the_dice() -> None:
    """One model's outcomes do not depend on what was asked of another."""
    alone, mixed = FaultPlan("m=cold:0.5", seed=5), FaultPlan("m=cold:0.5", "n=cold:0.5", seed=5)
    expected = drawn(alone, 10)
    seen = []
    for _ in range(10):
        drawn(mixed, 3, "n")
        seen += drawn(mixed, 1, "m")
    assert seen == expected


def test_a_script_is_consumed_step_by_step() -> None:
    """A script has one step per request, with ok for a good one and x2 for two."""
    plan = FaultPlan("m=capacity x2 > ok > reset(after=1)")
    assert drawn(plan, 5) == ["capacity", "capacity", None, "reset", None]


def test_options_are_read() -> None:
    """The parentheses carry after, seconds and value."""
    assert as_fault("stall(after=3, seconds=0.5)") == Fault("stall", after=3, seconds=0.5)
    assert as_fault("retry-after(value=300)") == Fault("retry_after", value="300")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_written_as_text(kind: str) -> None:
    """Every kind has a text form, and a line about itself."""
    assert drawn(FaultPlan(f"m={kind}x1"), 2) == [kind, None]
    assert KINDS[kind].summary


def test_an_unknown_kind_is_refused_with_the_nearest_names() -> None:
    """A typo is answered with a suggestion."""
    with pytest.raises(ValueError, match=r"Did you mean capacity, .* or .*--list-faults` lists them all"):
        FaultPlan("m=capacty")


@pytest.mark.parametrize(
    "spec", ["capacity", "=capacity", "m=", "m=capacity:2", "m=capacity!", "m=stall(often=1)", "m=cold:0.5 > ok"]
)
def test_rules_that_make_no_sense_are_refused(spec: str) -> None:
    """A rule that cannot be read is refused at the door."""
    with pytest.raises(ValueError, match=r"\w"):
        FaultPlan(spec)


def test_a_path_cannot_have_a_fault_inside_a_stream() -> None:
    """Faults inside an answer need a model."""
    with pytest.raises(ValueError, match="name a model"):
        FaultPlan("/v1/models=restart")


def test_describe_tells_what_is_left() -> None:
    """A plan lists its rules, with the count that remains."""
    plan = FaultPlan("m=cold x2", "n=capacity:0.3")
    plan.draw("m")
    assert plan.describe() == ["m=cold (1 left)", "n=capacity:0.3"]
    assert "seed=0" in repr(plan)


def test_threads_share_a_count_exactly() -> None:
    """A counted rule fires exactly so many times, whoever asks."""
    plan = FaultPlan("m=cold x500")
    hits: list[str | None] = []
    threads = [threading.Thread(target=lambda: hits.extend(drawn(plan, 200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hits.count("cold") == 500
    assert hits.count(None) == 300


@pytest.mark.parametrize("text", ["capacity", "stall(after=3, seconds=0.5)", "retry_after(value=300)"])
def test_a_fault_can_be_read_back_from_its_text(text: str) -> None:
    """What a plan lists can be given to another plan."""
    assert str(as_fault(text)) == text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("*=stall(after=x)", "'*=stall(after=x)': after must be a whole number, not 'x'."),
        ("*=stall(after=)", "'*=stall(after=)': after must be a whole number, not ''."),
        ("*=stall(after=1.5)", "'*=stall(after=1.5)': after must be a whole number, not '1.5'."),
        ("*=stall(after=-1)", "Fault stall: after must be a whole number of at least 0, not -1."),
        ("*=stall(seconds=soon)", "'*=stall(seconds=soon)': seconds must be a number, not 'soon'."),
        ("*=stall(seconds=nan)", "Fault stall: seconds must be a number of at least 0, not nan."),
        ("*=stall(seconds=inf)", "Fault stall: seconds must be a number of at least 0, not inf."),
        ("*=stall(after=1, after=2)", "'*=stall(after=1, after=2)': after is given twice."),
        ("*=cold:0.1.2", "'*=cold:0.1.2': the probability must be a number, not '0.1.2'."),
        ("*=cold:7", "*: the probability must be between 0 and 1, not 7.0."),
        ("*=cold x0", "*: times must be a whole number of at least 1, not 0."),
        (
            "*=retry_after(value=\u00e9)",
            "Fault retry_after: value must be a text of printable characters, not '\u00e9'.",
        ),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(spec: str, said: str) -> None:
    """In words, and with the part that is wrong."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        FaultPlan(spec)
    assert str(caught.value) == said


def test_a_rule_for_no_model_is_refused_if_the_models_are_known() -> None:
    """With the names that were perhaps meant; patterns must fit one, and paths are no models."""
    plan = FaultPlan("Qwen/*=cold", "/v1/models=garbage", models=["Qwen/Qwen3-32B-TEE", "other/model"])
    with pytest.raises(ValueError, match=r"no model 'Qwen/Qwen3-32B' here\. Did you mean Qwen/Qwen3-32B-TEE\?"):
        plan.add("Qwen/Qwen3-32B", "cold")
    for wrong in ("nobody/*=cold", "qwen/*=cold"):
        with pytest.raises(ValueError, match="Did you mean"):
            plan.parse("other/model=cold", wrong)
    assert plan.describe() == ["Qwen/*=cold", "/v1/models=garbage"]


def test_what_is_set_replaces_and_comes_first() -> None:
    """The last word on a target holds; among each other, rules for one target keep their order."""
    plan = FaultPlan("*=auth", "m=cold", "m=quota x1")
    plan.set("m=capacity x1", "m=garbage x1")
    assert plan.describe() == ["m=capacity (1 left)", "m=garbage (1 left)", "*=auth"]
    assert drawn(plan, 3) == ["capacity", "garbage", "auth"]


def test_what_is_added_is_never_without_effect() -> None:
    """It takes the place of a rule for the same target that would always strike, and its turn after one that ends."""
    assert drawn(FaultPlan("m=cold").add("m", "capacity"), 2) == ["capacity", "capacity"]
    assert drawn(FaultPlan("m=cold x1").add("m", "capacity"), 2) == ["cold", "capacity"]
    assert FaultPlan("m=cold:0.5").add("m", "capacity").describe() == ["m=cold:0.5", "m=capacity"]
