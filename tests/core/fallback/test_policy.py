"""Policies: bounded, frozen, readable from data, and refusing what would defeat themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chutes_core import ConfigurationError
from chutes_core.fallback import FallbackPolicy


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_token": 0}, "first_token must be a positive number"),
        ({"gap": "soon"}, "gap must be a positive number"),
        ({"deadline": True}, "deadline must be a positive number"),
        ({"deadline": float("inf")}, "deadline must be a positive number, not inf. None means no limit."),
        ({"backoff": float("nan")}, "backoff must be a number"),
        ({"backoff": -1}, "backoff must be a number"),
        ({"budget": None}, "budget must be a number"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 2.5}, "max_attempts"),
        ({"after_commit": "hope"}, "after_commit"),
        ({"order": "random"}, "order must be one of"),
        ({"only": "acme/one"}, "only must be a list"),
        ({"first_token": 30, "deadline": 10}, "one slow member would use up the whole call"),
        ({"attempt": 30, "deadline": 10}, "one slow member would use up the whole call"),
        ({"first_token": 9, "attempt": 5}, "can never apply"),
        ({"backoff": 9, "backoff_max": 5}, "longer than backoff_max"),
        ({"only": ["a"], "ignore": ["a"]}, "in both only and ignore"),
        ({"confidential": "yes"}, "confidential must be"),
        ({"trusted": ["a"]}, "without confidential=True it has no effect"),
        ({"trusted": "a", "confidential": True}, "trusted must be a list"),
    ],
)
def test_what_defeats_itself_is_refused(settings: dict[str, Any], message: str) -> None:
    """A senseless value, alone or beside another, is named when the policy is made."""
    with pytest.raises(ConfigurationError, match=message):
        FallbackPolicy(**settings)


def test_a_short_deadline_alone_is_fine() -> None:
    """The defaults give way to a shorter deadline without a word."""
    assert FallbackPolicy(deadline=5).deadline == 5


def test_it_is_frozen() -> None:
    """A policy may be shared: nobody changes it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        FallbackPolicy().deadline = 5  # type: ignore[misc]


def test_it_goes_to_data_and_back() -> None:
    """What differs from the defaults is written, and read again."""
    policy = FallbackPolicy(deadline=60, only=["a", "b"], order="price", after_commit="restart", confidential=True)  # type: ignore[arg-type]
    data = policy.to_dict()
    assert data == {
        "deadline": 60, "only": ["a", "b"], "order": "price", "after_commit": "restart", "confidential": True,
    }  # fmt: skip
    assert FallbackPolicy.from_dict(data) == policy
    assert FallbackPolicy().to_dict() == {}


def test_a_misspelt_setting_is_named() -> None:
    """An unknown name is an error with the nearest one, or with all there are."""
    with pytest.raises(ConfigurationError, match="Did you mean 'deadline'"):
        FallbackPolicy.from_dict({"dedline": 5})
    with pytest.raises(ConfigurationError, match="The settings are: after_commit"):
        FallbackPolicy.from_dict({"xyz": 5})


def test_a_function_is_no_data() -> None:
    """A policy that sorts by a function says that it cannot be written."""
    with pytest.raises(ConfigurationError, match="function"):
        FallbackPolicy(order=lambda members: members).to_dict()
