"""Account, quota, usage, key and alias routes of ``api.chutes.ai``."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chutes_local.management.pages import Endpoint, guarded, invalid, json_object, page_of, stamp
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world import access
from chutes_local.world.accounts import MONTHLY_PRICES, STARTED, Account, block_after, month_after
from chutes_local.world.world import World

Json = dict[str, object]
_ALIAS = re.compile(r"[!-9;-~]{1,64}")  # printable, no space, no colon


def routes(world: World) -> list[Route]:
    """Routes under ``/users``, and the others that belong to one account."""
    return [*_users(world), *_keys(world), *_aliases(world)]


def _users(world: World) -> list[Route]:
    async def me(request: Request) -> Response:
        return JSONResponse(_user(access.owner(request.headers, world)))

    async def quotas(request: Request) -> Response:
        account = access.owner(request.headers, world)
        if account.unlimited:
            return JSONResponse({})
        if account.quota <= 0:
            return JSONResponse({"*": 0})  # for an account without rows the service sends its default
        row = {
            "user_id": account.user_id,
            "chute_id": "*",
            "quota": account.quota,
            "is_default": True,
            "payment_refresh_date": None,
            "updated_at": stamp(STARTED),
        }
        return JSONResponse([row])

    async def quota_usage(request: Request) -> Response:
        account = access.owner(request.headers, world)
        return JSONResponse({"quota": "unlimited" if account.unlimited else account.quota, "used": account.used})

    async def subscription(request: Request) -> Response:
        return JSONResponse(_subscription(access.owner(request.headers, world), world.clock()))

    async def none(request: Request) -> Response:
        access.owner(request.headers, world)
        return JSONResponse([])

    async def usage(request: Request) -> Response:
        account = access.owner(request.headers, world)
        items = _usage(world, account, request.query_params.get("per_chute") == "true")
        return JSONResponse(page_of(items, {"limit": "24", **request.query_params}))

    async def platform_usage(request: Request) -> Response:
        return JSONResponse(_usage(world, world.accounts.default, False))

    return [
        _get("/users/me", me),
        _get("/users/me/quotas", quotas),
        _get("/users/me/quota_usage/{chute_id:path}", quota_usage),
        _get("/users/me/subscription_usage", subscription),
        _get("/users/me/discounts", none),
        _get("/users/me/price_overrides", none),
        _get("/users/{user_id}/usage", usage),
        _get("/invocations/usage", platform_usage),
    ]


def _keys(world: World) -> list[Route]:
    keys: list[Json] = []

    async def listing(request: Request) -> Response:
        access.owner(request.headers, world)
        return JSONResponse(page_of(keys, request.query_params))

    async def create(request: Request) -> Response:
        account = access.owner(request.headers, world)
        body = await json_object(request)
        name = body.get("name")
        if not isinstance(name, str) or not 1 <= len(name) <= 24:
            raise Refused(invalid("body", "name", "String should have 1 to 24 characters", name))
        key_id = str(uuid.uuid4())
        shown = {
            "api_key_id": key_id,
            "user_id": account.user_id,
            "admin": bool(body.get("admin", False)),
            "name": name,
            "created_at": stamp(world.clock()),
            "last_used_at": None,
            "scopes": body.get("scopes") or [],
        }
        keys.append(shown)
        secret = f"cpk_{key_id.replace('-', '')}.{account.user_id.replace('-', '')}.{'fake'.ljust(32, '0')}"
        return JSONResponse({**shown, "secret_key": secret})

    async def delete(request: Request) -> Response:
        access.owner(request.headers, world)
        found = [key for key in keys if key["api_key_id"] == request.path_params["key_id"]]
        if not found:
            raise Refused(errors.detail(404, "API key not found"))
        keys.remove(found[0])
        return JSONResponse({"api_key_id": found[0]["api_key_id"], "deleted": True})

    return [
        _get("/api_keys/", listing),
        Route("/api_keys/", guarded(create), methods=["POST"]),
        Route("/api_keys/{key_id}", guarded(delete), methods=["DELETE"]),
    ]


def _aliases(world: World) -> list[Route]:
    async def listing(request: Request) -> Response:
        access.owner(request.headers, world)
        return JSONResponse([_alias(world, alias) for alias in world.aliases])

    async def upsert(request: Request) -> Response:
        access.owner(request.headers, world)
        body = await json_object(request)
        name, members = body.get("alias"), body.get("chute_ids")
        if not isinstance(name, str) or not _ALIAS.fullmatch(name):
            raise Refused(invalid("body", "alias", "1 to 64 printable characters without space or colon", name))
        chute_ids = list(dict.fromkeys(map(str, cast(Sequence[object], members)))) if isinstance(members, list) else []
        if not 1 <= len(chute_ids) <= 20:
            raise Refused(invalid("body", "chute_ids", "1 to 20 chute ids are required", members))
        for chute_id in chute_ids:
            if world.fleet.find(chute_id) is None:
                raise Refused(errors.detail(400, f"chute not found: {chute_id}"))
        alias = name.lower()
        world.aliases[alias] = chute_ids
        world.alias_times.setdefault(alias, stamp(world.clock()))
        return JSONResponse(_alias(world, alias), 201)

    async def delete(request: Request) -> Response:
        access.owner(request.headers, world)
        if world.aliases.pop(request.path_params["alias"].lower(), None) is None:
            raise Refused(errors.detail(404, "alias not found"))
        return Response(status_code=204, media_type="application/json")

    return [
        _get("/model_aliases/", listing),
        Route("/model_aliases/", guarded(upsert), methods=["POST"]),
        Route("/model_aliases/{alias}", guarded(delete), methods=["DELETE"]),
    ]


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, guarded(endpoint), methods=["GET"])


def _alias(world: World, alias: str) -> Json:
    made = world.alias_times[alias]
    return {"alias": alias, "chute_ids": world.aliases[alias], "created_at": made, "updated_at": made}


def _user(account: Account) -> Json:
    return {
        "username": account.username,
        "user_id": account.user_id,
        "logo_id": None,
        "created_at": stamp(STARTED),
        "hotkey": "5LocalHotkey",
        "coldkey": "5LocalColdkey",
        "payment_address": "5LocalAddress",
        "permissions_bitmask": 0,
        "balance": account.balance,
        "netuids": None,
        "quotas": None,
        "logo": None,
        "permissions": [],
    }


def _subscription(account: Account, now: float) -> Json:
    price = None if account.unlimited else MONTHLY_PRICES.get(account.quota)
    if price is None:
        return {"subscription": False}
    started = stamp(STARTED).removesuffix("Z")
    capped = account.kind == "capped"
    four_hours, month = price / 180 * 75, price * 5
    return {
        "subscription": True,
        "custom": False,
        "monthly_price": price,
        "anchor_date": started,
        "effective_date": None,
        "updated_at": started,
        "four_hour": _cap(four_hours if capped else 0.0, four_hours, block_after(now)),
        "monthly": _cap(0.0, month, month_after(now)),
    }


def _cap(used: float, cap: float, reset: str) -> Json:
    return {"usage": used, "cap": cap, "remaining": cap - used, "reset_at": reset}


def _usage(world: World, account: Account, per_chute: bool) -> list[Json]:
    hour = datetime.fromtimestamp(world.clock(), UTC).replace(minute=0, second=0, microsecond=0).isoformat()
    if not per_chute:
        return [_bucket(hour, account.spent, account.requests, account.input_tokens, account.output_tokens)]
    return [
        {**_bucket(hour, 0.0, c.requests, c.input_tokens, c.output_tokens), "chute_id": c.chute_id}
        for c in world.fleet
        if c.requests
    ]


def _bucket(hour: str, amount: float, count: int, tokens_in: int, tokens_out: int) -> Json:
    return {
        "bucket": hour,
        "amount": amount,
        "count": count,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
    }
