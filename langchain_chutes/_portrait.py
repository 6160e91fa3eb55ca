"""What a model that is made of several says of itself: what holds whoever answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, ModelProfile

from chutes_core.fallback import FallbackPolicy
from langchain_chutes._profile import Resolved, model_infos, model_profile
from langchain_chutes.chat_models import ChatChutes

__all__ = ["identity", "joint_profile", "rules"]


def joint_profile(members: Sequence[BaseChatModel]) -> ModelProfile | None:
    """A window that fits all, and what each of them can do."""
    own = [member for member in members if isinstance(member, ChatChutes)]
    told: list[Mapping[str, Any]] = [getattr(each, "profile", None) or {} for each in members if each not in own]
    if own:
        infos = [info for member in own for info in model_infos(member._known_models(), member.model)]
        told.append(model_profile(infos) or {})
    names = set.intersection(*(set(each) for each in told)) if told else set()
    if len(own) < len(members):
        names -= {"structured_output"}  # each provider has its own way, and only tools are common to all
    joint = Resolved({name: _joint([each[name] for each in told]) for name in names if name != "name"})
    return cast("ModelProfile", joint) if joint else None


def _joint(values: Sequence[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    return min(values) if all(isinstance(value, int) for value in values) else values[0]


def identity(member: BaseChatModel) -> dict[str, Any]:
    """What tells a member from others, for traces and the keys of caches."""
    return {**member._identifying_params, "_type": member._llm_type}


def rules(policy: FallbackPolicy) -> dict[str, object] | str:
    """A policy as plain data; one whose order is a function has none."""
    return "custom order" if callable(policy.order) else _rules(policy)


@lru_cache(maxsize=64)
def _rules(policy: FallbackPolicy) -> dict[str, object]:
    return policy.to_dict()
