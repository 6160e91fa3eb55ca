"""Members and needs: what a request asks for is read off its body."""

from __future__ import annotations

from typing import Any

import pytest

from chutes_core.fallback import FallbackPolicy, Member, Needs
from chutes_core.fallback.members import reason_to_skip
from chutes_core.model_info import ModelInfo


@pytest.mark.parametrize(
    ("body", "features", "modalities", "tokens"),
    [
        ({}, set(), set(), 7),
        ({"tools": [{}], "max_tokens": 100}, {"tools"}, set(), 107),
        ({"response_format": {"type": "json_object"}}, {"json_mode"}, set(), 7),
        ({"response_format": {"type": "json_schema"}}, {"structured_outputs"}, set(), 7),
        ({"response_format": {"type": "text"}}, set(), set(), 7),
        ({"messages": [{"content": [{"type": "image_url"}, {"type": "text"}]}]}, set(), {"image"}, 7),
        ({"messages": [{"content": [{"type": "video"}]}, {"content": "text"}, 7]}, set(), {"video"}, 7),
    ],
)
def test_needs_are_read_off_the_body(body: Any, features: set[str], modalities: set[str], tokens: int) -> None:
    """Tools, answer formats, images, videos and length each name a need."""
    assert Needs.of(body, 7) == Needs(frozenset(features), frozenset(modalities), tokens)


def test_what_is_unknown_is_no_reason_to_skip() -> None:
    """A member is left out only for what is known against it; a stranger only where the policy demands a fact."""
    needs = Needs(frozenset({"tools"}), frozenset({"image"}), 10**6)
    policy = FallbackPolicy(max_price=1, quantizations=("fp8",))
    for member in (Member("a", info=ModelInfo(id="a")), Member("b")):
        assert reason_to_skip(member, needs, policy, lacks=frozenset()) is None
        assert (
            reason_to_skip(member, needs, FallbackPolicy(confidential=True), lacks=frozenset())
            == "no confidential compute"
        )
    assert reason_to_skip(Member("a"), needs, policy, lacks=frozenset({"image"})) == "it has refused image before"
    assert Member("a", host="h").target != Member("a").target
