"""What is refused on this side, before anything is sent: never a member's failure, and never marked as one."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from chutes_core import BudgetExceededError, ChutesError, Kind, MissingKeyError, RequestRefusedError, UnknownModelError
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import ConfigurationError
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackError, FallbackPolicy, Health, Member, Try
from chutes_core.fallback.drivers import fallback
from chutes_core.fallback.foreign import as_failure
from chutes_core.fallback.relay import Relay
from chutes_core.login.errors import CannotListenError, LoginEndedError, LoginError
from chutes_core.response import Delta, Reply
from chutes_core.testing import VirtualClock

from .played import Played

ONE, TWO, THREE = (Member(name, info=ModelInfo(id=name), pool="p") for name in ("acme/one", "acme/two", "acme/three"))
MEMBERS = (ONE, TWO, THREE)
ONLY_HERE: list[ChutesError] = [
    MissingKeyError("There is no key. Set one."),
    LoginEndedError("Your login has ended. Sign in again."),
    LoginError("Your login cannot be read."),
    CannotListenError("The address is in use."),
    UnknownModelError("The catalogue has no such model."),
    ConfigurationError("This client is closed; create a new one."),
]
EVERYWHERE: list[ChutesError] = [RequestRefusedError("This cannot be sent."), BudgetExceededError("Nothing is left.")]


class Outcome:
    """A call whose members raise by name, or answer."""

    def __init__(
        self,
        raises: Mapping[str, Exception],
        policy: FallbackPolicy | None = None,
        members: tuple[Member, ...] = MEMBERS,
    ) -> None:
        clock = VirtualClock()
        self.health = Health(now=clock.now)
        self.call = Call(members, policy or FallbackPolicy(), self.health, now=clock.now, chance=lambda: 0.5)
        self.asked: list[str] = []
        self.error: Exception | None = None

        def ask(step: Try) -> Played:
            self.asked.append(step.member.name)
            if (error := raises.get(step.member.name)) is not None:
                raise error
            return Played([Delta("whole")], Reply(None, None, ()))

        self.parts: list[str] = []
        try:
            self.parts = [delta.content for delta in fallback(Relay(self.call), ask, clock=clock)]
        except Exception as error:
            self.error = error

    @property
    def trace(self) -> list[tuple[str, str, object]]:
        return [(each.model, each.outcome, each.kind) for each in self.call.attempts]


def by_name(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", ONLY_HERE, ids=by_name)
def test_the_others_are_asked(error: ChutesError) -> None:
    """Without a wait, an attempt or a mark; the trace has the reason."""
    done = Outcome({"acme/one": error}, FallbackPolicy(max_attempts=1))
    assert done.parts == ["whole"]
    assert done.trace == [("acme/one", "skipped", None), ("acme/two", "answered", None)]
    assert done.call.attempts[0].detail == str(error)
    assert done.call.made == 1
    assert list(done.health.snapshot()["members"]) == [TWO.target, TWO.account_key]  # type: ignore[call-overload]


@pytest.mark.parametrize("error", ONLY_HERE, ids=by_name)
def test_where_nobody_can_be_asked_the_error_is_raised_as_it_is(error: ChutesError) -> None:
    """Alone, and once: no group, nothing sent, nothing marked."""
    done = Outcome(dict.fromkeys(("acme/one", "acme/two", "acme/three"), error))
    assert done.error is error
    assert done.asked == ["acme/one", "acme/two", "acme/three"]
    assert done.health.snapshot()["members"] == {}


def test_beside_failures_it_is_told_among_the_attempts() -> None:
    """The failures of those who were asked are the error, and why another was not is in its words."""
    raises: dict[str, Exception] = {name: failure(Kind.DISABLED, model=name) for name in ("acme/two", "acme/three")}
    done = Outcome({"acme/one": MissingKeyError("There is no key. Set one."), **raises})
    assert isinstance(done.error, FallbackError)
    assert "acme/one: skipped, There is no key; acme/two: disabled after" in str(done.error)
    assert len(done.error.exceptions) == 2


def test_members_that_were_to_be_asked_together() -> None:
    """They are tried one by one, for each has its own client."""
    error = MissingKeyError("There is no key. Set one.")
    done = Outcome({"acme/one,acme/two,acme/three": error}, FallbackPolicy(first_hop="server"))
    assert done.asked == ["acme/one,acme/two,acme/three", "acme/one"]
    assert done.parts == ["whole"]


@pytest.mark.parametrize("error", EVERYWHERE, ids=by_name)
def test_what_holds_for_the_whole_call_ends_it(error: ChutesError) -> None:
    """A request that cannot be sent, and money that is spent, are no member's matter."""
    done = Outcome({"acme/one": error})
    assert done.error is error
    assert done.asked == ["acme/one"]
    assert done.health.snapshot()["members"] == {}


@pytest.mark.parametrize("error", [*ONLY_HERE, *EVERYWHERE], ids=by_name)
def test_no_name_makes_it_a_failure_of_a_model(error: ChutesError) -> None:
    """Also where a framework has given it a base of its own that speaks of authentication."""
    twin = type(type(error).__name__, (type(error), type("ModelAuthenticationError", (Exception,), {})), {})
    for each in (error, twin(str(error))):
        assert as_failure(each, "acme/one") is None


def test_a_fallback_as_a_member_fails_like_a_model() -> None:
    """Its last failure says where another try helps."""
    inner = FallbackError.of([failure(Kind.COLD), failure(Kind.CAPACITY)], [])
    done = Outcome({"acme/one": inner})
    assert done.trace == [("acme/one", "failed", Kind.CAPACITY), ("acme/two", "answered", None)]


@pytest.mark.parametrize("other", ["account", "key"])
def test_a_wrong_address_ends_only_those_who_have_it(other: str) -> None:
    """Another address or key is another account, and is asked."""
    stranger = Member("acme/four", account=other)
    done = Outcome({"acme/one": failure(Kind.ROUTE_NOT_FOUND)}, members=(ONE, TWO, stranger))
    assert (done.asked, done.parts) == (["acme/one", "acme/four"], ["whole"])
    alone = Outcome({"acme/one": failure(Kind.ROUTE_NOT_FOUND)}, members=(ONE, TWO))
    assert isinstance(alone.error, FallbackError)
    assert alone.asked == ["acme/one"]


def test_the_deadline_begins_with_the_first_step() -> None:
    """A stream may be made long before anybody reads it."""
    clock = VirtualClock()
    call = Call([ONE, TWO], FallbackPolicy(deadline=30), Health(now=clock.now), now=clock.now)
    clock.advance(1000)
    assert isinstance(call.next(), Try)
