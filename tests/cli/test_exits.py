"""Statuses and words for every failure there is."""

from __future__ import annotations

import pytest

from chutes_cli.exits import Exit, Stop, described, exit_of, reported
from chutes_core.errors import ConfigurationError, Kind, MissingKeyError
from chutes_core.failures.reading import FACTS, failure
from chutes_core.fallback import Attempt, FallbackError
from chutes_core.login.errors import LoginEndedError, LoginError

STATUSES = {
    Kind.CAPACITY: Exit.UNAVAILABLE,
    Kind.ACCOUNT_LIMIT: Exit.ACCOUNT,
    Kind.EDGE_LIMIT: Exit.KEY,
    Kind.NOT_INCLUDED: Exit.ACCOUNT,
    Kind.COLD: Exit.UNAVAILABLE,
    Kind.UPSTREAM: Exit.UNAVAILABLE,
    Kind.PAYMENT: Exit.ACCOUNT,
    Kind.PLAN_CAP: Exit.ACCOUNT,
    Kind.TEE_PAYMENT: Exit.ACCOUNT,
    Kind.OWNER_PAYMENT: Exit.UNAVAILABLE,
    Kind.AUTHENTICATION: Exit.KEY,
    Kind.PERMISSION: Exit.KEY,
    Kind.MODEL_NOT_FOUND: Exit.NO_MODEL,
    Kind.CONTEXT_LENGTH: Exit.USAGE,
    Kind.BAD_REQUEST: Exit.USAGE,
    Kind.CONNECT: Exit.UNREACHABLE,
    Kind.CONNECT_TIMEOUT: Exit.UNREACHABLE,
    Kind.STALL: Exit.UNREACHABLE,
    Kind.RESET: Exit.INCOMPLETE,
    Kind.EMPTY: Exit.INCOMPLETE,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_statuses(kind: Kind, status: Exit) -> None:
    """Each sort of failure has its status, also as the last of a fallback."""
    error = failure(kind, "why", model="acme/one")
    assert exit_of(error) is status
    assert exit_of(FallbackError.of([failure(Kind.COLD), error], [Attempt("acme/one", "failed")])) is status


@pytest.mark.parametrize("kind", FACTS)
def test_no_failure_speaks_python(kind: Kind) -> None:
    """What is said names options and commands of this program, never its functions or attributes."""
    said = described(failure(kind, "why", model="acme/one"))
    assert not any(word in said for word in ("client.", ".partial", "max_tokens=", "(.", "with a fallback"))
    assert "\n" not in said


@pytest.mark.parametrize("kind", FACTS)
def test_no_fallback_that_failed_is_told_to_be_one(kind: Kind) -> None:
    """What to do when every member failed speaks neither Python nor of the option that was given already."""
    attempts = [Attempt("acme/one", "failed", kind)] * 2
    said = described(FallbackError.of([failure(kind, model="acme/one")] * 2, attempts))
    assert f"acme/one: {kind} (2 times). " in said
    words = ("client.", ".partial", "`deadline`", "`max_attempts`", "of the policy", "--fallback")
    assert not any(word in said for word in words)


def test_each_status_has_a_meaning() -> None:
    """The meanings are what the documentation lists."""
    assert len({status.meaning for status in Exit}) == len(Exit)


def test_logins_that_ended_are_a_matter_of_the_key() -> None:
    """A stored login that cannot be used says so in its own words."""
    assert exit_of(LoginError("x")) is exit_of(LoginEndedError("x")) is Exit.KEY
    assert described(LoginEndedError("The login has ended.")) == "The login has ended."


def test_keys_never_show() -> None:
    """Whatever is said or reported, a key in it is masked."""
    for error in (Stop("cpk_secret.1"), ConfigurationError("cpk_secret.1"), OSError(2, "no", "cpk_secret.1")):
        assert "secret" not in described(error) + str(reported(error))


def test_reports_for_programs() -> None:
    """A failure of the service carries its kind, the model and the status; one of the words has fewer fields."""
    error = failure(Kind.CAPACITY, "busy", model="acme/one", status_code=429, retry_after=3.0)
    told = reported(error)["error"]
    assert told == {
        "kind": "capacity", "message": described(error), "exit": 5, "model": "acme/one", "status_code": 429,
        "retry_after": 3.0, "partial": "",
    }  # fmt: skip
    assert reported(MissingKeyError("x"))["error"]["exit"] == 3  # type: ignore[index]
