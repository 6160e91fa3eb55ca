"""Codes and tokens, without HTTP."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest

from chutes_local.world.oauth import DEMO_CLIENT_ID as CLIENT
from chutes_local.world.oauth import DEMO_CLIENT_SECRET as SECRET
from chutes_local.world.oauth import DEMO_REDIRECT as REDIRECT
from chutes_local.world.oauth import AuthorizeQuery, OAuthRefused, OAuthStore

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
QUERY = AuthorizeQuery(CLIENT, REDIRECT, "profile chutes:invoke")
PKCE = replace(QUERY, challenge=CHALLENGE, method="S256")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store(time: Time) -> OAuthStore:
    return OAuthStore(time)


def signed_in(store: OAuthStore) -> tuple[str, str]:
    tokens = store.exchange(store.grant_code(QUERY), REDIRECT, CLIENT, secret=SECRET)
    return str(tokens["access_token"]), str(tokens["refresh_token"])


def test_the_shapes_of_tokens(store: OAuthStore) -> None:
    """Tokens have the prefixes and lengths of the service's."""
    access, refresh = signed_in(store)
    assert len(access) == len(refresh) == 4 + 36 + 1 + 48
    assert (access[:4], refresh[:4]) == ("cak_", "crt_")
    assert (len(CLIENT), len(SECRET)) == (28, 52)


def test_pkce_needs_the_verifier_and_no_secret(store: OAuthStore) -> None:
    """The right verifier opens a code, a wrong or missing one does not."""
    assert store.exchange(store.grant_code(PKCE), REDIRECT, CLIENT, verifier=VERIFIER)["expires_in"] == 3600
    plain = replace(PKCE, challenge="abc", method="plain")
    assert store.exchange(store.grant_code(plain), REDIRECT, CLIENT, verifier="abc")
    for wrong in ("", "x" * 43):
        with pytest.raises(OAuthRefused, match="invalid_grant"):
            store.exchange(store.grant_code(PKCE), REDIRECT, CLIENT, verifier=wrong)


def test_without_pkce_the_secret_is_needed(store: OAuthStore) -> None:
    """A code without a challenge takes the client's secret."""
    with pytest.raises(OAuthRefused, match="invalid_client"):
        store.exchange(store.grant_code(QUERY), REDIRECT, CLIENT)


def test_a_code_is_good_once_and_for_ten_minutes(store: OAuthStore, time: Time) -> None:
    """Used or old codes, and those of another client or address, are refused."""
    code = store.grant_code(QUERY)
    store.exchange(code, REDIRECT, CLIENT, secret=SECRET)
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        store.exchange(code, REDIRECT, CLIENT, secret=SECRET)
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        store.exchange(store.grant_code(QUERY), "http://elsewhere", CLIENT, secret=SECRET)
    late = store.grant_code(QUERY)
    time.now += 601
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        store.exchange(late, REDIRECT, CLIENT, secret=SECRET)


def test_refreshing_rotates(store: OAuthStore) -> None:
    """A refresh token is good once; the new one goes on; the scope stays."""
    _, refresh = signed_in(store)
    fresh = store.refresh(refresh, CLIENT, SECRET)
    assert fresh["scope"] == "profile chutes:invoke"
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        store.refresh(refresh, CLIENT, SECRET)
    assert store.refresh(str(fresh["refresh_token"]), CLIENT, SECRET)


def test_refreshing_takes_the_secret(store: OAuthStore) -> None:
    """Without the secret there is no refresh, and the token is not used up."""
    _, refresh = signed_in(store)
    with pytest.raises(OAuthRefused, match="invalid_client"):
        store.refresh(refresh, CLIENT, "")
    assert store.refresh(refresh, CLIENT, SECRET)


def test_tokens_expire_and_are_revoked(store: OAuthStore, time: Time) -> None:
    """An access token lives an hour, a refresh token thirty days, a revoked one no longer."""
    access, refresh = signed_in(store)
    other, _ = signed_in(store)
    store.revoke(other)
    assert store.live(other) is None
    time.now += 3600
    assert store.live(access) is None
    assert store.live(refresh)
    time.now += 30 * 24 * 3600
    with pytest.raises(OAuthRefused, match="invalid_grant"):
        store.refresh(refresh, CLIENT, SECRET)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (replace(QUERY, client_id="cid_x"), "invalid_client"),
        (replace(QUERY, redirect_uri=REDIRECT + "/"), "redirect_uri is not registered"),
        (replace(QUERY, response_type="token"), "unsupported_response_type"),
        (replace(PKCE, method="S512"), "code_challenge_method"),
        (replace(QUERY, scope="chutes:invoke:abc"), "Unknown scope: chutes:invoke:abc"),
        (replace(QUERY, scope="billing:read"), "Scope 'billing:read' requires explicit app registration"),
    ],
)
def test_what_a_browser_must_not_bring(store: OAuthStore, query: AuthorizeQuery, error: str) -> None:
    """Unknown clients, addresses, methods and scopes are refused."""
    with pytest.raises(OAuthRefused, match=error):
        store.check(query)


def test_a_registered_scope_may_be_asked_for(store: OAuthStore) -> None:
    """An app that was registered with a privileged scope gets it."""
    app = store.register("mine", ["http://127.0.0.1/cb"], ["billing:read"])
    assert store.check(AuthorizeQuery(app.client_id, "http://127.0.0.1/cb", "billing:read"))
    assert app.client_secret not in repr(app)


def test_a_consent_page_expires(store: OAuthStore, time: Time) -> None:
    """A form is answered once, within five minutes."""
    nonce = store.ask(QUERY)
    assert store.answered(nonce) == QUERY
    with pytest.raises(OAuthRefused, match="expired"):
        store.answered(nonce)
    late = store.ask(QUERY)
    time.now += 301
    with pytest.raises(OAuthRefused, match="expired"):
        store.answered(late)
