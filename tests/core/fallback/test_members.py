"""Members and needs: what a request asks for is read off its body."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.fallback import FallbackPolicy, Member, Needs
from chutes_core.fallback.members import eligible, reason_to_skip


class Person:
    """The form of an answer, as a class."""


@pytest.mark.parametrize(
    ("params", "features", "tokens"),
    [
        ({}, set(), 2),
        ({"tools": [{"name": "ä" * 60}]}, {"tools"}, 14),
        ({"response_format": Person, "max_tokens": 5}, {"structured_outputs"}, 7),
        ({"response_format": {"type": "json_object"}, "max_completion_tokens": 5}, {"json_mode"}, 7),
    ],
)
def test_needs_are_read_off_a_call(params: Any, features: set[str], tokens: int) -> None:
    """Its texts and tools count on the low side, its answer in full."""
    needs = Needs.of(params, ["Hello there!"], {"audio"})
    assert needs == Needs(frozenset(features), frozenset({"audio"}), tokens)


def test_what_is_unknown_is_no_reason_to_skip() -> None:
    """A member is left out only for what is known against it; a stranger only where the policy demands a fact."""
    needs = Needs(frozenset({"tools"}), frozenset({"image"}), 10**6)
    policy = FallbackPolicy(max_price=1, quantizations=("fp8",))
    for member in (Member("a", info=ModelInfo(id="a")), Member("b")):
        assert reason_to_skip(member, needs, policy, lacks=frozenset()) is None
        strict = reason_to_skip(member, needs, FallbackPolicy(confidential=True), lacks=frozenset())
        assert "not known to have confidential compute" in str(strict)
    assert reason_to_skip(Member("a"), needs, policy, lacks=frozenset({"image"})) == "it has refused image before"
    assert Member("a", host="h").target != Member("a").target


KNOWN = ModelInfo(id="acme/tee", chute_id="c", confidential=True)
OPEN = ModelInfo(id="acme/open", chute_id="c", confidential=False)
UNKNOWN = ModelInfo(id="acme/new")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (Member("acme/tee", info=KNOWN), None),
        (Member("acme/open", info=OPEN), "no confidential compute"),
        (Member("acme/new", info=UNKNOWN), "not known to have confidential compute"),
        (Member("elsewhere"), "a model of another provider, which is not known to have confidential compute"),
        (Member("trusted", info=UNKNOWN), None),
        (Member("trusted"), None),
        (Member("trusted", info=OPEN), "no confidential compute"),
    ],
)
def test_confidential_only_takes_what_is_known_or_trusted(member: Member, said: str | None) -> None:
    """A name is trusted where the catalogue does not know, and not against what it does know."""
    policy = FallbackPolicy(confidential=True, trusted=("trusted",))
    assert reason_to_skip(member, Needs(), policy, lacks=frozenset()) == said


@pytest.mark.parametrize(
    ("info", "sealed", "said"),
    [
        (KNOWN, "binding", None),
        (UNKNOWN, "off", "not in the catalogue, so no request can be sealed for it"),
        (None, "off", "not in the catalogue, so no request can be sealed for it"),
        (OPEN, "full", "no confidential compute, so its machines can prove nothing"),
        (OPEN, "off", None),
        (UNKNOWN, "", None),
    ],
)
def test_who_cannot_be_asked_sealed_is_left_out(info: ModelInfo | None, sealed: str, said: str | None) -> None:
    """Rather than asked in another way."""
    member = Member("m", info=info, sealed=sealed)
    assert reason_to_skip(member, Needs(), FallbackPolicy(), lacks=frozenset()) == said


def left_out(members: list[Member], policy: FallbackPolicy) -> list[tuple[str, str]]:
    out = eligible(members, Needs(), policy, lambda target: frozenset())[1]
    return [(member.name, reason) for member, reason in out]


def test_what_the_first_has_the_others_must_have() -> None:
    """The first of the service's own: another provider's before it changes nothing."""
    stranger = Member("elsewhere")
    sealed, plain = Member("sealed", info=KNOWN, sealed="off"), Member("plain", info=KNOWN)
    exposed = Member("exposed", info=OPEN)
    told = [
        ("plain", "not sealed, which the members before it are"),
        ("exposed", "not sealed, which the members before it are"),
    ]
    assert left_out([sealed, plain, exposed], FallbackPolicy()) == told
    assert left_out([stranger, sealed, plain, exposed], FallbackPolicy(confidential=None)) == told
    lost = [("exposed", "no confidential compute, which the members before it have")]
    assert left_out([stranger, plain, sealed, exposed], FallbackPolicy()) == lost
    assert left_out([exposed, plain, sealed, stranger], FallbackPolicy()) == []
    assert left_out([stranger, sealed, plain, exposed], FallbackPolicy(confidential=False)) == []
