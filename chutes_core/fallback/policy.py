"""The policy of a fallback: one frozen value with bounded defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, cast, get_args

from chutes_core.errors import ConfigurationError
from chutes_core.fallback.members import Member  # not for type checkers alone: pydantic reads the fields' types

__all__ = ["FallbackPolicy", "Order"]

AfterCommit = Literal["raise", "hold", "restart", "resume", "resume_or_restart", "resume_or_hold"]
Order = Literal["given", "price", "latency", "throughput", "balanced"]
_SECONDS = ("first_token", "gap", "attempt", "deadline", "backoff", "backoff_max", "retry_after_max")
_LIMITS = {"first_token": 20.0, "gap": 20.0}  # a shorter deadline silently shortens these
_ATTEMPTS = 12
_OPTIONAL = ("first_token", "gap", "attempt", "deadline", "max_price", "hedge")


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackPolicy:
    """When the next model takes over, and in which order.

    Attributes:
        first_token: The most seconds for the first visible part of a member's answer.
        learned: Wait less than that for a member whose recent answers began sooner: four times what nearly all of
            them took, and at least 3 s. It counts for requests of their size, and for the first attempt in a call.
        hedge: After how many seconds without any part of an answer a second member is asked beside the first; the one
            that begins first answers, and the other one's connection is closed. ``"p95"`` is the time in which 95 % of
            that member's answers began, once that is known. None, the default, asks one member at a time.
        gap: Seconds between two parts.
        attempt: Seconds for one member's whole attempt.
        deadline: Seconds for the whole call, waits included.
        max_attempts: The most attempts in one call, over all members; with the default, at least one for each member.
        after_commit: What to do if an answer fails after some of its text was given out: ``"raise"`` the error with
            that part; ``"hold"`` everything back until the answer is whole, so that no failure is ever seen;
            ``"restart"`` with another member, after a marker that voids what came before; or ``"resume"``: have a
            model go on where it broke off, and raise if none can. ``"resume_or_restart"`` restarts then, and
            ``"resume_or_hold"`` holds back what could not be resumed.
        resume_attempts: How many may go on with an answer and give out some of it; who cannot begin is not counted.
        order: Which healthy member comes first: as ``"given"``, by ``"price"``, by live ``"latency"`` or
            ``"throughput"``, ``"balanced"`` (at random, weighted by the inverse square of the price), or a function
            that sorts members.
        first_hop: Whom a call asks first: one ``"member"``, or several at once through the ``"server"``, in one
            request that the service itself passes on if a model has no capacity. This needs members of one account
            with the same parameters, all known to be suitable; otherwise the first member is asked alone.
        backoff: Seconds before a second round over the members; it doubles with each round, and the actual wait is
            random between zero and it.
        backoff_max: The longest such wait.
        retry_after_max: The longest Retry-After of a member that is waited for, if all others have failed too.
        budget: How often a call may, on average, ask members again that have failed in it (the retry budget); keeps a
            broken service from being flooded with retries. To ask a member for the first time costs nothing.
        burst: How many unused attempts of the retry budget may accumulate.
        confidential: True uses only members with confidential compute, as the catalogue says, and tells the service
            to refuse any other (``X-TEE-Only``); False uses any. None, the default, asks no Chutes model without it
            if the first in order has it, and no unsealed one if the first is sealed; a model of another provider that
            you listed yourself is trusted.
        trusted: Names of members that ``confidential=True`` trusts although the catalogue does not know whether they
            have confidential compute: models of other providers, or your own.
        max_price: The highest price in US dollars per million answer tokens; members of unknown price stay.
        only: Names of the members to use.
        ignore: Names of the members to skip.
        quantizations: Weight formats to accept; members of unknown format stay.

    >>> FallbackPolicy(first_token=8, deadline=60).max_attempts
    12
    """

    first_token: float | None = _LIMITS["first_token"]
    learned: bool = True
    hedge: float | Literal["p95"] | None = None
    gap: float | None = _LIMITS["gap"]
    attempt: float | None = None
    deadline: float | None = 120.0
    max_attempts: int = _ATTEMPTS
    after_commit: AfterCommit = "raise"
    resume_attempts: int = 2
    order: Order | Callable[[Sequence[Member]], Sequence[Member]] = "given"
    first_hop: Literal["member", "server"] = "member"
    backoff: float = 1.0
    backoff_max: float = 8.0
    retry_after_max: float = 10.0
    budget: float = 2.0
    burst: float = 20.0
    confidential: bool | None = None
    trusted: tuple[str, ...] = ()
    max_price: float | None = None
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("only", "ignore", "quantizations", "trusted"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigurationError(f"{name} must be a list of names, not one string: {name}=[{value!r}].")
            object.__setattr__(self, name, tuple(value))
        for name in (*_SECONDS, "max_price", "budget", "burst"):
            _check_number(name, getattr(self, name))
        for name in ("max_attempts", "resume_attempts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if self.hedge != "p95":
            _check_number("hedge", self.hedge, or_else=' or "p95"')
        if not isinstance(self.learned, bool):
            raise ConfigurationError(f"learned must be True or False, not {self.learned!r}.")
        if self.confidential not in (True, False, None):
            raise ConfigurationError(f"confidential must be True, False or None, not {self.confidential!r}.")
        if self.after_commit not in get_args(AfterCommit):
            known = ", ".join(map(repr, get_args(AfterCommit)))
            raise ConfigurationError(f"after_commit must be one of {known}, not {self.after_commit!r}.")
        if not callable(self.order) and self.order not in get_args(Order):
            raise ConfigurationError(
                f"order must be one of {', '.join(get_args(Order))} or a function, not {self.order!r}."
            )
        if self.first_hop not in ("member", "server"):
            raise ConfigurationError(f"first_hop must be 'member' or 'server', not {self.first_hop!r}.")
        self._refuse_self_defeat()

    def _refuse_self_defeat(self) -> None:
        for name in ("first_token", "gap", "attempt"):
            limit = getattr(self, name)
            chosen = limit is not None and limit != _LIMITS.get(name)
            if chosen and self.deadline is not None and limit > self.deadline:
                raise ConfigurationError(
                    f"{name}={limit:g} is longer than deadline={self.deadline:g}: one slow member would use up the "
                    "whole call, and no other would take over."
                )
        if self.attempt is not None and self.first_token is not None and self.first_token > self.attempt:
            raise ConfigurationError(
                f"first_token={self.first_token:g} is longer than attempt={self.attempt:g}, so it can never apply."
            )
        if self.hedge is not None:
            self._refuse_vain_hedge()
        if self.backoff > self.backoff_max:
            raise ConfigurationError(f"backoff={self.backoff:g} is longer than backoff_max={self.backoff_max:g}.")
        if self.trusted and self.confidential is not True:
            raise ConfigurationError(
                "trusted names members that confidential=True should trust: without confidential=True it has no effect."
            )
        if both := set(self.only) & set(self.ignore):
            raise ConfigurationError(f"{sorted(both)[0]!r} is in both only and ignore.")

    def _refuse_vain_hedge(self) -> None:
        limit = self.first_token
        if self.hedge != "p95" and limit is not None and cast("float", self.hedge) >= limit:
            raise ConfigurationError(
                f"hedge={self.hedge:g} is not shorter than first_token={limit:g}, so nobody would ever be asked beside."
            )
        if self.max_attempts < 2:
            raise ConfigurationError("hedge asks a second member, which max_attempts=1 does not allow.")
        if self.burst < 2:
            raise ConfigurationError(f"hedge may use half of burst, which must be at least 2, not {self.burst:g}.")

    def most_attempts(self, members: int) -> int:
        """Return the most attempts for a number of members: a default never keeps a call from one of many.

        >>> FallbackPolicy().most_attempts(20), FallbackPolicy(max_attempts=3).most_attempts(20)
        (20, 3)
        """
        return max(members, self.max_attempts) if self.max_attempts == _ATTEMPTS else self.max_attempts

    def headers(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """Return the headers of a Chutes member, with ``X-TEE-Only`` if confidential compute is required.

        >>> FallbackPolicy(confidential=True).headers({"X-Title": "me"})
        {'X-Title': 'me', 'X-TEE-Only': 'true'}
        """
        own = dict(given or {})
        if not self.confidential:
            return own
        return {**{name: value for name, value in own.items() if name.lower() != "x-tee-only"}, "X-TEE-Only": "true"}

    def to_dict(self) -> dict[str, object]:
        """Return the settings that differ from the defaults, as plain data.

        >>> FallbackPolicy(deadline=60).to_dict()
        {'deadline': 60}
        """
        if callable(self.order):
            raise ConfigurationError("A policy whose order is a function cannot be written as data.")
        default = asdict(_DEFAULT)
        told = {name: value for name, value in asdict(self).items() if value != default[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    @property
    def ranks_live(self) -> bool:
        """Whether the order uses the service's live statistics.

        >>> FallbackPolicy(order="latency").ranks_live, FallbackPolicy(order="price").ranks_live
        (True, False)
        """
        return self.order in ("latency", "throughput")

    @property
    def without_restart(self) -> FallbackPolicy:
        """The same for a reader who cannot be told of a restart.

        >>> FallbackPolicy(after_commit="resume_or_restart").without_restart
        FallbackPolicy(... after_commit='resume', ...)
        """
        if self.after_commit not in ("restart", "resume_or_restart"):
            return self
        return replace(self, after_commit="raise" if self.after_commit == "restart" else "resume")

    @property
    def set_apart(self) -> list[str]:
        """The settings that differ from the defaults, as arguments.

        >>> FallbackPolicy(deadline=60).set_apart
        ['deadline=60']
        """
        if callable(self.order):
            return ["order=<function>"]
        return [f"{name}={value!r}" for name, value in self.to_dict().items()]

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> FallbackPolicy:
        """Create from the output of :meth:`to_dict`, or from a table of a configuration file.

        >>> FallbackPolicy.from_dict({"deadline": 60}) == FallbackPolicy(deadline=60)
        True
        """
        known = {each.name for each in fields(cls)}
        for name in raw:
            if name not in known:
                from difflib import get_close_matches

                close = get_close_matches(str(name), known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else f" The settings are: {', '.join(sorted(known))}."
                raise ConfigurationError(f"A fallback policy has no {name!r}.{hint}")
        return cls(**cast("dict[str, float]", dict(raw)))  # type: ignore[arg-type]


def _check_number(name: str, value: object, or_else: str = "") -> None:
    if value is None and name in _OPTIONAL:
        return
    positive = name in _OPTIONAL
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not (cast("float", value) > 0 if positive else cast("float", value) >= 0):
        hint = " None means no limit." if positive and not or_else else ""
        kind = "positive number" if positive else "number"
        raise ConfigurationError(f"{name} must be a {kind}{or_else}, not {value!r}.{hint}")


_DEFAULT = FallbackPolicy()
