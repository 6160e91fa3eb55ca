"""How long a call waits before it asks again; the rest is seen through the clients (tests/core/test_client.py)."""

from __future__ import annotations

import math

import pytest

from chutes_core.calls.clock import SystemClock
from chutes_core.calls.flows import MAX_RETRY_AFTER, CallPolicy, patient_pause, retry_pause
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import error_from_response, failure
from chutes_core.settings import TimeLimits

POLICY = CallPolicy(TimeLimits(), 2, SystemClock(), chance=lambda: 1.0)


def told_to_wait(seconds: float) -> APIError:
    return error_from_response(429, b"Rate limit exceeded", {"retry-after": str(int(seconds))}, model="acme/one")


def test_a_wait_that_the_service_asks_for_is_obeyed() -> None:
    """Up to a minute in a call, and whatever it is by a worker, whose patience ends it."""
    assert retry_pause(told_to_wait(10), 0, POLICY, remaining=None) == pytest.approx(11)
    assert retry_pause(told_to_wait(MAX_RETRY_AFTER + 1), 0, POLICY, remaining=None) is None
    assert patient_pause(told_to_wait(120), 0, 0.0) == pytest.approx(120)


def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    """A retry that could not begin before the call's own limit is none."""
    busy = failure(Kind.CAPACITY)
    assert retry_pause(busy, 0, POLICY, remaining=5.0) == 4.0
    assert retry_pause(busy, 0, POLICY, remaining=4.0) is None


@pytest.mark.parametrize("kind", [Kind.CAPACITY, Kind.COLD, Kind.SEALED_INSTANCE])
def test_the_waits_of_a_worker_end_at_half_a_minute(kind: Kind) -> None:
    """However often it has asked."""
    waits = [patient_pause(failure(kind), tried, 1.0) for tried in (0, 3, 5_000)]
    assert all(wait is not None and math.isfinite(wait) and 0 < wait <= 30.0 for wait in waits)
    assert waits[-1] == 30.0
