"""The model string: names, lists, aliases, ranking."""

from __future__ import annotations

import pytest

from chutes_local.gateway.routing import rename, resolve, split_thinking
from chutes_local.world.fleet import Fleet

QWEN, GEMMA, FLASH = "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE", "deepseek-ai/DeepSeek-V4-Flash-0731-TEE"
UNMEASURED, EMBEDDER = "zai-org/GLM-5.2-TEE", "Qwen/Qwen3-Embedding-8B-TEE"


@pytest.fixture
def fleet() -> Fleet:
    return Fleet.load()


def names(model: str, fleet: Fleet, aliases: dict[str, list[str]] | None = None, template: str = "vllm") -> list[str]:
    return [chute.name for chute in resolve(model, fleet, aliases or {}, template)]


def test_an_exact_name_or_id_is_that_chute(fleet: Fleet) -> None:
    """A name and a chute id lead to one chute, running or not."""
    fleet.change(QWEN, machines=0)
    chute = fleet.find(QWEN)
    assert chute
    assert names(QWEN, fleet) == [QWEN]
    assert names(chute.chute_id, fleet) == [QWEN]


def test_a_list_is_tried_in_its_order(fleet: Fleet) -> None:
    """Without ranking the order given is the order tried; spaces and doubles do not matter."""
    assert names(f"{GEMMA} , {QWEN},{GEMMA}", fleet) == [GEMMA, QWEN]


def test_cold_members_are_left_out(fleet: Fleet) -> None:
    """Members without machines are excluded, and a fully cold list is nothing at all."""
    fleet.change(QWEN, machines=0)
    assert names(f"{QWEN},{GEMMA}", fleet) == [GEMMA]
    fleet.change(GEMMA, machines=0)
    assert names(f"{QWEN},{GEMMA}", fleet) == []


def test_busy_members_come_last(fleet: Fleet) -> None:
    """Members at capacity are tried after those that are free."""
    fleet.change(QWEN, busy=True)
    assert names(f"{QWEN},{GEMMA}", fleet) == [GEMMA, QWEN]


def test_latency_and_throughput_rank(fleet: Fleet) -> None:
    """Latency goes up, throughput goes down, the unmeasured come at the end."""
    pool = f"{UNMEASURED},{QWEN},{GEMMA},{FLASH}"
    assert names(f"{pool}:latency", fleet) == [GEMMA, FLASH, QWEN, UNMEASURED]
    assert names(f"{pool}:THROUGHPUT", fleet) == [FLASH, GEMMA, QWEN, UNMEASURED]


def test_ranking_drops_the_busy_unless_all_are(fleet: Fleet) -> None:
    """A ranked list leaves busy members out; when all are busy it falls back to the given order."""
    fleet.change(GEMMA, busy=True)
    assert names(f"{QWEN},{GEMMA}:latency", fleet) == [QWEN]
    fleet.change(QWEN, busy=True)
    assert names(f"{QWEN},{GEMMA}:latency", fleet) == [QWEN, GEMMA]


def test_aliases_expand_alone_and_in_lists(fleet: Fleet) -> None:
    """An alias works by itself, in a list, in any case, and with a suffix."""
    ids = [chute.chute_id for name in (QWEN, GEMMA) if (chute := fleet.find(name))]
    aliases = {"default": ids}
    assert names("Default", fleet, aliases) == [QWEN, GEMMA]
    assert names("default:latency", fleet, aliases) == [GEMMA, QWEN]
    assert names(f"{FLASH},default", fleet, aliases) == [FLASH, QWEN, GEMMA]
    assert names("default", fleet) == []


def test_unknown_members_are_dropped(fleet: Fleet) -> None:
    """An unknown name in a list is skipped; alone it is nothing."""
    assert names(f"nobody/knows,{QWEN}", fleet) == [QWEN]
    assert names("nobody/knows", fleet) == []


def test_the_template_filters(fleet: Fleet) -> None:
    """The embedding model is not found on the LLM gateway, nor a chat model on the other."""
    assert names(EMBEDDER, fleet) == []
    assert names(EMBEDDER, fleet, template="embedding") == [EMBEDDER]
    assert names(QWEN, fleet, template="embedding") == []


def test_renames_apply_to_whole_strings_only(fleet: Fleet) -> None:
    """A bare name gains -TEE when it stands alone, and not inside a list."""
    assert rename("Qwen/Qwen3-32B", fleet) == QWEN
    assert rename("Qwen/Qwen3-32B,x", fleet) == "Qwen/Qwen3-32B,x"
    assert rename("THUDM/GLM-5.2", fleet) == "zai-org/GLM-5.2-TEE"


def test_the_thinking_suffix_must_be_last() -> None:
    """:THINKING counts at the very end, and swallows what follows its first appearance."""
    assert split_thinking("a:THINKING") == ("a", True)
    assert split_thinking("a:THINKING:latency") == ("a:THINKING:latency", False)
    assert split_thinking("a:THINKING,b:THINKING") == ("a", True)
