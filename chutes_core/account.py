"""The service's management endpoints: account, quota, catalogue, load. Each is data: a path and a parser.

:class:`Endpoint` describes one; :class:`AccountPages` and :class:`AsyncAccountPages` request them. The service
returns the same thing in different shapes for different accounts; the parsers normalize them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import quote

__all__ = [
    "AccountPages",
    "AsyncAccountPages",
    "Discount",
    "Endpoint",
    "Profile",
    "Quota",
    "QuotaUsage",
    "Subscription",
    "UsageBucket",
    "Utilization",
    "Window",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """One endpoint of the service.

    Attributes:
        path: The path on the management host, or on the gateway if ``gateway`` is true.
        parse: Parses the JSON value; raises ValueError if it cannot.
        params: The query parameters.
        public: Whether it needs no key.
        gateway: Whether it is on the inference gateway.
    """

    path: str
    parse: Callable[[object], T]
    params: Mapping[str, str] = field(default_factory=dict)
    public: bool = False
    gateway: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """Your user, and the account's balance in US dollars."""

    username: str | None
    user_id: str | None
    balance: float | None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """Included requests per day, for one model or (``model="*"``) for all others. 0 means none are included."""

    model: str
    requests: float
    is_default: bool | None = None


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """Today's use of a quota; ``total`` is None if there is no limit."""

    total: float | None
    used: float

    @property
    def remaining(self) -> float | None:
        """What is left today; None if there is no limit."""
        return None if self.total is None else max(self.total - self.used, 0.0)


@dataclass(frozen=True, slots=True)
class Window:
    """A spending cap in US dollars over a period; ``cap`` is None if there is none."""

    usage: float
    cap: float | None
    remaining: float | None
    reset_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription and its caps; ``active`` is False if there is none."""

    active: bool
    monthly_price: float | None = None
    four_hour: Window | None = None
    monthly: Window | None = None


@dataclass(frozen=True, slots=True)
class Discount:
    """Your discount: a share of the price of one model, by its chute id, or of all (``*``)."""

    model: str
    share: float


@dataclass(frozen=True, slots=True)
class UsageBucket:
    """Cost and usage of one hour."""

    bucket: str
    amount: float
    count: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Utilization:
    """How loaded a model is: the share of its capacity in use, and the share of requests rejected."""

    model: str
    chute_id: str | None
    current: float | None
    last_hour: float | None
    rate_limited_5m: float | None
    instances: int | None


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError("an object was expected")
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _integer(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def rows(value: object) -> list[Mapping[str, object]]:
    """Read a list, a page's ``items``, or a catalogue's ``data``; rows that are not objects are skipped.

    >>> rows({"total": 1, "items": [{"a": 1}, None]})
    [{'a': 1}]
    """
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("items", "data") if key in value), None)
    if not isinstance(value, list):
        raise ValueError("a list was expected")
    return [row for row in value if isinstance(row, Mapping)]


def parse_profile(value: object) -> Profile:
    """Read /users/me."""
    me = _mapping(value)
    return Profile(
        _text(me.get("username")), _text(me.get("user_id")), _number(me.get("balance")), _time(me.get("created_at"))
    )


def parse_quotas(value: object) -> list[Quota]:
    """Read quotas, which come as a list, as an empty object, or as an object of numbers.

    >>> parse_quotas({"*": 200})
    [Quota(model='*', requests=200.0, is_default=True)]
    """
    if isinstance(value, Mapping):
        return [Quota(str(key), number, True) for key, each in value.items() if (number := _number(each)) is not None]
    return [
        Quota(str(row.get("chute_id", "*")), number, bool(row["is_default"]) if "is_default" in row else None)
        for row in rows(value)
        if (number := _number(row.get("quota"))) is not None
    ]


def parse_quota_usage(value: object) -> QuotaUsage:
    """Read the usage of one quota.

    >>> parse_quota_usage({"quota": 300, "used": 12.5}).remaining
    287.5
    """
    found = _mapping(value)
    return QuotaUsage(_number(found.get("quota")), _number(found.get("used")) or 0.0)


def parse_subscription(value: object) -> Subscription:
    """Read the caps of a subscription."""
    found = _mapping(value)
    return Subscription(
        bool(found.get("subscription")),
        _number(found.get("monthly_price")),
        _window(found.get("four_hour")),
        _window(found.get("monthly")),
    )


def _window(value: object) -> Window | None:
    if not isinstance(value, Mapping):
        return None
    return Window(
        _number(value.get("usage")) or 0.0,
        _number(value.get("cap")),
        _number(value.get("remaining")),
        _time(value.get("reset_at")),
    )


def parse_discounts(value: object) -> list[Discount]:
    """Read discounts.

    >>> parse_discounts([{"user_id": "u1", "chute_id": "c1", "discount": 0.25}])
    [Discount(model='c1', share=0.25)]
    """
    return [
        Discount(str(row.get("chute_id", "*")), share)
        for row in rows(value)
        if (share := _number(row.get("discount"))) is not None
    ]


def parse_usage(value: object) -> list[UsageBucket]:
    """Read hourly usage."""
    return [
        UsageBucket(
            str(row.get("bucket", "")),
            _number(row.get("amount")) or 0.0,
            _integer(row.get("count")) or 0,
            _integer(row.get("input_tokens")) or 0,
            _integer(row.get("output_tokens")) or 0,
        )
        for row in rows(value)
    ]


def parse_utilization(value: object) -> list[Utilization]:
    """Read the load of all models."""
    return [
        Utilization(
            str(row.get("name", "")),
            _text(row.get("chute_id")),
            _number(row.get("utilization_current")),
            _number(row.get("utilization_1h")),
            _number(row.get("rate_limit_ratio_5m")),
            _integer(row.get("active_instance_count", row.get("instance_count"))),
        )
        for row in rows(value)
    ]


PROFILE = Endpoint("/users/me", parse_profile)
QUOTAS = Endpoint("/users/me/quotas", parse_quotas)
SUBSCRIPTION = Endpoint("/users/me/subscription_usage", parse_subscription)
DISCOUNTS = Endpoint("/users/me/discounts", parse_discounts)
UTILIZATION = Endpoint("/chutes/utilization", parse_utilization, public=True)
MODELS = Endpoint("/models", rows, public=True, gateway=True)
CHUTES_PER_PAGE = 500
MOST_PAGES = 100
"""The service has no more."""


@dataclass(frozen=True, slots=True)
class ChutePage:
    """A page of the list of public chutes; ``total`` is how many there are on all pages, if the service says."""

    chutes: list[Mapping[str, object]]
    total: int | None


def parse_chutes(value: object) -> ChutePage:
    """Read a page of the list of chutes; what they publish is listed once for all that publish the same.

    >>> parse_chutes({"total": 1, "items": [{"chute_id": "1", "cord_ref_id": "r"}], "cord_refs": {"r": []}}).chutes
    [{'chute_id': '1', 'cord_ref_id': 'r', 'cords': []}]
    """
    page = value if isinstance(value, Mapping) else {}
    shared = page.get("cord_refs")
    known = shared if isinstance(shared, Mapping) else {}
    chutes: list[Mapping[str, object]] = [
        {**row, "cords": row.get("cords") or known.get(str(row.get("cord_ref_id")))} for row in rows(value)
    ]
    return ChutePage(chutes, _integer(page.get("total")))


def chutes_page(page: int) -> Endpoint[ChutePage]:
    """Endpoint for one page of the list of public chutes."""
    params = {"include_public": "true", "limit": str(CHUTES_PER_PAGE), "page": str(page)}
    return Endpoint("/chutes/", parse_chutes, params, public=True)


def parse_chute(value: object) -> Mapping[str, object]:
    """Read /chutes/NAME."""
    if not isinstance(value, Mapping):
        raise ValueError("an object was expected")
    return value


def chute_page(name: str) -> Endpoint[Mapping[str, object]]:
    """Endpoint for one public chute, by its name or id."""
    return Endpoint(f"/chutes/{quote(name)}", parse_chute, public=True)


def stats_page(start_date: str) -> Endpoint[list[Mapping[str, object]]]:
    """Endpoint for the daily speed of every model since a date (the full history is large)."""
    return Endpoint("/invocations/stats/llm", rows, {"start_date": start_date}, public=True)


def quota_usage_page(model: str) -> Endpoint[QuotaUsage]:
    """Endpoint for today's use of a quota, of one model by its chute id or of ``*``."""
    return Endpoint(f"/users/me/quota_usage/{quote(model, safe='*')}", parse_quota_usage)


