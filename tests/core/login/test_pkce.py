"""The sign-in itself: what is asked, what an answer means, and what the service says to a code."""

from __future__ import annotations

import base64
import hashlib
import sys
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from chutes_core import ConnectionFailedError
from chutes_core.login.errors import LoginError
from chutes_core.login.pkce import OAuthApp, SignIn
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes
from chutes_local.world.oauth import CODE_SECONDS
from tests.core.login.conftest import APP, PUBLIC_APP, code_for, frames

SERVICE = "https://api.chutes.ai"
BACK = "http://127.0.0.1:1456/oauth-callback"


@pytest.fixture
def sign_in() -> SignIn:
    return SignIn(SERVICE, APP)


def asked(sign_in: SignIn) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(sign_in.url).query).items()}


def test_what_is_asked_of_the_browser(sign_in: SignIn) -> None:
    """The address has the app, the way back, the scopes, a state and an S256 challenge, and no secret."""
    query = asked(sign_in)
    assert sign_in.url.startswith(f"{SERVICE}/idp/authorize?")
    assert len(query.pop("state")) >= 32
    assert len(query.pop("code_challenge")) == 43
    assert query == {
        "response_type": "code",
        "client_id": APP.client_id,
        "redirect_uri": BACK,
        "scope": "openid profile chutes:invoke",
        "code_challenge_method": "S256",
    }
    assert "csc_" not in sign_in.url


