"""The members of a fallback, what a request needs, and which members are skipped for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import ConfigurationError
from chutes_core.tokens import least_tokens

if TYPE_CHECKING:
    from chutes_core.fallback.policy import FallbackPolicy

__all__ = [
    "OTHER_NAMES",
    "Member",
    "Needs",
    "eligible",
    "features_named",
    "modality",
    "reason_to_skip",
    "refuse_other_names",
    "verify_of",
]

_MODALITIES = ("image", "video", "audio")
_NONE: frozenset[str] = frozenset()
OTHER_NAMES = (
    "models",
    "model",
    "model_names",
    "model_name",
    "chat_models",
    "llms",
    "llm",
    "fallbacks",
    "fallback",
    "model_list",
)


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models of a fallback.

    Attributes:
        name: Its name in traces: the model's id.
        account: The account of its key; members of one account share its limits and failures.
        info: The catalogue entry; None for a model of another provider.
        host: Where it is served, so that the same name on two hosts is two targets.
        pool: Members of one pool can share a request, as a routing list: they have the same account and parameters.
            None for those that cannot.
        sealed: How far its machines' proofs are checked (``E2EE.verify``), if requests to it are sealed; else "".
        number: Which of several it is that have the same model and account, and differ in settings.
        target: The key of its health.
        place: The key of its state within a call: the same model may be listed with several API keys and settings.
        account_key: The key of its account's health.
    """

    name: str
    account: str = "default"
    info: ModelInfo | None = None
    host: str = ""
    pool: str | None = None
    sealed: str = ""
    number: int = 0
    target: str = field(init=False, repr=False, compare=False)
    place: str = field(init=False, repr=False, compare=False)
    account_key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Precomputed: every call reads them several times.
        object.__setattr__(self, "target", f"{self.host}|{self.name}")
        which = f"|{self.number}" if self.number else ""
        object.__setattr__(self, "place", f"{self.target}|{self.account}{which}")
        object.__setattr__(self, "account_key", f"account:{self.account}")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request requires of a model.

    Attributes:
        features: Some of "tools", "json_mode", "structured_outputs".
        modalities: Kinds of input besides text.
        tokens: The minimum length of prompt and answer together.
    """

    features: frozenset[str] = field(default_factory=frozenset)
    modalities: frozenset[str] = field(default_factory=frozenset)
    tokens: int = 0

    @classmethod
    def of(cls, params: Mapping[str, object], texts: Iterable[str], modalities: Iterable[str] = ()) -> Needs:
        """Derive the needs from a framework's call; the length errs on the low side.

        Args:
            params: The parameters of the call, under the service's names.
            texts: The texts of its messages.
            modalities: What its messages have besides text: "image", "video", "audio".

        >>> Needs.of({"max_completion_tokens": 100}, ["Hello there!"], ["image"])
        Needs(features=frozenset(), modalities=frozenset({'image'}), tokens=102)
        """
        length = sum(map(least_tokens, texts))
        if tools := params.get("tools"):
            length += least_tokens(json.dumps(tools, default=str, ensure_ascii=False))
        return cls(_features(params), frozenset(modalities), length + _answer_tokens(params))

    @classmethod
    def of_contents(cls, params: Mapping[str, object], contents: Iterable[object]) -> Needs:
        """Derive the needs from a call and the contents of its messages: texts, or lists of texts and parts.

        >>> Needs.of_contents({"max_tokens": 100}, ["Hello there!", [{"type": "image_url"}]])
        Needs(features=frozenset(), modalities=frozenset({'image'}), tokens=102)
        """
        texts: list[str] = []
        modalities: set[str] = set()
        for content in contents:
            for part in content if isinstance(content, list | tuple) else (content,):
                text = part.get("text") if isinstance(part, Mapping) else part
                if isinstance(text, str):
                    texts.append(text)
                elif found := modality(part):
                    modalities.add(found)
        return cls.of(params, texts, modalities)


def _features(params: Mapping[str, object]) -> frozenset[str]:
    if "tools" not in params and "response_format" not in params:
        return _NONE
    form = params.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else "json_schema" if isinstance(form, type) else None
    needed = {
        "tools": bool(params.get("tools")),
        "structured_outputs": kind == "json_schema",
        "json_mode": kind == "json_object",
    }
    return frozenset(name for name, wanted in needed.items() if wanted)


def _answer_tokens(params: Mapping[str, object]) -> int:
    wanted = params.get("max_tokens") or params.get("max_completion_tokens")
    return wanted if isinstance(wanted, int) else 0


def modality(part: object) -> str | None:
    """Return what a part of a message is besides text: "image", "video" or "audio"; None for anything else.

    >>> modality({"type": "input_audio"}), modality({"type": "image_url"}), modality({"type": "text"})
    ('audio', 'image', None)
    """
    kind = part.get("type") if isinstance(part, Mapping) else None
    name = kind.removeprefix("input_").removesuffix("_url") if isinstance(kind, str) else ""
    return name if name in _MODALITIES else None


def eligible(
    members: Sequence[Member], needs: Needs, policy: FallbackPolicy, lacks: Callable[[str], frozenset[str]]
) -> tuple[list[Member], list[tuple[Member, str]]]:
    """Split members into those that may be asked and those skipped, with the reason.

    >>> from chutes_core.fallback import FallbackPolicy
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
    """Return which protection would be lost by falling back to a member, unless the user allowed it.

    The first of the service's own models sets the standard. A model of another provider was listed by hand and is not
    in the catalogue, so the user vouches for it.
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
    """Return why a member may not get a request restricted to confidential compute."""
    info = member.info
    known = info.confidential if info is not None else None
    if known is True or (known is None and member.name in policy.trusted):
        return None
    if info is None:
        return "a model of another provider, which is not known to have confidential compute"
    return "no confidential compute" if known is False else "not known to have confidential compute"


def _unsealable(member: Member) -> str | None:
    """Return why requests cannot be sealed for a member that requires it."""
    info = member.info
    if info is None or (info.chute_id is None and not member.host):  # another gateway is asked for it at the call
        return "not in the catalogue, so no request can be sealed for it"
    if info.confidential is False and member.sealed != "off":
        return "no confidential compute, so its machines can prove nothing"
    return None


def reason_to_skip(member: Member, needs: Needs, policy: FallbackPolicy, *, lacks: frozenset[str]) -> str | None:
    """Return why a member cannot serve this request; None if no reason is known.

    Args:
        member: The member.
        needs: What the request needs.
        policy: The constraints.
        lacks: The features this member has refused before.
    """
    if policy.only and member.name not in policy.only:
        return "not among the members to use"
    if member.name in policy.ignore:
        return "among the members to ignore"
    if lacks and (refused := lacks & (needs.features | needs.modalities)):
        return f"it has refused {min(refused)} before"
    if policy.confidential and (exposed := _exposed(member, policy)):
        return exposed
    if member.sealed and (unsealable := _unsealable(member)):
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


def refuse_other_names(arguments: Collection[str]) -> None:
    """Refuse what the list of members is called elsewhere.

    >>> refuse_other_names(["models", "api_key"])
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: A fallback has no 'models' beside its members: list the model among them, ...
    """
    if name := next((name for name in OTHER_NAMES if name in arguments), None):
        raise ConfigurationError(
            f"A fallback has no {name!r} beside its members: list the model among them, as in "
            "members=['a/one', 'b/two']. from_models() takes a string of names, route() a table of routes."
        )


def verify_of(wish: object) -> str:
    """Return how far the proofs of a member's machines are checked; "" if requests are not sealed.

    >>> verify_of(True), verify_of(False)
    ('binding', '')
    """
    if wish is False:
        return ""
    from chutes_core.e2ee import E2EE

    settings = E2EE.of(wish)
    return settings.verify if settings is not None else ""


def features_named(message: str) -> set[str]:
    """Return the capabilities that a refusal mentions.

    >>> features_named("this is not a multimodal model")
    {'image'}
    """
    words = {
        "image": ("image", "multimodal", "vision"),
        "video": ("video",),
        "audio": ("audio",),
        "tools": ("tool", "function call"),
        "structured_outputs": ("json_schema", "structured", "schema"),
        "json_mode": ("json_object", "json mode"),
    }
    lowered = message.lower()
    return {feature for feature, hints in words.items() if any(hint in lowered for hint in hints)}
