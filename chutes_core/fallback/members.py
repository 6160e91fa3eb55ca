"""Who can answer, what a request needs, and who is left out for it before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.model_info import ModelInfo

__all__ = ["Member", "Needs", "reason_to_skip"]


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models of a fallback.

    Attributes:
        name: What it is called in traces: the model's id.
        account: Whose key it uses; members of one account share its limits and failures.
        info: What the catalogue knows; None for a model of another provider.
        host: Where it is served, so that the same name at two places is two targets.
    """

    name: str
    account: str = "default"
    info: ModelInfo | None = None
    host: str = ""

    @property
    def target(self) -> str:
        """The key of its health."""
        return f"{self.host}|{self.name}"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of the model that answers it.

    Attributes:
        features: Out of "tools", "json_mode", "structured_outputs".
        modalities: Kinds of input besides text.
        tokens: How long prompt and answer are together, at least.
    """

    features: frozenset[str] = field(default_factory=frozenset)
    modalities: frozenset[str] = field(default_factory=frozenset)
    tokens: int = 0

    @classmethod
    def of(cls, body: Mapping[str, object], prompt_tokens: int = 0) -> Needs:
        """Read them off a request body.

        >>> sorted(Needs.of({"tools": [{}], "messages": [], "max_tokens": 100}, prompt_tokens=50).features)
        ['tools']
        """
        features: set[str] = set()
        if body.get("tools"):
            features.add("tools")
        form = body.get("response_format")
        kind = form.get("type") if isinstance(form, Mapping) else None
        if kind in ("json_schema", "json_object"):
            features.add("structured_outputs" if kind == "json_schema" else "json_mode")
        wanted = body.get("max_tokens")
        answer = wanted if isinstance(wanted, int) else 0
        return cls(frozenset(features), frozenset(_modalities(body.get("messages"))), prompt_tokens + answer)


def _modalities(messages: object) -> set[str]:
    found: set[str] = set()
    for message in messages if isinstance(messages, Sequence) else ():
        content = message.get("content") if isinstance(message, Mapping) else None
        for part in content if isinstance(content, list | tuple) else ():
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind in ("image_url", "image"):
                found.add("image")
            elif kind in ("video_url", "video"):
                found.add("video")
    return found


def reason_to_skip(member: Member, needs: Needs, policy: FallbackPolicy, *, lacks: frozenset[str]) -> str | None:
    """Say why a member cannot serve this request; None when nothing is known against it.

    Args:
        member: The member.
        needs: What the request needs.
        policy: The constraints that hold.
        lacks: What this member has refused before.
    """
    if policy.only and member.name not in policy.only:
        return "not among the members to use"
    if member.name in policy.ignore:
        return "among the members to leave out"
    for feature in sorted(needs.features | needs.modalities):
        if feature in lacks:
            return f"it has refused {feature} before"
    info = member.info
    if policy.confidential and (info is None or info.confidential is not True):
        return "no confidential compute"
    if info is None:
        return None
    for feature in sorted(needs.features):
        if info.supports(feature) is False:
            return f"no {feature}"
    for modality in sorted(needs.modalities):
        if info.takes(modality) is False:
            return f"no {modality} input"
    if info.context_length is not None and needs.tokens > info.context_length:
        return f"window of {info.context_length:,} tokens is too small for {needs.tokens:,}"
    if policy.max_price is not None and info.price_out is not None and info.price_out > policy.max_price:
        return f"${info.price_out:g} is more than ${policy.max_price:g}"
    if policy.quantizations and info.quantization is not None and info.quantization not in policy.quantizations:
        return f"weights in {info.quantization}"
    return None
