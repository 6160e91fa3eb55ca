"""The first hop as one request to several members: a list of models that the service itself works through.

The service asks the next of its list where one has no room (429, 503), which spares a request for each. It does not
look at what a request needs, so only members that are known to be fit for it may stand in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from chutes_core.errors import APIError, Kind
from chutes_core.fallback.members import Member, Needs
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.model_info import ModelInfo

__all__ = ["Hop", "blamed", "joint_info", "together"]

N = TypeVar("N", int, float)
_RANKED = ("latency", "throughput")
_NO_ROOM = (Kind.CAPACITY, Kind.COLD)


@dataclass(frozen=True, slots=True)
class Hop:
    """Members that are asked together.

    Attributes:
        member: All of them as one, whose name is the list.
        members: They themselves, in their order.
    """

    member: Member
    members: tuple[Member, ...]

    def named(self, model: str | None) -> Member | None:
        """Find the one that a reply names.

        >>> hop = Hop(Member("a,b"), (Member("a"), Member("b")))
        >>> hop.named("b"), hop.named("c")
        (Member(name='b', ...), None)
        """
        wanted = (model or "").lower()
        return next((each for each in self.members if wanted in (each.name.lower(), _id(each).lower())), None)


def together(
    order: Sequence[Member], needs: Needs, policy: FallbackPolicy, unwell: Callable[[Member], bool]
) -> Hop | str:
    """Join the members that come first, or say why they have to be asked one by one.

    >>> one, two = (Member(n, info=ModelInfo(id=n), pool="p") for n in ("acme/one", "acme/two"))
    >>> together([one, two], Needs(), FallbackPolicy(order="latency"), lambda member: False).member.name
    'acme/one,acme/two:latency'
    >>> together([one, Member("other/model")], Needs(), FallbackPolicy(), lambda member: False)
    "only 'acme/one' comes first, and a list needs two"
    """
    well = [member for member in order if not unwell(member)]
    if not well:
        return "nobody is well"
    first = well[0]
    if reason := _unfit(first, needs, policy):
        return f"{first.name!r} {reason}"
    listed, reason = [first], ""
    for member in takewhile(lambda each: each.sealed or each.pool == first.pool, well[1:]):
        if reason := _unfit(member, needs, policy):
            break
        listed.append(member)
    if len(listed) < 2:
        return f"only {first.name!r} comes first, and a list needs two" + (f": the next {reason}" if reason else "")
    name = ",".join(dict.fromkeys(map(_id, listed)))
    if policy.order in _RANKED:
        name = f"{name}:{policy.order}"
    joint = Member(name, first.account, joint_info(name, [each.info for each in listed if each.info]), first.host)
    if unwell(joint):
        return "the list has failed of late"
    return Hop(joint, tuple(listed))


def blamed(hop: Hop, error: APIError) -> tuple[Member, ...]:
    """Say whose failure it is when members that were asked together have failed.

    Where the service found no room at one it has asked all the others. Else it is the one that the broken answer
    names; and where nobody is named it is the list's own, which is then not tried again for a while.
    """
    if error.kind in _NO_ROOM:
        return hop.members
    named = hop.named(error.partial_reply.model) if error.partial_reply is not None else None
    return (hop.member if named is None else named,)


def _unfit(member: Member, needs: Needs, policy: FallbackPolicy) -> str:
    """Why a member may not stand in a list. What is unknown is enough: the service would not look either."""
    info = member.info
    if member.sealed:
        return "is asked sealed, for one machine, so the service cannot hand the request on"
    if member.pool is None or info is None:
        return "cannot be asked in a list"
    if any(mark in _id(member) for mark in ",:"):
        return "has a name that means something else in a list"
    for feature in sorted(needs.features):
        if info.supports(feature) is not True:
            return f"is not known to have {feature}"
    for modality in sorted(needs.modalities):
        if info.takes(modality) is not True:
            return f"is not known to take {modality}"
    if policy.max_price is not None and info.price_out is None:
        return "has no known price"
    if policy.quantizations and info.quantization is None:
        return "has weights of unknown format"
    return ""


def _id(member: Member) -> str:
    """The full name: a short one is understood where it stands alone, and not in a list."""
    return member.info.id if member.info is not None else member.name


def joint_info(name: str, infos: Sequence[ModelInfo]) -> ModelInfo:
    """What holds whichever of the models of a list answers; one model is itself.

    >>> joint_info("a,b", [ModelInfo(id="a", context_length=10), ModelInfo(id="b", context_length=20)]).context_length
    10
    """
    if len(infos) == 1:
        return infos[0]
    return ModelInfo(
        id=name,
        context_length=_of_all(min, [info.context_length for info in infos]),
        features=_common([info.features for info in infos]),
        input_modalities=_common([info.input_modalities for info in infos]),
        confidential=True if all(info.confidential is True for info in infos) else None,
        # The dearest, to hold against a limit; what an answer cost is up to who gives it.
        price_out=_of_all(max, [info.price_out for info in infos]),
    )


def _of_all(choose: Callable[[Iterable[N]], N], values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return choose(known) if known and len(known) == len(values) else None


def _common(sets: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    known = [each for each in sets if each is not None]
    return frozenset.intersection(*known) if known and len(known) == len(sets) else None
