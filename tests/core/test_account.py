"""The service's own pages: every shape it gives becomes one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from chutes_core import account
from chutes_core.account import (
    AccountPages,
    AsyncAccountPages,
    Discount,
    Endpoint,
    Profile,
    Quota,
    QuotaUsage,
    Subscription,
    UsageBucket,
    Utilization,
    Window,
)

ME: dict[str, object] = {
    "username": "anna",
    "user_id": "u1",
    "logo_id": None,
    "created_at": "2025-05-01T10:00:00+00:00",
    "balance": -0.5,
    "quotas": None,
    "permissions": [],
}
FOUR_HOURS = {"usage": 1.5, "cap": 8.33, "remaining": 6.83, "reset_at": "2026-08-22T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("page", "profile"),
    [
        (ME, Profile("anna", "u1", -0.5, datetime(2025, 5, 1, 10, tzinfo=UTC))),
        ({"balance": True, "username": 7, "created_at": "long ago"}, Profile(None, None, None, None)),
        ({}, Profile(None, None, None, None)),
    ],
)
def test_profile(page: object, profile: Profile) -> None:
    """A profile has what the service says; what is missing or of the wrong kind is None, never a guess."""
    assert account.parse_profile(page) == profile


@pytest.mark.parametrize(
    ("page", "quotas"),
    [
        ([{"user_id": "u1", "chute_id": "*", "quota": 300, "is_default": False}], [Quota("*", 300.0, False)]),
        ([{"chute_id": "c1", "quota": 0}, {"chute_id": "c2", "quota": None}], [Quota("c1", 0.0, None)]),
        ([{"quota": 5, "is_default": 1}], [Quota("*", 5.0, True)]),
        ({"*": 200}, [Quota("*", 200.0, True)]),
        ({"*": 200, "c1": "many"}, [Quota("*", 200.0, True)]),
        ({}, []),
        ([], []),
    ],
)
def test_quotas(page: object, quotas: list[Quota]) -> None:
    """Quotas come as a list, as an empty object on invoiced accounts, or as an object of numbers."""
    assert account.parse_quotas(page) == quotas


@pytest.mark.parametrize(
    ("page", "usage", "remaining"),
    [
        ({"quota": 300, "used": 12.5}, QuotaUsage(300.0, 12.5), 287.5),
        ({"quota": 300, "used": 400}, QuotaUsage(300.0, 400.0), 0.0),
        ({"quota": "unlimited", "used": 3}, QuotaUsage(None, 3.0), None),
        ({"quota": 0}, QuotaUsage(0.0, 0.0), 0.0),
    ],
)
def test_quota_usage(page: object, usage: QuotaUsage, remaining: float | None) -> None:
    """What is left is never less than nothing, a quota of 0 includes nothing, and unlimited is None."""
    found = account.parse_quota_usage(page)
    assert (found, found.remaining) == (usage, remaining)


@pytest.mark.parametrize(
    ("page", "subscription"),
    [
        ({"subscription": False}, Subscription(False)),
        (
            {"subscription": True, "monthly_price": 20.0, "four_hour": FOUR_HOURS, "monthly": {"uncapped": True}},
            Subscription(
                True,
                20.0,
                Window(1.5, 8.33, 6.83, datetime(2026, 8, 22, 12, tzinfo=UTC)),
                Window(0.0, None, None, None),
            ),
        ),
    ],
)
def test_subscription(page: object, subscription: Subscription) -> None:
    """Without a subscription there are no caps, and an uncapped month has none either."""
    assert account.parse_subscription(page) == subscription


def test_usage() -> None:
    """Hours of use are read from a page; counts stay whole numbers however the service writes them."""
    page = {
        "total": 2,
        "page": 0,
        "items": [
            {"bucket": "2026-08-22T11:00:00", "amount": 0.25, "count": 3, "input_tokens": 900.0, "output_tokens": 30},
            {"bucket": "2026-08-22T10:00:00", "amount": None, "count": True, "input_tokens": 0.5},
        ],
    }
    assert account.parse_usage(page) == [
        UsageBucket("2026-08-22T11:00:00", 0.25, 3, 900, 30),
        UsageBucket("2026-08-22T10:00:00", 0.0, 0, 0, 0),
    ]
    assert isinstance(account.parse_usage(page)[0].input_tokens, int)


def test_discounts() -> None:
    """A discount is a share of the price; a row without one is left out."""
    page = [{"user_id": "u1", "chute_id": "c1", "discount": 0.25}, {"discount": 1}, {"chute_id": "c2"}]
    assert account.parse_discounts(page) == [Discount("c1", 0.25), Discount("*", 1.0)]


def test_utilization() -> None:
    """The load of a model counts its active machines where the service tells them apart."""
    row = {
        "name": "acme/one",
        "chute_id": "c1",
        "utilization_current": 0.5,
        "utilization_1h": 0.25,
        "rate_limit_ratio_5m": 0,
        "instance_count": 4,
    }
    assert account.parse_utilization([{**row, "active_instance_count": 3}, row, {"name": "acme/two"}]) == [
        Utilization("acme/one", "c1", 0.5, 0.25, 0.0, 3),
        Utilization("acme/one", "c1", 0.5, 0.25, 0.0, 4),
        Utilization("acme/two", None, None, None, None, None),
    ]


@pytest.mark.parametrize("page", [[{"a": 1}, 7], {"items": [{"a": 1}, None]}, {"data": [{"a": 1}]}])
def test_rows(page: object) -> None:
    """A bare list, a page and a catalogue are read alike, and rows that are no objects are left out."""
    assert account.rows(page) == [{"a": 1}]


@pytest.mark.parametrize(
    "parse",
    [
        account.rows,
        account.parse_profile,
        account.parse_quotas,
        account.parse_quota_usage,
        account.parse_subscription,
        account.parse_discounts,
        account.parse_usage,
        account.parse_utilization,
    ],
)
@pytest.mark.parametrize("page", [None, "text", 7, {"items": None}])
def test_what_is_no_page_is_not_read(parse: Callable[[object], object], page: object) -> None:
    """A page of another kind is a ValueError, which becomes an honest error of the call."""
    lists = (account.rows, account.parse_usage, account.parse_utilization, account.parse_discounts)
    if isinstance(page, dict) and parse not in lists:
        assert parse(page) is not None  # an object is what these pages are
        return
    with pytest.raises(ValueError, match=r"an object was expected|a list was expected"):
        parse(page)


ANSWERS: dict[str, object] = {
    "/users/me": ME,
    "/users/me/quotas": {"*": 200},
    "/users/me/quota_usage/*": {"quota": 200, "used": 1},
    "/users/me/quota_usage/c1": {"quota": 10, "used": 2},
    "/users/me/subscription_usage": {"subscription": False},
    "/users/me/discounts": [{"chute_id": "c1", "discount": 0.5}],
    "/users/me/usage": [],
}
CALLS: list[tuple[Callable[[Any], Any], str, dict[str, str], object]] = [
    (lambda pages: pages.me(), "/users/me", {}, account.parse_profile(ME)),
    (lambda pages: pages.quotas(), "/users/me/quotas", {}, [Quota("*", 200.0, True)]),
    (lambda pages: pages.quota_usage(), "/users/me/quota_usage/*", {}, QuotaUsage(200.0, 1.0)),
    (lambda pages: pages.quota_usage("c1"), "/users/me/quota_usage/c1", {}, QuotaUsage(10.0, 2.0)),
    (lambda pages: pages.subscription(), "/users/me/subscription_usage", {}, Subscription(False)),
    (lambda pages: pages.discounts(), "/users/me/discounts", {}, [Discount("c1", 0.5)]),
    (lambda pages: pages.usage(), "/users/me/usage", {"page": "0", "limit": "24"}, []),
    (lambda pages: pages.usage(page=2, limit=5), "/users/me/usage", {"page": "2", "limit": "5"}, []),
]


@pytest.mark.parametrize(("ask", "path", "params", "answer"), CALLS)
def test_each_page_is_asked_for_in_both_ways(
    ask: Callable[[Any], Any], path: str, params: dict[str, str], answer: object
) -> None:
    """The blocking and the async account ask for the same page with the key, and give the same answer."""
    asked: list[Endpoint[Any]] = []

    def get(endpoint: Endpoint[Any]) -> Any:
        asked.append(endpoint)
        return endpoint.parse(ANSWERS[endpoint.path])

    async def aget(endpoint: Endpoint[Any]) -> Any:
        return get(endpoint)

    assert ask(AccountPages(get)) == answer
    assert asyncio.run(ask(AsyncAccountPages(aget))) == answer
    assert [(endpoint.path, dict(endpoint.params), endpoint.public) for endpoint in asked] == [
        (path, params, False)
    ] * 2


@pytest.mark.parametrize("model", ["../../admin", "Qwen/Qwen3-32B-TEE", "a?b=c"])
def test_a_name_in_a_path_stays_one_part_of_it(model: str) -> None:
    """No name leads to another page than that of its quota."""
    path = account.quota_usage_page(model).path.removeprefix("/users/me/quota_usage/")
    assert not set("/?#") & set(path)


def test_public_pages_need_no_key() -> None:
    """The catalogue, the load and the speed of models are there for everybody; the first is the gateway's."""
    public: list[Endpoint[Any]] = [
        account.UTILIZATION,
        account.MODELS,
        account.chutes_page(0),
        account.stats_page("2026-08-01"),
    ]
    assert all(endpoint.public for endpoint in public)
    assert [endpoint.gateway for endpoint in public] == [False, True, False, False]
    assert account.stats_page("2026-08-01").params == {"start_date": "2026-08-01"}