def usage_page(page: int, limit: int) -> Endpoint[list[UsageBucket]]:
    """Endpoint for hourly usage, newest first."""
    return Endpoint("/users/me/usage", parse_usage, {"page": str(page), "limit": str(limit)})


class AccountPages:
    """Your account: ``client.account``. Needs a key that may read it; an inference-only key may not."""

    def __init__(self, get: Callable[[Endpoint[T]], T]) -> None:
        self._get: Callable[[Endpoint[object]], object] = get  # type: ignore[assignment]

    def _ask(self, endpoint: Endpoint[T]) -> T:
        return self._get(endpoint)  # type: ignore[arg-type, return-value]

    def me(self) -> Profile:
        """Return your user and balance."""
        return self._ask(PROFILE)

    def quotas(self) -> list[Quota]:
        """Return the requests included per day."""
        return self._ask(QUOTAS)

    def quota_usage(self, model: str = "*") -> QuotaUsage:
        """Return today's use of a quota."""
        return self._ask(quota_usage_page(model))

    def subscription(self) -> Subscription:
        """Return the subscription and its caps."""
        return self._ask(SUBSCRIPTION)

    def discounts(self) -> list[Discount]:
        """Return your discounts."""
        return self._ask(DISCOUNTS)

    def usage(self, *, page: int = 0, limit: int = 24) -> list[UsageBucket]:
        """Return hourly usage, newest first."""
        return self._ask(usage_page(page, limit))


class AsyncAccountPages:
    """Your account: ``client.account`` of the async client."""

    def __init__(self, get: Callable[[Endpoint[T]], Awaitable[T]]) -> None:
        self._get: Callable[[Endpoint[object]], Awaitable[object]] = get  # type: ignore[assignment]

    async def _ask(self, endpoint: Endpoint[T]) -> T:
        return await self._get(endpoint)  # type: ignore[arg-type, return-value]

    async def me(self) -> Profile:
        """Return your user and balance."""
        return await self._ask(PROFILE)

    async def quotas(self) -> list[Quota]:
        """Return the requests included per day."""
        return await self._ask(QUOTAS)

    async def quota_usage(self, model: str = "*") -> QuotaUsage:
        """Return today's use of a quota."""
        return await self._ask(quota_usage_page(model))

    async def subscription(self) -> Subscription:
        """Return the subscription and its caps."""
        return await self._ask(SUBSCRIPTION)

    async def discounts(self) -> list[Discount]:
        """Return your discounts."""
        return await self._ask(DISCOUNTS)

    async def usage(self, *, page: int = 0, limit: int = 24) -> list[UsageBucket]:
        """Return hourly usage, newest first."""
        return await self._ask(usage_page(page, limit))
