"""Members that are asked together: who may be, what is asked, and whose failure it is."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core import Kind, Usage
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.errors import ConfigurationError
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackPolicy, GiveUp, Health, Member, Needs, Receipt, Try
from chutes_core.fallback.hop import Hop, joint_info
from chutes_core.reply.assemble import parse_reply
from chutes_core.response import Reply, ReplyMeta
from chutes_core.testing import Answer


def chute(name: str, *, pool: str | None = "one", **facts: Any) -> Member:
    known = {"features": frozenset({"tools"}), "input_modalities": frozenset({"text"}), "price_out": 1.0, **facts}
    return Member(name, info=ModelInfo(id=name, **known), pool=pool)


A, B, C = (chute(f"acme/{name}") for name in "abc")
SERVER = FallbackPolicy(first_hop="server")


def call(members: list[Member], policy: FallbackPolicy = SERVER, needs: Needs | None = None, **options: Any) -> Call:
    health = options.pop("health", None) or Health(now=lambda: 0.0)
    return Call(members, policy, health, needs, now=lambda: 0.0, chance=lambda: 0.5, **options)


def asked(step: object) -> str:
    assert isinstance(step, Try)
    return step.member.name


@pytest.mark.parametrize(
    ("order", "name"),
    [("given", "acme/a,acme/b"), ("latency", "acme/a,acme/b:latency"), ("throughput", "acme/a,acme/b:throughput")],
)
def test_the_first_request_lists_them(order: Any, name: str) -> None:
    """The service gets the list in our order, or is told by what to rank it."""
    made = call([A, B], FallbackPolicy(first_hop="server", order=order))
    step = made.next()
    assert asked(step) == name
    assert isinstance(step, Try)
    assert step.together == (A, B)
    assert made.first_hop == "server"


def test_it_is_asked_for() -> None:
    """By default members are asked one by one."""
    made = call([A, B], FallbackPolicy())
    assert (asked(made.next()), made.first_hop) == ("acme/a", "member")
    with pytest.raises(ConfigurationError, match="first_hop"):
        FallbackPolicy(first_hop="gateway")  # type: ignore[arg-type]


STRANGER = Member("other/model", account="other")


@pytest.mark.parametrize(
    ("members", "needs", "policy", "expected"),
    [
        ([A, STRANGER, B], Needs(), {}, "member: only 'acme/a' comes first, and a list needs two"),
        ([STRANGER, A, B], Needs(), {}, "member: 'other/model' cannot be asked in a list"),
        ([A, chute("acme/x", pool="two")], Needs(), {}, "member: only 'acme/a' comes first, and a list needs two"),
        ([A, chute("acme/x:y")], Needs(), {}, "member: only 'acme/a' comes first, and a list needs two: the next has"),
        (
            [A, chute("acme/x", features=None)],
            Needs(frozenset({"tools"})),
            {},
            "member: only 'acme/a' comes first, and a list needs two: the next is not known to have tools",
        ),
        (
            [chute("acme/x", input_modalities=None), A],
            Needs(modalities=frozenset({"image"})),
            {},
            "member: 'acme/x' is not known to take image",
        ),
        ([A, chute("acme/x", price_out=None)], Needs(), {"max_price": 5}, "has no known price"),
        ([A, B], Needs(), {"quantizations": ("fp8",)}, "member: 'acme/a' has weights in an unknown format"),
        (
            [chute("acme/t", confidential=True), chute("acme/x", confidential=False)],
            Needs(),
            {},
            "member: only 'acme/t' comes first",
        ),
        ([A, chute("acme/x", price_out=9.0)], Needs(), {"max_price": 5}, "member: only 'acme/a' comes first"),
        ([A, B], Needs(), {"only": ("acme/a",)}, "member: only 'acme/a' comes first"),
    ],
)
def test_no_constraint_is_broken(members: list[Member], needs: Needs, policy: dict[str, Any], expected: str) -> None:
    """Where the service could hand the request to a member that is not known to be fit, the first is asked alone."""
    made = call(members, FallbackPolicy(first_hop="server", **policy), needs)
    step = made.next()
    assert isinstance(step, Try)
    assert step.together == ()
    assert expected in made.first_hop


def test_the_fit_ones_are_listed_up_to_the_first_that_is_not() -> None:
    """Who is left out of the list is asked afterwards, as ever."""
    made = call([A, B, STRANGER, C])
    assert asked(made.next()) == "acme/a,acme/b"
    made.failed(failure(Kind.CAPACITY, status_code=429))
    assert asked(made.next()) == "other/model"
    made.failed(failure(Kind.RESET))
    assert asked(made.next()) == "acme/c"


def test_who_served_is_told() -> None:
    """The attempt has the list and the model that answered, whose health and price they are."""
    dear = chute("acme/d", price_in=1.0, price_out=2.0)
    health = Health(now=lambda: 0.0)
    made = call([A, dear], health=health)
    made.next()
    made.first_part()
    made.succeeded(Usage(1_000_000, 0, 1_000_000), Receipt("Acme/D"))
    (attempt,) = made.attempts
    assert (attempt.model, attempt.served, attempt.cost) == ("acme/a,acme/d", "Acme/D", 1.0)
    assert made.served is dear
    assert (health.vitals(dear.target).successes, health.vitals(A.target).successes) == (1, 0)


def test_no_room_is_everybodys() -> None:
    """The service has asked all of them, so none of them is asked again at once, and all come last for a while."""
    health = Health(now=lambda: 0.0)
    made = call([A, B], health=health)
    made.next()
    made.failed(failure(Kind.CAPACITY, status_code=429))
    assert health.unwell(A.target)
    assert health.unwell(B.target)
    assert not isinstance(made.next(), Try | GiveUp), "a second round begins behind a wait"
    assert call([A, B], health=health).first_hop == "member: no member is healthy"


def broken_by(model: str) -> Reply:
    return parse_reply(Answer("Half").body(model), ReplyMeta())


def test_a_broken_answer_names_whose_it_is() -> None:
    """What broke in the middle is the failure of the one that was answering, and the others are asked."""
    health = Health(now=lambda: 0.0)
    made = call([A, B], health=health)
    made.next()
    made.failed(failure(Kind.RESET, partial_reply=broken_by("acme/b")))
    assert (health.unwell(A.target), health.unwell(B.target)) == (False, True)
    assert asked(made.next()) == "acme/a"


def test_a_failure_of_nobody_in_particular() -> None:
    """It is the list's own: its members are asked one by one, the likely one last, and it is left alone for a while."""
    health = Health(now=lambda: 0.0)
    made = call([A, B], health=health)
    made.next()
    made.failed(failure(Kind.GATEWAY_TIMEOUT, status_code=504))
    assert asked(made.next()) == "acme/b"
    assert call([A, B], health=health).first_hop == "member: the list has failed recently"
    made.failed(failure(Kind.RESET))
    assert asked(made.next()) == "acme/a"


