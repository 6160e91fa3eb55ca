"""What the fallbacks of both frameworks share: a model that can be changed at any time, and one call of it.

Some of the members may be other providers' models, which are asked through the framework.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from chutes_core.calls.clock import SystemClock
from chutes_core.connected import Connected
from chutes_core.errors import ConfigurationError
from chutes_core.fallback.call import Try
from chutes_core.fallback.live import LiveStats
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.fallback.relay import Answer, AsyncAnswer
from chutes_core.fallback.roster import Seat, health_of, placed, rules_of
from chutes_core.fallback.routes import Routed
from chutes_core.fallback.run import Run
from chutes_core.secrets.frames import unseen

if TYPE_CHECKING:
    from pydantic import BaseModel

    from chutes_core.fallback.carried import Question
else:
    BaseModel = object  # the core works without pydantic: a model has it as its other base

__all__ = ["FaceFallback", "FaceRun"]

T = TypeVar("T")
S = TypeVar("S", bound=Seat[object, Connected])
Seated = tuple[list[int], Sequence[Seat[object, Connected]], list[object]] | None


class FaceFallback(Routed, BaseModel):
    """Base of a framework's fallback, a pydantic model: what is assigned is checked as its constructor checks it."""

    if TYPE_CHECKING:
        members: Sequence[object]
        policy: FallbackPolicy

    _seated: Seated
    _stats: tuple[LiveStats | None] | None

    _separate: ClassVar[Collection[str]]
    """The fields of Chutes models that may differ where they share a request; the account is compared beside them."""

    @unseen
    def __init__(self, members: object, policy: object, health: object, **own: object) -> None:
        health = health_of(health, own.get("clock") or SystemClock())  # type: ignore[arg-type]
        super().__init__(members=members, policy=rules_of(policy), health=health, **own)  # type: ignore[arg-type]

    def _seat(self, model: object) -> Seat[object, Connected]:
        """Describe one model to the engine."""
        raise NotImplementedError

    def _described(self, models: Sequence[object]) -> Sequence[Seat[object, Connected]]:
        return placed([self._seat(model) for model in models], self._settings)

    def _settings(self, seat: Seat[object, Connected]) -> object:
        """Return what requests depend on besides the model's name; of another provider's that is not known."""
        if seat.own is None:
            return id(seat.model)
        return {name: value for name, value in seat.own.__dict__.items() if name not in self._separate}

    def _again(self, seat: Seat[object, Connected], model: str) -> Seat[object, Connected]:
        """Return a Chutes member with another model."""
        assert seat.own is not None
        return self._described([seat.own.model_copy(update={"model": model})])[0]

    def _sit(self) -> Sequence[Seat[object, Connected]]:
        """Return the members as the engine sees them, described anew when one of them or its catalogue has changed."""
        state: list[object] = [self.policy]
        for member in self.members:
            state += (member,)
            if isinstance(member, Connected):
                state += (member._known_models(), *member.__dict__.values())
        private: Mapping[str, Seated] = self.__pydantic_private__  # type: ignore[assignment]  # pydantic's way is slow
        seated, now = private["_seated"], [*map(id, state)]  # and so would be to compare the values
        if seated is None or seated[0] != now:
            if seated is not None and seated[0][1:] != now[1:]:  # for the policy alone they stay what they are
                self._stats = None
            described = self._described(self.members)
            seated = self._seated = now, described, state  # which are kept, or others might get their ids
        return seated[1]

    def _is_sealed(self) -> bool:
        """Return whether answers may come encrypted."""
        return any(seat.member.sealed for seat in self._sit())

    def _exchanged(self, members: object) -> object:
        """Check what takes the place of the members."""
        raise NotImplementedError

    def _changed(self, names: Collection[str]) -> None:
        """Drop what was made from the old values of these fields."""

    def _checked(self, name: str, value: object) -> object:
        if name == "members":
            return self._exchanged(value)
        check = _CHECKS.get(name)
        return value if check is None else check(value)

    def _live_stats(self) -> LiveStats | None:
        """Return the service's statistics, if the order uses them."""
        if not self.policy.ranks_live:
            return None
        if self._stats is None:
            own = next((seat.own for seat in self._sit() if seat.own is not None), None)
            self._stats = (own._live_stats() if own is not None else None,)
        return self._stats[0]

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """Copy the model; what is replaced is checked like what is assigned."""
        checked = {name: self._checked(name, value) for name, value in (update or {}).items()}
        copied = super().model_copy(update=checked, deep=deep)
        copied._changed(checked or {"members"})
        return copied

    if not TYPE_CHECKING:  # type checkers see the fields

        def __setattr__(self, name, value):
            super().__setattr__(name, self._checked(name, value))
            if self.__pydantic_private__ and name in type(self).model_fields:
                self._changed({name})

    def __repr__(self) -> str:
        seats = self._sit()
        names = [seat.member.name for seat in seats]
        sealed = ["e2ee=True"] if all(seat.member.sealed for seat in seats) else []
        return f"ChutesFallback({', '.join([repr(names), *sealed, *self.policy.set_apart])})"

    __str__ = __repr__


_CHECKS: Mapping[str, Callable[[object], object]] = {"policy": rules_of, "health": health_of}


class FaceRun(Run[S], Generic[S, T]):
    """One call of a framework's fallback."""

    def _request(self, seat: S, step: Try) -> Mapping[str, object]:
        """Return the arguments of a call of a Chutes member's client."""
        raise NotImplementedError

    def _question(self, seat: S, step: Try) -> Question[T]:
        """Return the request to a member that is asked through the framework."""
        raise NotImplementedError

    def _answer_of(self, seat: S, step: Try, *, waits: bool) -> Answer | AsyncAnswer:
        own, policy = seat.direct, self.call.policy
        if own is not None:
            headers = policy.headers(own.default_headers) if policy.confidential else None
            asked = self._planned(self._request(seat, step), seat, step)
            return (own._async_client if waits else own._client)(headers).stream(**asked)  # type: ignore[arg-type]
        if self.resume is not None:
            raise ConfigurationError("A model that is asked through a framework cannot go on with another's answer.")
        question = self._question(seat, step)
        return question.astream() if waits else question.stream()

    def _for_others(self, params: Mapping[str, object]) -> dict[str, object]:
        """Return the parameters for another provider's model: where a cut answer is none of ours, it is none of its."""
        strict = any(getattr(seat.own, "on_length", None) == "raise" for seat in self._seats)
        return {**({"on_length": "raise"} if strict else {}), **params}
