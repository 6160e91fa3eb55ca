"""The whole sign-in over HTTP."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from chutes_local import LocalChutes
from chutes_local.world.oauth import DEMO_CLIENT_ID as CLIENT
from chutes_local.world.oauth import DEMO_CLIENT_SECRET as SECRET
from chutes_local.world.oauth import DEMO_REDIRECT as REDIRECT
from tests.local.conftest import Ask

VERIFIER = "w" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
QUERY = {
    "response_type": "code",
    "client_id": CLIENT,
    "redirect_uri": REDIRECT,
    "scope": "openid profile chutes:invoke",
    "state": "s 1&",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}
GRANT = {"grant_type": "authorization_code", "redirect_uri": REDIRECT, "client_id": CLIENT, "code_verifier": VERIFIER}


def answer_form(http: httpx.Client, decision: str, query: dict[str, str] = QUERY) -> dict[str, list[str]]:
    """Load the consent page, press a button, and read where the browser is sent."""
    page = http.get("/api/idp/authorize", params=query)
    assert page.status_code == 200, page.text
    action = re.search(r'action="([^"]+)"', page.text)
    nonce = re.search(r'name="nonce" value="([^"]+)"', page.text)
    assert action
    assert nonce
    sent = http.post(action[1], data={"nonce": nonce[1], "decision": decision})
    assert sent.status_code == 302
    assert sent.headers["location"].startswith(REDIRECT + "?")
    return parse_qs(urlsplit(sent.headers["location"]).query)


def sign_in(http: httpx.Client, scope: str = QUERY["scope"]) -> dict[str, str]:
    code = answer_form(http, "allow", {**QUERY, "scope": scope})["code"][0]
    response = http.post("/api/idp/token", data={**GRANT, "code": code})
    assert response.status_code == 200, response.text
    tokens: dict[str, str] = response.json()
    return tokens


def test_the_consent_page_says_who_asks_for_what(http: httpx.Client) -> None:
    """The page names the app and each scope, and that no account is involved."""
    text = http.get("/api/idp/authorize", params=QUERY).text
    for phrase in ("Local demo", "chutes:invoke", "Allow", "Deny", "no account is involved"):
        assert phrase in text


def test_allow_and_deny(http: httpx.Client) -> None:
    """Allow sends a code back, deny an error, both with the state."""
    allowed, denied = answer_form(http, "allow"), answer_form(http, "deny")
    assert allowed["state"] == denied["state"] == ["s 1&"]
    assert denied["error"] == ["access_denied"]
    assert denied["error_description"] == ["User denied the request"]
    assert "code" in allowed


def test_wrong_questions_are_pages_not_redirects(http: httpx.Client) -> None:
    """A wrong client or address is a 400 page; a wrong scope goes back to the app."""
    for change in ({"client_id": "cid_x"}, {"redirect_uri": "http://evil.example/"}, {"response_type": "token"}):
        page = http.get("/api/idp/authorize", params={**QUERY, **change})
        assert page.status_code == 400
        assert page.headers["content-type"].startswith("text/html")
    back = http.get("/api/idp/authorize", params={**QUERY, "scope": "billing:read"})
    assert back.status_code == 302
    assert "error=invalid_scope" in back.headers["location"]
    assert http.post("/api/idp/authorize", data={"nonce": "old", "decision": "allow"}).status_code == 400


def test_a_token_opens_inference_and_account(ask: Ask, http: httpx.Client) -> None:
    """With the token one chats, and learns who one is."""
    tokens = sign_in(http)
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert ask(headers=bearer).status_code == 200
    assert http.get("/api/users/me", headers=bearer).status_code == 200
    info = http.get("/api/idp/userinfo", headers=bearer).json()
    assert set(info) == {"sub", "username", "created_at"}


def test_scopes_are_enforced(ask: Ask, http: httpx.Client) -> None:
    """Without chutes:invoke no inference (403), without profile no user info (403)."""
    only_profile = {"Authorization": f"Bearer {sign_in(http, 'profile')['access_token']}"}
    only_invoke = {"Authorization": f"Bearer {sign_in(http, 'chutes:invoke')['access_token']}"}
    refused = ask(headers=only_profile)
    assert (refused.status_code, refused.json()["detail"]) == (403, "Token does not have permission for this resource")
    assert ask(headers=only_invoke).status_code == 200
    assert http.get("/api/idp/userinfo", headers=only_invoke).status_code == 403


def test_an_expired_token(ask: Ask, http: httpx.Client, server: LocalChutes) -> None:
    """After an hour a token is nobody's; no sleeping is needed to see it."""
    bearer = {"Authorization": f"Bearer {sign_in(http)['access_token']}"}
    server.clock.advance(3601)
    response = ask(headers=bearer)
    assert (response.status_code, response.json()["detail"]) == (401, "Authentication required.")
    assert http.get("/api/idp/userinfo", headers=bearer).json()["detail"] == "Invalid or expired token"