def test_a_refusal_of_the_list_is_not_asked_for_again() -> None:
    """What somebody in the list cannot do is not tried with the list for a while, and nobody is blamed."""
    health, needs = Health(now=lambda: 0.0), Needs(frozenset({"tools"}))
    made = call([A, B], needs=needs, health=health)
    made.next()
    made.failed(failure(Kind.UNSUPPORTED, "tool calls are not enabled", status_code=400))
    assert asked(made.next()) == "acme/a"
    assert call([A, B], needs=needs, health=health).first_hop == "member: the list has failed recently"


def test_an_accounts_failure_is_not_asked_again() -> None:
    """A list is one account's."""
    made = call([A, B, STRANGER])
    made.next()
    made.failed(failure(Kind.PAYMENT, status_code=402))
    assert asked(made.next()) == "other/model"


def test_an_overflow_leaves_the_larger_windows() -> None:
    """The smallest window of the list was too small, and only larger ones are asked."""
    members = [chute("acme/s", context_length=1000), chute("acme/l", context_length=4000)]
    made = call(members)
    made.next()
    made.failed(failure(Kind.CONTEXT_LENGTH, status_code=400))
    assert asked(made.next()) == "acme/l"


def test_full_names_stand_in_the_list() -> None:
    """The service understands a short name only where it stands alone."""
    short = Member("acme/a", info=ModelInfo(id="acme/a-TEE"), pool="one")
    assert asked(call([short, B]).next()) == "acme/a-TEE,acme/b"


def test_what_holds_for_all_of_a_list() -> None:
    """The smallest window, what all of them can do, and the highest price."""
    infos = [
        ModelInfo(id="a", context_length=10, features=frozenset({"tools", "json_mode"}), price_in=1.0, price_out=1.0),
        ModelInfo(id="b", context_length=20, features=frozenset({"tools"}), price_in=2.0, price_out=2.0),
    ]
    joint = joint_info("a,b", infos)
    assert (joint.context_length, joint.features, joint.price_in, joint.price_out) == (10, {"tools"}, None, 2.0)
    assert joint_info("a", infos[:1]) is infos[0]
    assert joint_info("a,c", [infos[0], ModelInfo(id="c")]).features is None
    assert Hop(Member("a,b"), (A, B)).named(None) is None