def test_the_challenge_is_the_verifiers(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent with the code proves what was sent with the question; both are new each time."""
    sent: list[Any] = []
    monkeypatch.setattr("chutes_core.login.pkce.request_tokens", lambda service, form: sent.append(form))
    with pytest.raises(AttributeError):
        sign_in.finish(Secret("code"))
    verifier = sent[0]["code_verifier"].get_secret_value()
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert asked(sign_in)["code_challenge"] == digest
    other = asked(SignIn(SERVICE, APP))
    assert asked(sign_in)["state"] != other["state"]
    assert asked(sign_in)["code_challenge"] != other["code_challenge"]


@pytest.mark.parametrize(
    "form",
    [
        "{back}?code=c0de&state={state}",
        " '{back}?state={state}&code=c0de' ",
        "code=c0de&state={state}#_=_",
        "http://[broken?code=c0de&state={state}",
        "c0de\n",
    ],
)
def test_a_granted_answer(sign_in: SignIn, form: str) -> None:
    """The code is read from the whole address, however it was pasted, or comes bare."""
    answer = sign_in.read(form.format(back=BACK, state=asked(sign_in)["state"]))
    assert answer.ours
    assert answer.code
    assert answer.code.get_secret_value() == "c0de"
    assert "c0de" not in repr(answer)


@pytest.mark.parametrize(
    ("form", "ours", "words"),
    [
        ("{back}?code=c0de&state=other", False, "another sign-in"),
        ("{back}?code=c0de", False, "another sign-in"),
        ("{back}?error=access_denied&state=other", False, "another sign-in"),
        ("{back}?error=access_denied&error_description=User+denied&state={state}", True, "denied in the browser"),
        ("{back}?error=access_denied", False, "another sign-in"),
        ("{back}?error=access_denied&state=", False, "another sign-in"),
        ("{back}?error=x&state=\u00e9", False, "another sign-in"),
        ("{back}?error=invalid_scope&error_description=Unknown+scope&state={state}", True, "CHUTES_OAUTH_SCOPES"),
        ("{back}?error=server_error&state={state}", True, "server_error"),
        ("{back}?state={state}", False, "no code"),
        ("", False, "Nothing was given"),
    ],
)
def test_an_answer_that_grants_nothing(sign_in: SignIn, form: str, ours: bool, words: str) -> None:
    """A denial ends the attempt; what belongs to another one does not, and each says what it is."""
    answer = sign_in.read(form.format(back=BACK, state=asked(sign_in)["state"]))
    assert answer.code is None
    assert answer.ours is ours
    assert words in answer.problem


@pytest.mark.parametrize("state", ["&state={state}", "&state=other", ""])
def test_what_stands_beside_an_error_is_not_repeated(sign_in: SignIn, state: str) -> None:
    """Neither its description nor a name that OAuth does not have: any page could have written it."""
    state = state.format(state=asked(sign_in)["state"])
    for error in ("access_denied", "invalid_scope", "server_error", "Your+key+is+void:+go+to+evil.example", "%1b[2J"):
        problem = sign_in.read(f"{BACK}?error={error}&error_description=go+to+evil.example%E2%80%AE{state}").problem
        assert "evil" not in problem
        assert problem.isprintable()


def test_signing_in(server: LocalChutes) -> None:
    """A code becomes a login: whose, for what, and renewable where the app has its secret."""
    sign_in = SignIn(server.management_url, APP)
    login = sign_in.finish(code_for(server, sign_in), now=1000.0)
    assert (login.user, login.scope, login.expires_at) == ("local", "openid profile chutes:invoke", 4600.0)
    assert login.renewable
    public = SignIn(server.management_url, PUBLIC_APP)
    assert not public.finish(code_for(server, public)).renewable


@pytest.mark.parametrize("how", ["replayed", "expired", "another's"])
def test_a_code_that_is_not_taken(server: LocalChutes, how: str) -> None:
    """A used, old or foreign code is refused in words, and no traceback shows it or the verifier."""
    sign_in = SignIn(server.management_url, APP)
    code = code_for(server, SignIn(server.management_url, APP) if how == "another's" else sign_in)
    if how == "replayed":
        sign_in.finish(code)
    elif how == "expired":
        server.clock.advance(CODE_SECONDS + 1)
    with pytest.raises(LoginError, match=r"valid once, for ten minutes.*chutes-connect login") as caught:
        sign_in.finish(code)
    shown = frames(caught.value)
    assert "pkce.py" in shown
    assert code.get_secret_value() not in shown
    assert sign_in._verifier.get_secret_value() not in shown


def test_a_wrong_secret_is_told_of(server: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service does not know is named by its variable."""
    from chutes_core.login.tokens import Refusal

    sign_in = SignIn(server.management_url, APP)
    monkeypatch.setattr("chutes_core.login.pkce.request_tokens", lambda *given: Refusal("invalid_client"))
    with pytest.raises(LoginError, match="CHUTES_CLIENT_ID"):
        sign_in.finish(Secret("code"))


def test_a_service_that_is_away(server: LocalChutes) -> None:
    """No connection is no refusal."""
    sign_in = SignIn(server.management_url, APP)
    code = code_for(server, sign_in)
    with server.refusing(), pytest.raises(ConnectionFailedError):
        sign_in.finish(code)
    assert sign_in.finish(code).user == "local"


def test_the_app_comes_from_the_environment() -> None:
    """Each variable has its place, both families of names count, and the secret is masked."""
    whole = {
        "CHUTES_CLIENT_ID": "cid_1",
        "CHUTES_CLIENT_SECRET": "csc_2345",
        "CHUTES_OAUTH_REDIRECT_URI": "http://127.0.0.1:9/back",
        "CHUTES_OAUTH_SCOPES": "profile",
    }
    app = OAuthApp.from_environment(whole)
    assert app == OAuthApp("cid_1", Secret("csc_2345"), "http://127.0.0.1:9/back", "profile")
    assert "2345" not in repr(app)
    other = {"CHUTES_OAUTH_CLIENT_ID": "cid_1", "CHUTES_OAUTH_CLIENT_SECRET": "csc_2345"}
    assert OAuthApp.from_environment(other) == replace(app, redirect_uri=BACK, scope=APP.scope)


def test_without_an_app_the_ways_are_named() -> None:
    """Whoever has no app learns how to get one, and that a key will do."""
    with pytest.raises(LoginError, match=r"CHUTES_CLIENT_ID.*login --api-key"):
        OAuthApp.from_environment({})


def test_tokens_are_not_sent_in_the_clear() -> None:
    """Only this machine is talked to without TLS."""
    with pytest.raises(LoginError, match="https"):
        SignIn("http://chutes.example", APP)


def test_without_authlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signing in through the browser is an extra."""
    monkeypatch.setitem(sys.modules, "authlib.common.security", None)
    with pytest.raises(LoginError, match=r"pip install 'chutes-connect\[cli\]'"):
        SignIn(SERVICE, APP)
