"""What is known of families of models, and that the table behind it is sound."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from chutes_core.catalog.traits import Traits, family_tags, snapshot, traits_for


def families() -> list[dict[str, object]]:
    rows = snapshot()["families"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.parametrize(
    ("model", "trait", "value"),
    [
        ("Qwen/Qwen3.5-397B-A17B-TEE", "single_system", True),
        ("Qwen/Qwen3.8-27B-TEE", "single_system", True),
        ("Qwen/Qwen3-32B-TEE", "single_system", False),
        ("Qwen/Qwen3-32B-TEE", "thinking_default", True),
        ("Qwen/Qwen3-32B-TEE", "starts_thinking", False),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507-TEE", "starts_thinking", True),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", "thinking_default", False),
        ("Qwen/Qwen3.5-4B", "thinking_default", False),
        ("Qwen/Qwen3.5-27B", "thinking_default", True),
        ("Qwen/Qwen3.8-27B-TEE", "thinking_default", None),
        ("deepseek-ai/DeepSeek-V3.2-TEE", "thinking_default", False),
        ("deepseek-ai/DeepSeek-V3.2-TEE", "echo_reasoning", True),
        ("deepseek-ai/DeepSeek-V3.2-Speciale-TEE", "thinking_default", True),
        ("deepseek-ai/DeepSeek-R1-0528-TEE", "echo_reasoning", False),
        ("moonshotai/Kimi-K2-Thinking", "echo_reasoning", True),
        ("moonshotai/Kimi-K3-TEE", "echo_reasoning", True),
        ("moonshotai/Kimi-K2-Instruct-0905", "echo_reasoning", None),
        ("zai-org/GLM-5.2-TEE", "echo_reasoning", True),
        ("zai-org/GLM-4.7-TEE", "thinking_default", True),
        ("MiniMaxAI/MiniMax-M2.5-TEE", "echo_reasoning", True),
        ("XiaomiMiMo/MiMo-V2-Flash", "thinking_default", False),
        ("unsloth/Mistral-Nemo-Instruct-2407-TEE", "single_system", True),
        ("Nemotron-3-Nano-Omni-30B-TEE", "thinking_default", None),
        ("Qwen/Qwen3-Embedding-8B-TEE", "query_instruction", "Instruct: {task}\nQuery: {query}"),
        ("Qwen/Qwen3-Embedding-8B-TEE", "thinking_default", None),
        ("acme/unheard-of", "echo_reasoning", None),
    ],
)
def test_traits_of_a_family(model: str, trait: str, value: object) -> None:
    """A model has the traits of its family, listed in the catalogue or not."""
    assert getattr(traits_for(model), trait) == value


def test_upper_and_lower_case_do_not_matter() -> None:
    """A family is found however its name is written."""
    assert traits_for("QWEN/qwen3.6-27b") == traits_for("Qwen/Qwen3.6-27B") != Traits()


def test_only_models_that_always_think_start_inside_their_reasoning() -> None:
    """No model whose thinking can be off has its text read as reasoning."""
    starting = [row["match"] for row in families() if row.get("starts_thinking") is True]
    assert starting == ["*qwen3*-thinking-2507*"]


def test_no_family_says_what_only_a_measurement_tells() -> None:
    """Whether a model continues an answer is unknown until it was asked."""
    assert not [row["match"] for row in families() if "prefill" in row]


def test_tags_add_up_over_families() -> None:
    """A model that belongs to two families has the tags of both."""
    assert family_tags("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B") == {"deepseek", "qwen"}


@pytest.mark.parametrize("row", families(), ids=lambda row: str(row["match"]))
def test_every_row_of_the_table_says_something_that_is_read(row: dict[str, object]) -> None:
    """No row has a misspelt trait, a value of the wrong type, or a pattern that can never match."""
    said = {key: value for key, value in row.items() if key not in ("match", "tags")}
    assert Traits.from_dict(said).to_dict() == said
    assert said or row["tags"]
    pattern = str(row["match"])
    assert pattern == pattern.lower(), "names are compared in lower case"
    assert not fnmatchcase("acme/unheard-of", pattern)


def test_wrong_types_are_unknown_traits() -> None:
    """Traits from plain data drop what makes no sense, and a template without a place for the query."""
    raw = {"single_system": 1, "echo_reasoning": None, "query_instruction": "Instruct: {task}", "more": True}
    raw |= {"prefill": "sometimes"}
    assert Traits.from_dict(raw) == Traits()


def test_traits_survive_being_stored() -> None:
    """Plain data made from traits gives the same traits."""
    traits = Traits(single_system=False, starts_thinking=True, query_instruction="Q: {query}", prefill="no")
    assert Traits.from_dict(traits.to_dict()) == traits