def test_refreshing(http: httpx.Client) -> None:
    """Refreshing rotates and takes the secret, in the form or as Basic."""
    first = sign_in(http)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_id": CLIENT}
    without = http.post("/api/idp/token", data=form)
    assert (without.status_code, without.json()) == (400, {"error": "invalid_client"})
    second = http.post("/api/idp/token", data={**form, "client_secret": SECRET}).json()
    assert second["refresh_token"] != first["refresh_token"]
    reused = http.post("/api/idp/token", data={**form, "client_secret": SECRET})
    assert reused.json()["error"] == "invalid_grant"
    basic = http.post(
        "/api/idp/token",
        data={"grant_type": "refresh_token", "refresh_token": second["refresh_token"]},
        auth=(CLIENT, SECRET),
    )
    assert basic.json()["expires_in"] == 3600


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({**GRANT, "code": "nonsense"}, "invalid_grant"),
    ],
)
def test_the_token_endpoints_errors(http: httpx.Client, form: dict[str, str], error: str) -> None:
    """Errors of the token endpoint are 400 and go by OAuth's names."""
    response = http.post("/api/idp/token", data=form)
    assert (response.status_code, response.json()["error"]) == (400, error)


def test_introspect_and_revoke(http: httpx.Client) -> None:
    """A live token is described, a revoked one is not active, and revoking always works."""
    token = sign_in(http)["access_token"]
    seen = http.post("/api/idp/token/introspect", data={"token": token}).json()
    assert (seen["active"], seen["token_type"], seen["client_id"]) == (True, "access_token", CLIENT)
    assert seen["exp"] - seen["iat"] == 3600
    wrong = http.post("/api/idp/token/introspect", data={"token": token, "client_id": CLIENT, "client_secret": "x"})
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    for _ in range(2):
        assert http.post("/api/idp/token/revoke", data={"token": token}).json() == {"revoked": True}
    assert http.post("/api/idp/token/introspect", data={"token": token}).json() == {"active": False}


def test_discovery(http: httpx.Client, server: LocalChutes) -> None:
    """Discovery names endpoints that exist, under the management address."""
    found = http.get("/api/.well-known/openid-configuration").json()
    assert found["issuer"] == server.management_url
    assert found["token_endpoint"] == f"{server.management_url}/idp/token"
    assert found["code_challenge_methods_supported"] == ["plain", "S256"]
    assert "chutes:invoke" in http.get("/api/idp/scopes").json()["scopes"]


def test_consent_without_a_browser(http: httpx.Client, server: LocalChutes) -> None:
    """For programs without a browser the page can be answered in advance."""
    server.oauth.auto_consent = "allow"
    sent = http.get("/api/idp/authorize", params=QUERY)
    assert sent.status_code == 302
    assert "code=" in sent.headers["location"]


def test_apps(http: httpx.Client) -> None:
    """An app is registered with its own secret, listed without it, and deleted by app id alone."""
    body = {"name": "mine", "redirect_uris": ["http://127.0.0.1/cb"], "allowed_scopes": ["billing:read"]}
    made = http.post("/api/idp/apps", json=body).json()
    assert made["client_secret"].startswith("csc_")
    items = http.get("/api/idp/apps").json()["items"]
    assert {item["name"] for item in items} == {"Local demo", "mine"}
    assert all("client_secret" not in item for item in items)
    assert http.delete(f"/api/idp/apps/{made['client_id']}").status_code == 404
    assert http.delete(f"/api/idp/apps/{made['app_id']}").status_code == 200
    assert http.post("/api/idp/apps", json={"name": "x"}).status_code == 422


def test_forms_are_not_in_the_journal(http: httpx.Client, server: LocalChutes) -> None:
    """Codes, secrets and tokens are not written down."""
    tokens = sign_in(http)
    noted = str([entry.as_json() for entry in server.journal])
    assert tokens["access_token"] not in noted
    assert VERIFIER not in noted
