"""Accounts: troublesome keys, quota, balance."""

from __future__ import annotations

import json

import pytest

from chutes_local.world.accounts import API_KEY, Account, Accounts, Trouble, midnight_after


def test_the_documented_key_has_the_shape_of_a_real_one() -> None:
    """The local key passes the service's own format check."""
    assert len(API_KEY) == 102
    assert Accounts(strict=True).shape_error(API_KEY) is None


@pytest.mark.parametrize(
    ("key", "trouble"),
    [
        ("cpk_bad", "bad"),
        ("cpk_poor_2", "poor"),
        ("cpk_capped.x", "capped"),
        ("cpk_free", "free"),
        ("cpk_scoped", "scoped"),
        ("cpk_bad0000000000000000", None),
        ("bad", None),
        ("cpk_fine", None),
    ],
)
def test_five_words_stand_for_trouble(key: str, trouble: Trouble | None) -> None:
    """A key is troublesome when one of the words stands alone in it, so that no real key is hit."""
    assert Accounts().of(key).trouble == trouble


def test_further_keys_can_be_troublesome() -> None:
    """Any key can be given a trouble at the start."""
    assert Accounts(keys={"cpk_x": "poor"}).of("cpk_x").trouble == "poor"


def test_the_quota_comes_before_the_balance() -> None:
    """Requests within the quota are free; beyond it they are paid; without balance they are refused."""
    account = Account(quota=1, balance=1.0)
    account.count()
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
