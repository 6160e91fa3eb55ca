"""What becomes of requests, by what the account's pages said."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chutes_cli.standing import Report, standing
from chutes_core.account import Profile, QuotaUsage, Subscription, Window

NOW = datetime(2026, 8, 22, 18, tzinfo=UTC)
LATER, BEFORE = datetime(2026, 8, 22, 20, tzinfo=UTC), datetime(2026, 8, 22, 16, tzinfo=UTC)
NOTHING, SOME, GONE = QuotaUsage(0.0, 0.0), QuotaUsage(200.0, 1.0), QuotaUsage(200.0, 200.0)
PLAN = Subscription(True, 20.0, Window(1.0, 8.0, 7.0, LATER), Window(1.0, None, None, None))


def capped(reset: datetime | None) -> Subscription:
    return Subscription(True, 20.0, Window(8.0, 8.0, 0.0, reset), None)


@pytest.mark.parametrize(
    ("balance", "today", "plan", "state", "words"),
    [
        pytest.param(0.0, QuotaUsage(None, 7.0), None, "ok", "neither limited nor paid", id="unlimited"),
        pytest.param(5.0, NOTHING, None, "ok", "paid from the balance, as you go", id="as you go"),
        pytest.param(0.0, NOTHING, None, "fail", "refused (402) if they cost anything", id="nothing at all"),
        pytest.param(5.0, SOME, None, "ok", "included within today's quota, then paid", id="a quota and a balance"),
        pytest.param(5.0, GONE, None, "ok", "paid from the balance: today's quota", id="a used quota and a balance"),
        pytest.param(0.0, SOME, None, "warn", "included, but -TEE models are refused", id="a quota alone"),
        pytest.param(-1.0, GONE, PLAN, "fail", "refused (402): today's quota is used up", id="a used quota alone"),
        pytest.param(0.0, SOME, PLAN, "ok", "included within today's quota and the plan's caps", id="a plan"),
        pytest.param(0.0, SOME, capped(LATER), "fail", "refused (402): the plan's cap (4 hours)", id="a used cap"),
        pytest.param(0.0, SOME, capped(None), "fail", "refused (402): the plan's cap", id="a cap without a reset"),
        pytest.param(5.0, SOME, capped(LATER), "ok", "paid from the balance: the plan's cap", id="a cap and a balance"),
        pytest.param(0.0, SOME, capped(BEFORE), "ok", "included within today's quota", id="a cap that was reset"),
        pytest.param(5.0, None, None, "ok", "unless they are included", id="a balance is all that is known"),
        pytest.param(0.0, None, None, "warn", "a page that tells did not answer", id="no page of the quota"),
        pytest.param(None, GONE, None, "warn", "a page that tells did not answer", id="no balance in the page"),
    ],
)
def test_requests(
    balance: float | None, today: QuotaUsage | None, plan: Subscription | None, state: str, words: str
) -> None:
    """Each kind of account has its own sentence, that fits a line, and a remedy where something is refused."""
    found = standing(Report(Profile("anna", "u1", balance), today=today, subscription=plan), NOW)
    assert (found.state, bool(found.remedy)) == (state, state != "ok")
    assert found.said.startswith(words) or found.said.endswith(words)
    assert len(found.said) <= 69
