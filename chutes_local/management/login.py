"""The sign-in over HTTP: discovery, consent page, tokens, userinfo, introspection, apps."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from chutes_local.management.pages import form, guarded, json_object, missing, stamp
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world import access
from chutes_local.world.accounts import STARTED, Account
from chutes_local.world.oauth import (
    OPEN_SCOPES,
    REFRESH_SECONDS,
    SCOPES,
    USERINFO_SCOPES,
    App,
    AuthorizeQuery,
    OAuthRefused,
)
from chutes_local.world.world import World

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:4rem auto;padding:0 1rem}}
button{{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}}</style></head>
<body><h1>{title}</h1>{body}
<p><small>This is the embedded Chutes on your own machine: no account is involved.</small></p></body></html>
"""
_CONSENT = """<p><b>{app}</b> asks to:</p><ul>{scopes}</ul>
<form method="post" action="{action}"><input type="hidden" name="nonce" value="{nonce}">
<button name="decision" value="allow">Allow</button>
<button name="decision" value="deny">Deny</button></form>"""


def routes(world: World) -> list[Route]:
    """Routes under ``/idp``, and discovery."""
    return [*_browser(world), *_tokens(world), *_apps(world)]


def _browser(world: World) -> list[Route]:
    async def discovery(request: Request) -> Response:
        return JSONResponse(_discovery(issuer(request)))

    async def authorize(request: Request) -> Response:
        query = _query(request.query_params)
        try:
            world.oauth.check(query)
        except OAuthRefused as refused:
            if refused.error == "invalid_scope":
                return _back(query, error=refused.error, error_description=refused.description)
            return _page("Cannot sign in", f"<p>{escape(refused.description)}</p>", 400)
        if world.oauth.auto_consent:
            return _decided(world, query, world.oauth.auto_consent)
        return _consent(world, query, f"{request.scope.get('root_path', '')}/idp/authorize")

    async def decide(request: Request) -> Response:
        fields = await form(request)
        try:
            query = world.oauth.answered(fields.get("nonce", ""))
        except OAuthRefused as refused:
            return _page("Cannot sign in", f"<p>{escape(refused.description)}</p>", 400)
        return _decided(world, query, fields.get("decision", "deny"))

    return [
        Route("/.well-known/openid-configuration", discovery, methods=["GET"]),
        Route("/idp/authorize", authorize, methods=["GET"]),
        Route("/idp/authorize", decide, methods=["POST"]),
    ]


def _tokens(world: World) -> list[Route]:
    async def token(request: Request) -> Response:
        try:
            return JSONResponse(_granted(world, await _client_form(request)))
        except OAuthRefused as refused:
            return JSONResponse(refused.as_json(), 400)

    async def userinfo(request: Request) -> Response:
        token = access.bearer(request.headers)
        if not token.startswith("cak_"):
            raise Refused(errors.detail(401, "Missing or invalid authorization header"))
        found = world.oauth.live(token)
        if found is None:
            raise Refused(errors.detail(401, "Invalid or expired token"))
        if not found.scopes & USERINFO_SCOPES:
            missing = "Token does not have required scope (openid, profile, or account:read)"
            raise Refused(errors.detail(403, missing))
        account = world.accounts.default
        created = stamp(STARTED)
        return JSONResponse({"sub": account.user_id, "username": account.username, "created_at": created})

    async def introspect(request: Request) -> Response:
        try:
            fields = await _client_form(request)
            if "client_id" in fields:
                world.oauth.check_client(fields["client_id"], fields.get("client_secret", ""))
        except OAuthRefused as refused:
            return JSONResponse(refused.as_json(), 401)
        return JSONResponse(_introspected(world, fields.get("token", "")))

    async def revoke(request: Request) -> Response:
        world.oauth.revoke((await form(request)).get("token", ""))
        return JSONResponse({"revoked": True})

    async def scopes(request: Request) -> Response:
        return JSONResponse({"scopes": SCOPES})

    return [
        Route("/idp/token", token, methods=["POST"]),
        Route("/idp/userinfo", guarded(userinfo), methods=["GET"]),
        Route("/idp/token/introspect", introspect, methods=["POST"]),
        Route("/idp/token/revoke", revoke, methods=["POST"]),
        Route("/idp/scopes", scopes, methods=["GET"]),
    ]


def _apps(world: World) -> list[Route]:
    async def listing(request: Request) -> Response:
        account = access.owner(request.headers, world)
        apps = [_app(app, account) for app in world.oauth.apps]
        return JSONResponse({"total": len(apps), "page": 0, "limit": 25, "items": apps})

    async def create(request: Request) -> Response:
        account = access.owner(request.headers, world)
        body = await json_object(request)
        name, uris, allowed = body.get("name"), body.get("redirect_uris"), body.get("allowed_scopes") or []
        if not isinstance(name, str) or not name:
            raise Refused(missing("body", "name", given=body))
        if not isinstance(uris, list) or not uris:
            raise Refused(missing("body", "redirect_uris", given=body))
        app = world.oauth.register(
            name, list(map(str, uris)), list(map(str, allowed)) if isinstance(allowed, list) else []
        )
        return JSONResponse({**_app(app, account), "client_secret": app.client_secret})

    async def delete(request: Request) -> Response:
        access.owner(request.headers, world)
        app = world.oauth.app(request.path_params["app_id"])
        if app is None or app.app_id != request.path_params["app_id"]:
            raise Refused(errors.detail(404, "App not found"))
        world.oauth.apps.remove(app)
        return JSONResponse({"app_id": app.app_id, "deleted": True})

    return [
        Route("/idp/apps", guarded(listing), methods=["GET"]),
        Route("/idp/apps", guarded(create), methods=["POST"]),
        Route("/idp/apps/{app_id}", guarded(delete), methods=["DELETE"]),
    ]


