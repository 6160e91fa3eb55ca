"""The profile, identity and rules of a model with several members. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, ModelProfile

from chutes_core.fallback import FallbackPolicy
from langchain_chutes._convert.profile import Resolved, model_infos, model_profile
from langchain_chutes.chat_models import ChatChutes

__all__ = ["common", "identity", "joint_profile", "rules"]


def joint_profile(members: Sequence[BaseChatModel]) -> ModelProfile | None:
    """Return the smallest window and the capabilities shared by all members."""
    own = [member for member in members if isinstance(member, ChatChutes)]
    told: list[Mapping[str, Any]] = [getattr(each, "profile", None) or {} for each in members if each not in own]
    if own:
        infos = [info for member in own for info in model_infos(member._known_models(), member.model)]
        told.append(model_profile(infos) or {})
    names = set.intersection(*(set(each) for each in told)) if told else set()
    if len(own) < len(members):
        names -= {"structured_output"}  # methods differ between providers; only tools are common to all
    joint = Resolved({name: _joint([each[name] for each in told]) for name in names if name != "name"})
    return cast("ModelProfile", joint) if joint else None


def _joint(values: Sequence[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    return min(values) if all(isinstance(value, int) for value in values) else values[0]


def identity(member: BaseChatModel) -> dict[str, Any]:
    """Return what identifies a member, for traces and cache keys."""
    return {**member._identifying_params, "_type": member._llm_type}


def common(identities: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the parameters that are the same for every member, where tracers look for those of a model.

    >>> common([{"model": "acme/one", "temperature": 0.5}, {"model": "acme/two", "temperature": 0.5, "seed": 7}])
    {'temperature': 0.5}
    """
    first, *others = identities
    return {
        name: value
        for name, value in first.items()
        if name not in ("_type", "model") and all(name in each and each[name] == value for each in others)
    }


def rules(policy: FallbackPolicy) -> dict[str, object] | str:
    """Return a policy as plain data, or a placeholder if its order is a function."""
    return "custom order" if callable(policy.order) else _rules(policy)


@lru_cache(maxsize=64)
def _rules(policy: FallbackPolicy) -> dict[str, object]:
    return policy.to_dict()
