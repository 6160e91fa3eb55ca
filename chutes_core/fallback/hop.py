"""The first hop as one request to several members: a routing list that the service works through.

The service moves on to the next model of the list if one has no capacity (429, 503), which saves a request each. It
does not check what a request needs, so only members known to be suitable may be in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import APIError, Kind
from chutes_core.fallback.members import Member, Needs
from chutes_core.fallback.policy import FallbackPolicy

__all__ = ["Hop", "blamed", "joint_info", "together"]

N = TypeVar("N", int, float)
_NO_ROOM = (Kind.CAPACITY, Kind.COLD)


@dataclass(frozen=True, slots=True)
class Hop:
    """Members asked together in one request.

    Attributes:
        member: A joint member, whose name is the list.
        members: The individual members, in order.
    """

    member: Member
    members: tuple[Member, ...]

    def named(self, model: str | None) -> Member | None:
        """Return the member that a reply names.

        >>> hop = Hop(Member("a,b"), (Member("a"), Member("b")))
        >>> hop.named("b"), hop.named("c")
        (Member(name='b', ...), None)
        """
        wanted = (model or "").lower()
        return next((each for each in self.members if wanted in (each.name.lower(), _id(each).lower())), None)


def together(
    order: Sequence[Member], needs: Needs, policy: FallbackPolicy, unwell: Callable[[Member], bool]
) -> Hop | str:
    """Join the members that come first, or return why they must be asked one by one.

    >>> one, two = (Member(n, info=ModelInfo(id=n), pool="p") for n in ("acme/one", "acme/two"))
    >>> together([one, two], Needs(), FallbackPolicy(order="latency"), lambda member: False).member.name
    'acme/one,acme/two:latency'
    >>> together([one, Member("other/model")], Needs(), FallbackPolicy(), lambda member: False)
    "only 'acme/one' comes first, and a list needs two"
    """
    well = [member for member in order if not unwell(member)]
    if not well:
        return "no member is healthy"
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
    if policy.ranks_live:
        name = f"{name}:{policy.order}"
    joint = Member(name, first.account, joint_info(name, [each.info for each in listed if each.info]), first.host)
    if unwell(joint):
        return "the list has failed recently"
    return Hop(joint, tuple(listed))


def blamed(hop: Hop, error: APIError) -> tuple[Member, ...]:
    """Return the members to blame for a failure of members asked together.

    If the service found no capacity, it has tried all of them. Otherwise it is the one that the broken answer names; if
    none is named it is the joint member, which is then not tried again for a while.
    """
    if error.kind in _NO_ROOM:
        return hop.members
    named = hop.named(error.partial_reply.model) if error.partial_reply is not None else None
    return (hop.member if named is None else named,)


def _unfit(member: Member, needs: Needs, policy: FallbackPolicy) -> str:
    """Return why a member may not be in a list, or "". Unknown facts count against it: the service checks none."""
    info = member.info
    if member.sealed:
        return "is asked with sealed requests, each for one machine, which the service cannot pass on"
    if member.pool is None or info is None:
        return "cannot be asked in a list"
    if any(mark in _id(member) for mark in ",:"):
        return "has a name with a special meaning in a list"
    for feature in sorted(needs.features):
        if info.supports(feature) is not True:
            return f"is not known to have {feature}"
    for modality in sorted(needs.modalities):
        if info.takes(modality) is not True:
            return f"is not known to take {modality}"
    if policy.max_price is not None and info.price_out is None:
        return "has no known price"
    if policy.quantizations and info.quantization is None:
        return "has weights in an unknown format"
    return ""


def _id(member: Member) -> str:
    """Return the full name: a short one works alone, but not in a list."""
    return member.info.id if member.info is not None else member.name


def joint_info(name: str, infos: Sequence[ModelInfo]) -> ModelInfo:
    """Return what is true whichever model of a list answers; a single model is returned as is.

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
        # The highest price, to check against a limit; the actual cost depends on which model answers.
        price_out=_of_all(max, [info.price_out for info in infos]),
    )


def _of_all(choose: Callable[[Iterable[N]], N], values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return choose(known) if known and len(known) == len(values) else None


def _common(sets: Sequence[frozenset[str] | None]) -> frozenset[str] | None:
    known = [each for each in sets if each is not None]
    return frozenset.intersection(*known) if known and len(known) == len(sets) else None