def _app(app: App, account: Account) -> dict[str, object]:
    """Return what the list of apps shows: everything but the secret."""
    made = stamp(app.created_at).removesuffix("Z")
    return {
        "app_id": app.app_id,
        "client_id": app.client_id,
        "user_id": account.user_id,
        "name": app.name,
        "description": "",
        "redirect_uris": app.redirect_uris,
        "homepage_url": "",
        "logo_url": None,
        "active": True,
        "public": True,
        "refresh_token_lifetime_days": REFRESH_SECONDS // 86400,
        "created_at": made,
        "updated_at": made,
    }


def issuer(request: Request) -> str:
    """Return the management root as the client sees it, prefix included."""
    return str(request.base_url).rstrip("/")


def _query(params: Mapping[str, str]) -> AuthorizeQuery:
    method = params.get("code_challenge_method", "plain" if params.get("code_challenge") else "")
    return AuthorizeQuery(
        client_id=params.get("client_id", ""),
        redirect_uri=params.get("redirect_uri", ""),
        scope=params.get("scope", ""),
        state=params.get("state", ""),
        challenge=params.get("code_challenge", ""),
        method=method,
        response_type=params.get("response_type", ""),
    )


def _consent(world: World, query: AuthorizeQuery, action: str) -> Response:
    app = world.oauth.app(query.client_id)
    names = (query.scope or "profile").split()
    scopes = "".join(
        f"<li>{escape(SCOPES.get(name, 'Know who you are'))} <code>{escape(name)}</code></li>" for name in names
    )
    nonce = world.oauth.ask(query)
    body = _CONSENT.format(
        app=escape(app.name if app else ""), scopes=scopes, action=escape(action), nonce=escape(nonce)
    )
    return _page("Sign in with Chutes", body)


def _decided(world: World, query: AuthorizeQuery, decision: str) -> Response:
    if decision != "allow":
        return _back(query, error="access_denied", error_description="User denied the request")
    return _back(query, code=world.oauth.grant_code(query))


def _back(query: AuthorizeQuery, **values: str) -> Response:
    joint = "&" if "?" in query.redirect_uri else "?"
    with_state = {**values, "state": query.state} if query.state else values
    return RedirectResponse(f"{query.redirect_uri}{joint}{urlencode(with_state)}", 302)


def _page(title: str, body: str, status: int = 200) -> Response:
    return HTMLResponse(_PAGE.format(title=title, body=body), status)


async def _client_form(request: Request) -> dict[str, str]:
    """Read a form, with client credentials also from a Basic header."""
    fields = await form(request)
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthRefused("invalid_client") from None
        fields |= {"client_id": client_id, "client_secret": secret}
    return fields


def _granted(world: World, fields: Mapping[str, str]) -> dict[str, object]:
    kind = fields.get("grant_type", "")
    needed = {
        "authorization_code": ("code", "redirect_uri", "client_id"),
        "refresh_token": ("refresh_token", "client_id"),
    }
    if kind not in needed:
        raise OAuthRefused("unsupported_grant_type" if kind else "invalid_request")
    for name in needed[kind]:
        if not fields.get(name):
            raise OAuthRefused("invalid_request", f"Missing {name}")
    secret = fields.get("client_secret", "")
    if kind == "refresh_token":
        return world.oauth.refresh(fields["refresh_token"], fields["client_id"], secret)
    return world.oauth.exchange(
        fields["code"],
        fields["redirect_uri"],
        fields["client_id"],
        secret=secret,
        verifier=fields.get("code_verifier", ""),
    )


def _introspected(world: World, token: str) -> dict[str, object]:
    found = world.oauth.live(token)
    if found is None:
        return {"active": False}
    account = world.accounts.default
    return {
        "active": True,
        "token_type": found.kind,
        "exp": int(found.expires),
        "iat": int(found.issued),
        "scope": found.scope,
        "client_id": found.client_id,
        "username": account.username,
        "sub": account.user_id,
    }


def _discovery(root: str) -> dict[str, object]:
    return {
        "issuer": root,
        "authorization_endpoint": f"{root}/idp/authorize",
        "token_endpoint": f"{root}/idp/token",
        "userinfo_endpoint": f"{root}/idp/userinfo",
        "introspection_endpoint": f"{root}/idp/token/introspect",
        "revocation_endpoint": f"{root}/idp/token/revoke",
        "scopes_supported": [*OPEN_SCOPES, *(name for name in SCOPES if name not in OPEN_SCOPES)],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["plain", "S256"],
        # "none" is advertised, as on the real service, although refreshing needs the secret.
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "none"],
        "service_documentation": "https://docs.chutes.ai/oauth",
        "subject_types_supported": ["public"],
        "claims_supported": ["sub", "username", "created_at"],
    }
