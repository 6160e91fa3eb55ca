"""Who can answer, what a request needs, and who is left out for it before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.model_info import ModelInfo

__all__ = ["Member", "Needs", "eligible", "features_named", "reason_to_skip", "verify_of"]


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models of a fallback.

    Attributes:
        name: What it is called in traces: the model's id.
        account: Whose key it uses; members of one account share its limits and failures.
        info: What the catalogue knows; None for a model of another provider.
        host: Where it is served, so that the same name at two places is two targets.
        pool: Members of one pool could stand in one request, as a list of models that the service works through:
            they have the account and all parameters in common. None for those that cannot.
        sealed: How far its machines' proof is checked (``E2EE.verify``), where requests to it are sealed; "" where
            they are not.
        target: The key of its health.
        place: The key of what has become of it in a call: the same model may be listed with several keys.
        account_key: The key of its account's health.
    """

    name: str
    account: str = "default"
    info: ModelInfo | None = None
    host: str = ""
    pool: str | None = None
    sealed: str = ""
    target: str = field(init=False, repr=False, compare=False)
    place: str = field(init=False, repr=False, compare=False)
    account_key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Every call asks for them several times.
        object.__setattr__(self, "target", f"{self.host}|{self.name}")
        object.__setattr__(self, "place", f"{self.target}|{self.account}")
        object.__setattr__(self, "account_key", f"account:{self.account}")


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


def eligible(
    members: Sequence[Member], needs: Needs, policy: FallbackPolicy, lacks: Callable[[str], frozenset[str]]
) -> tuple[list[Member], list[tuple[Member, str]]]:
    """Part those who may be asked from those who are left out, with the reason.

    >>> small, large = (Member(n, info=ModelInfo(id=n, context_length=c)) for n, c in [("small", 100), ("large", 900)])
    >>> eligible([small, large], Needs(tokens=500), FallbackPolicy(), lambda target: frozenset())
    ([Member(name='large', ...)], [(Member(name='small', ...), 'window of 100 tokens is too small for 500')])
    """
    kept: list[Member] = []
    left_out: list[tuple[Member, str]] = []
    for member in members:
        reason = reason_to_skip(member, needs, policy, lacks=lacks(member.target))
        if reason is None:
            reason = _betrays(kept, member, policy)
        if reason is None:
            kept.append(member)
        else:
            left_out.append((member, reason))
    return kept, left_out


def _betrays(before: Sequence[Member], member: Member, policy: FallbackPolicy) -> str | None:
    """Say what would be lost by falling to a member without anybody having said so.

    The first of the service's own models sets what is expected. A model of another provider was named by hand, and
    the catalogue knows nothing of it: that is its user's word.
    """
    first = next((each for each in before if each.info is not None), None)
    if policy.confidential is False or member.info is None or first is None or first.info is None:
        return None
    if first.sealed and not member.sealed:
        return "not sealed, which the members before it are"
    if first.info.confidential is True and member.info.confidential is not True:
        return "no confidential compute, which the members before it have"
    return None


def _exposed(member: Member, policy: FallbackPolicy) -> str | None:
    """Say why a member may not see a request that is for confidential compute only."""
    info = member.info
    known = info.confidential if info is not None else None
    if known is True or (known is None and member.name in policy.trusted):
        return None
    if info is None:
        return "a model of another provider, which is not known to have confidential compute"
    return "no confidential compute" if known is False else "not known to have confidential compute"


def _unsealable(member: Member) -> str | None:
    """Say why no request can be sealed for a member that should have it sealed."""
    info = member.info
    if not member.sealed:
        return None
    if info is None or info.chute_id is None:
        return "not in the list of models, so no request can be sealed for it"
    if info.confidential is False and member.sealed != "off":
        return "no confidential compute, so its machines can prove nothing"
    return None


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
    if lacks and (refused := lacks & (needs.features | needs.modalities)):
        return f"it has refused {min(refused)} before"
    if policy.confidential and (exposed := _exposed(member, policy)):
        return exposed
    if unsealable := _unsealable(member):
        return unsealable
    info = member.info
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


def verify_of(wish: object) -> str:
    """Say how far the proof of a member's machines is checked; "" where requests are not sealed.

    >>> verify_of(True), verify_of(False)
    ('binding', '')
    """
    if wish is False:
        return ""
    from chutes_core.e2ee import E2EE

    settings = E2EE.of(wish)
    return settings.verify if settings is not None else ""


def features_named(message: str) -> set[str]:
    """The capabilities that a refusal speaks of.

    >>> features_named("this is not a multimodal model")
    {'image'}
    """
    words = {
        "image": ("image", "multimodal", "vision"),
        "video": ("video",),
        "tools": ("tool", "function call"),
        "structured_outputs": ("json_schema", "structured", "schema"),
        "json_mode": ("json_object", "json mode"),
    }
    lowered = message.lower()
    return {feature for feature, hints in words.items() if any(hint in lowered for hint in hints)}
