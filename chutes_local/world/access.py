"""Authentication: map request headers to an account, or to the error that Chutes would send."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from chutes_local.wire import errors
from chutes_local.wire.errors import Answer, Refused
from chutes_local.world.accounts import Account
from chutes_local.world.world import World

INVOKE = frozenset({"chutes:invoke", "admin"})
READ = frozenset({"account:read", "profile", "admin"})
TOKEN_HEADER = "x-local-token"
NEEDS_TOKEN = (
    "The controls need the token of this server, as the header X-Local-Token. `chutes-connect local` prints it, a"
    " program has it as `chutes.token`, and CHUTES_LOCAL_TOKEN sets it beforehand."
)


def bearer(headers: Mapping[str, str]) -> str:
    """Read the key: the part of ``Authorization`` after the last space, as the service does.

    >>> bearer({"authorization": "Bearer cpk_1"}), bearer({"authorization": "cpk_1"}), bearer({})
    ('cpk_1', 'cpk_1', '')
    """
    value = headers.get("authorization", "").strip()
    return "" if value.lower() == "bearer" else value.split(" ")[-1]


def caller(headers: Mapping[str, str], world: World) -> Account:
    """Authenticate an inference request. Without a key the edge answers 429; X-API-Key does not count here."""
    key = bearer(headers)
    if not key:
        raise Refused(errors.nginx(429), "keyless")
    if key.startswith("cak_"):
        return _by_token(key, world, INVOKE, errors.AUTHENTICATION_REQUIRED)
    misshapen = world.accounts.shape_error(key)
    if misshapen:
        raise Refused(misshapen)
    account = world.accounts.of(key)
    if account.kind == "bad":
        raise Refused(errors.detail(401, errors.BAD_KEY))
    return account


def owner(headers: Mapping[str, str], world: World, scopes: frozenset[str] = READ) -> Account:
    """Authenticate a management request; an inference-only key is refused."""
    key = bearer(headers)
    if not key:
        raise Refused(errors.detail(401, errors.UNKNOWN_KEY))
    if key.startswith("cak_"):
        return _by_token(key, world, scopes, errors.BAD_KEY)
    misshapen = world.accounts.shape_error(key)
    if misshapen:
        raise Refused(misshapen)
    account = world.accounts.of(key)
    if account.kind in ("bad", "scoped"):
        raise Refused(errors.detail(401, errors.BAD_KEY))
    return account


def _by_token(token: str, world: World, scopes: frozenset[str], unknown: str) -> Account:
    found = world.oauth.live(token)
    if found is None:
        raise Refused(errors.detail(401, unknown))
    if not found.scopes & scopes:
        raise Refused(errors.detail(403, errors.NO_PERMISSION))
    return world.accounts.default


def control(method: str, path: str, headers: Mapping[str, str], token: str) -> Answer | None:
    """Return why a request may not use this server's own controls, if it may not."""
    if path.rstrip("/") == "/local" and method in ("GET", "HEAD"):
        return None
    if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode("latin-1"), token.encode()):
        return errors.detail(401, NEEDS_TOKEN)
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() != errors.JSON_TYPE:
        return errors.detail(415, "The controls take JSON: send it with Content-Type: application/json.")
    return None
