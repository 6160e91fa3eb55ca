"""Accounts: keys of every kind, quota, balance."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from chutes_local.world.accounts import (
    API_KEY,
    KINDS,
    Account,
    Accounts,
    Kind,
    block_after,
    midnight_after,
    month_after,
)


def test_the_documented_key_has_the_shape_of_a_real_one() -> None:
    """The local key passes the service's own format check."""
    assert len(API_KEY) == 102
    assert Accounts(strict=True).shape_error(API_KEY) is None


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("cpk_bad", "bad"),
        ("cpk_poor_2", "poor"),
        ("cpk_capped.x", "capped"),
        ("cpk_free", "free"),
        ("cpk_scoped", "scoped"),
        ("cpk_bad0000000000000000", "plan"),
        ("bad", "plan"),
        ("cpk_fine", "plan"),
    ],
)
def test_words_stand_for_kinds_of_account(key: str, kind: Kind) -> None:
    """A key is of a kind when its word stands alone in it, so that no real key is hit."""
    assert Accounts().of(key).kind == kind


def test_further_keys_can_be_of_a_kind() -> None:
    """Any key can be given a kind of account at the start."""
    assert Accounts(keys={"cpk_x": "poor"}).of("cpk_x").kind == "poor"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_account(kind: Kind) -> None:
    """And its own user; only a plan or a balance runs models with confidential compute, or who pays nothing."""
    account = Accounts().of(f"cpk_{kind}")
    assert account.kind == kind
    assert account.runs_tee is (kind not in ("broke", "free", "small", "poor"))
    assert len({Accounts().of(f"cpk_{each}").user_id for each in KINDS}) == len(KINDS)


def test_what_is_unlimited_is_neither_counted_nor_paid() -> None:
    """A free account has no headers of a quota, and one that pays by invoice says so."""
    free, invoiced = Accounts().of("cpk_unbilled"), Accounts().of("cpk_invoiced")
    free.bill(1_000_000, 0, (0.4, 0.0))
    assert (free.used, free.balance, free.refusal(0.0), free.headers()) == (0, 0, None, {})
    assert invoiced.headers() == {"X-Chutes-Invoice-Billing": "true"}


def test_the_quota_comes_before_the_balance() -> None:
    """Requests within the quota are free; beyond it they are paid; without balance they are refused."""
    account = Account(quota=1, balance=1.0)
    account.bill(1_000_000, 0, (0.4, 0.0))
    assert (account.used, account.balance) == (1, 1.0)
    account.bill(1_000_000, 0, (0.4, 0.0))
    assert account.balance == pytest.approx(0.6)
    account.balance = 0.0
    refusal = account.refusal(0.0)
    assert refusal
    assert refusal.status == 402
    assert json.loads(refusal.body)["detail"]["quota_reset_timestamp"] == "1970-01-02T00:00:00+00:00"


def test_a_quota_of_zero_means_pay_as_you_go() -> None:
    """Quota 0 includes nothing: a balance is needed, and the headers say 0 of 0."""
    account = Account(quota=0, balance=1.0)
    assert account.refusal(0.0) is None
    names = ("X-Chutes-Quota-Total", "X-Chutes-Quota-Used", "X-Chutes-Quota-Remaining")
    assert account.headers() == {**dict.fromkeys(names, "0"), "X-Chutes-RL-User": "60"}
    account.balance = 0.0
    refusal = account.refusal(0.0)
    assert refusal
    assert "quota_reset_timestamp" not in json.loads(refusal.body)["detail"]


def test_strict_accounts_refuse_other_shapes() -> None:
    """With strict keys, a malformed cpk_ and a foreign token are refused in different words."""
    strict = Accounts(strict=True)
    malformed, foreign = strict.shape_error("cpk_short"), strict.shape_error("sk-foreign")
    assert malformed
    assert foreign
    assert json.loads(malformed.body)["detail"] == "Missing or invalid authorization header(s)"
    assert json.loads(foreign.body)["detail"] == "Invalid token."


def test_midnight_is_in_the_future() -> None:
    """The quota starts anew at the next midnight, UTC."""
    assert midnight_after(86399.0) == "1970-01-02T00:00:00+00:00"
    assert midnight_after(86400.0) == "1970-01-03T00:00:00+00:00"


def test_a_plans_caps_reset_with_their_own_time() -> None:
    """That of four hours at the end of a block of the day, and that of a month on the first of the next."""
    afternoon = datetime(2026, 12, 31, 15, 30, tzinfo=UTC).timestamp()
    assert block_after(afternoon) == "2026-12-31T16:00:00+00:00"
    assert month_after(afternoon) == "2027-01-01T00:00:00+00:00"
    assert month_after(afternoon + 86400) == "2027-02-01T00:00:00+00:00"
