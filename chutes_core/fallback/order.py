"""Sort members by the policy's order, and say which of them is worth asking beside another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.fallback.health import Health
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.members import Member
from chutes_core.fallback.policy import FallbackPolicy

__all__ = ["ordered", "worth_asking"]

_RECENT = 30.0
_DEARER = 2.0
_LAST = float("inf")


def ordered(
    members: Sequence[Member],
    policy: FallbackPolicy,
    health: Health,
    *,
    now: float,
    chance: Callable[[], float],
    stats: LiveStats | None = None,
) -> list[Member]:
    """Sort members as the policy says; unknown values sort last.

    Latency is what this health has measured itself, else the service's recent statistics, else the catalogue's value.

    >>> from chutes_core.catalog.model_info import ModelInfo
    >>> dear, cheap = (Member(n, info=ModelInfo(id=n, price_in=p, price_out=p)) for n, p in [("dear", 9), ("cheap", 1)])
    >>> [each.name for each in ordered([dear, cheap], FallbackPolicy(order="price"), Health(), now=0, chance=lambda: 0)]
    ['cheap', 'dear']
    """
    if policy.order == "given":
        return list(members)
    if callable(policy.order):
        return list(policy.order(members))
    if policy.order == "price":
        return sorted(members, key=_price)
    if policy.order == "latency":
        return sorted(members, key=lambda member: _latency(member, health, stats))
    if policy.order == "throughput":
        return sorted(members, key=lambda member: _slowness(_measured(member, stats)))
    return _balanced(members, health, now, chance)


def _price(member: Member) -> float:
    info = member.info
    if info is None or info.price_in is None or info.price_out is None:
        return _LAST
    return info.price_in + info.price_out


def _latency(member: Member, health: Health, stats: LiveStats | None) -> float:
    seen = health.vitals(member.target).ttft
    if seen is not None:
        return seen
    info = _measured(member, stats)
    return _LAST if info is None or info.ttft is None else info.ttft


def _slowness(info: ModelInfo | None) -> float:
    return _LAST if info is None or not info.tps else 1 / info.tps


def _measured(member: Member, stats: LiveStats | None) -> ModelInfo | None:
    return member.info if member.info is None or stats is None else stats.of(member.info)


def _balanced(members: Sequence[Member], health: Health, now: float, chance: Callable[[], float]) -> list[Member]:
    """Draw members in random order, weighted by the inverse square of the price.

    Members that failed recently come after the others, so load moves away from trouble at once.
    """

    def failed_of_late(member: Member) -> bool:
        last = health.vitals(member.target).last_failure
        return last is not None and now - last < _RECENT

    known = [price for price in map(_price, members) if price != _LAST]
    dearest = max(known, default=1.0) or 1.0
    drawn: list[Member] = []
    for group in (False, True):
        left = [member for member in members if failed_of_late(member) is group]
        while left:
            weights = [1 / max(min(_price(member), dearest), 1e-6) ** 2 for member in left]
            mark = chance() * sum(weights)
            reached = [position for position, total in enumerate(accumulate(weights)) if total > mark]
            drawn.append(left.pop(reached[0] if reached else -1))
    return drawn


def worth_asking(first: Member, other: Member, policy: FallbackPolicy) -> bool:
    """Return whether a member may be asked beside another one, which may have been for nothing.

    It is another target, and costs at most twice as much. Where one of the prices is not known it is not asked, unless
    neither is. An order that ranks speed, or is your own, says that the price is not what matters.

    >>> from chutes_core.catalog.model_info import ModelInfo
    >>> cheap, dear = (Member(n, info=ModelInfo(id=n, price_in=p, price_out=p)) for n, p in [("a", 1), ("b", 3)])
    >>> worth_asking(cheap, dear, FallbackPolicy()), worth_asking(cheap, dear, FallbackPolicy(order="latency"))
    (False, True)
    >>> worth_asking(dear, cheap, FallbackPolicy()), worth_asking(cheap, Member("other"), FallbackPolicy())
    (True, False)
    """
    if other.target == first.target:
        return False
    if callable(policy.order) or policy.ranks_live:
        return True
    before, after = _price(first), _price(other)
    if _LAST in (before, after):
        return before == after
    return after <= _DEARER * before
