"""Account, quota, usage, keys and aliases over HTTP."""

from __future__ import annotations

import httpx
import pytest

from chutes_local import LocalChutes
from tests.local.conftest import MODEL, OTHER, Ask


def test_me(http: httpx.Client) -> None:
    """The account has a name and a balance."""
    me = http.get("/api/users/me").json()
    assert (me["username"], me["balance"], me["quotas"]) == ("local", 100.0, None)


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({}, 401, "Can't find a user with that api key in our db :("),
        ({"X-API-Key": "cpk_x"}, 401, "Can't find a user with that api key in our db :("),
        ({"Authorization": "Bearer cpk_bad"}, 401, "Invalid token or user not found"),
        ({"Authorization": "Bearer cpk_scoped"}, 401, "Invalid token or user not found"),
        ({"Authorization": "Bearer cak_old"}, 401, "Invalid token or user not found"),
    ],
)
def test_who_is_not_let_in(server: LocalChutes, headers: dict[str, str], status: int, text: str) -> None:
    """Management asks for a key that may manage."""
    response = httpx.get(f"{server.management_url}/users/me", headers=headers)
    assert (response.status_code, response.json()) == (status, {"detail": text})


def test_a_scoped_key_may_infer(ask: Ask) -> None:
    """The same key that is refused above answers a chat request."""
    assert ask(headers={"Authorization": "Bearer cpk_scoped"}).status_code == 200


def test_quota_and_its_use(ask: Ask, http: httpx.Client) -> None:
    """The quota is a row; its use counts requests."""
    ask()
    (row,) = http.get("/api/users/me/quotas").json()
    assert (row["chute_id"], row["quota"], row["is_default"]) == ("*", 5000, True)
    assert http.get("/api/users/me/quota_usage/*").json() == {"quota": 5000, "used": 1}
    free = {"Authorization": "Bearer cpk_unbilled"}
    assert http.get("/api/users/me/quotas", headers=free).json() == {}


def test_the_subscription_follows_the_quota(http: httpx.Client, server: LocalChutes) -> None:
    """A known quota is a subscription with caps, any other is none."""
    found = http.get("/api/users/me/subscription_usage").json()
    assert (found["subscription"], found["monthly_price"]) == (True, 20.0)
    assert found["four_hour"]["cap"] == pytest.approx(8.333, abs=0.001)
    assert found["monthly"]["cap"] == 100.0
    server.accounts.default.quota = 7
    assert http.get("/api/users/me/subscription_usage").json() == {"subscription": False}


def test_usage_by_hour_and_by_model(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """Usage has one bucket of this hour, or one per model."""
    tokens = [ask(model=name).json()["usage"] for name in (MODEL, OTHER, OTHER)]
    page = http.get("/api/users/me/usage").json()
    (bucket,) = page["items"]
    assert page["limit"] == 24
    assert bucket["count"] == 3
    assert bucket["input_tokens"] == sum(usage["prompt_tokens"] for usage in tokens)
    by_model = http.get("/api/users/me/usage", params={"per_chute": "true"}).json()["items"]
    assert sorted(row["count"] for row in by_model) == [1, 2]
    assert http.get("/api/invocations/usage").json()[0]["count"] == 3


def test_empty_lists(http: httpx.Client) -> None:
    """There are no discounts and no price overrides."""
    assert http.get("/api/users/me/discounts").json() == []
    assert http.get("/api/users/me/price_overrides").json() == []


def test_keys_are_made_and_deleted(http: httpx.Client) -> None:
    """A new key shows its secret once, is listed without it, and can be deleted."""
    made = http.post("/api/api_keys/", json={"name": "mine"}).json()
    assert made["secret_key"].startswith("cpk_")
    assert len(made["secret_key"]) == 102
    listed = http.get("/api/api_keys/").json()["items"]
    assert [(key["name"], "secret_key" in key) for key in listed] == [("mine", False)]
    path = f"/api/api_keys/{made['api_key_id']}"
    assert http.delete(path).status_code == 200
    assert http.delete(path).status_code == 404
    assert http.post("/api/api_keys/", json={"name": "x" * 25}).status_code == 422


def test_aliases(http: httpx.Client, server: LocalChutes) -> None:
    """An alias is made or replaced, listed, and deleted, in lower case."""
    ids = [chute.chute_id for name in (MODEL, OTHER) if (chute := server.fleet.find(name))]
    assert http.post("/api/model_aliases/", json={"alias": "Mine", "chute_ids": ids}).status_code == 201
    assert http.post("/api/model_aliases/", json={"alias": "mine", "chute_ids": ids[:1] * 2}).status_code == 201
    (alias,) = http.get("/api/model_aliases/").json()
    assert set(alias) == {"alias", "chute_ids", "created_at", "updated_at"}
    assert (alias["alias"], alias["chute_ids"]) == ("mine", ids[:1])
    assert http.delete("/api/model_aliases/MINE").status_code == 204
    missing = http.delete("/api/model_aliases/mine")
    assert (missing.status_code, missing.json()) == (404, {"detail": "alias not found"})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"alias": "a:b", "chute_ids": ["x"]}, 422),
        ({"alias": "a b", "chute_ids": ["x"]}, 422),
        ({"alias": "a", "chute_ids": []}, 422),
        ({"alias": "a", "chute_ids": [str(n) for n in range(21)]}, 422),
        ({"alias": "a", "chute_ids": ["nobody"]}, 400),
    ],
)
def test_aliases_that_are_refused(http: httpx.Client, body: dict[str, object], status: int) -> None:
    """Names with colons or spaces, no or too many members, and unknown ones are refused."""
    assert http.post("/api/model_aliases/", json=body).status_code == status
