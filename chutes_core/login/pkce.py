"""Sign in with Chutes: the steps of OAuth 2.0 with PKCE.

Needs authlib, from the extra ``cli``.

>>> app = OAuthApp("cid_0123", Secret("csc_4567"))
>>> sign_in = SignIn("https://api.chutes.ai", app)
>>> sign_in.url.partition("?")[0]
'https://api.chutes.ai/idp/authorize'
>>> sign_in.read("http://127.0.0.1:1456/oauth-callback?code=abc&state=other").problem[:29]
'This answer belongs to anothe'
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import compare_digest
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from chutes_core.errors import APIError
from chutes_core.login.errors import LoginError
from chutes_core.login.store import Keeper, StoredLogin
from chutes_core.login.tokens import Grant, Refusal, request_tokens, user_of
from chutes_core.secrets.secret import Secret
from chutes_core.settings import is_loopback

if TYPE_CHECKING:
    from typing import Protocol

    class _OAuth(Protocol):
        """The part of authlib's client used here; authlib is untyped."""

        def create_authorization_url(self, url: str, *, state: str, code_verifier: str) -> tuple[str, str]: ...


__all__ = ["Answer", "OAuthApp", "SignIn"]

REDIRECT_URI = "http://127.0.0.1:1456/oauth-callback"
SCOPES = "openid profile chutes:invoke"
_ERRORS = (
    "invalid_request", "unauthorized_client", "unsupported_response_type", "server_error", "temporarily_unavailable",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """The OAuth app, as registered with the service.

    Attributes:
        client_id: Its id.
        client_secret: Its secret: signing in works without it, renewing does not.
        redirect_uri: Where the browser returns to; must match the registration exactly.
        scope: The requested scopes.
    """

    client_id: str
    client_secret: Secret | None = None
    redirect_uri: str = REDIRECT_URI
    scope: str = SCOPES

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None) -> OAuthApp:
        """Read ``CHUTES_CLIENT_ID``, ``CHUTES_CLIENT_SECRET``, ``CHUTES_OAUTH_REDIRECT_URI``, ``CHUTES_OAUTH_SCOPES``.

        >>> OAuthApp.from_environment({"CHUTES_CLIENT_ID": "cid_0123"}).redirect_uri
        'http://127.0.0.1:1456/oauth-callback'
        """
        env = os.environ if env is None else env
        client_id = _first(env, "CHUTES_CLIENT_ID", "CHUTES_OAUTH_CLIENT_ID")
        if not client_id:
            raise LoginError(
                "Signing in through the browser needs an app registered with Chutes: create one in your account there "
                f"with the redirect address {_first(env, 'CHUTES_OAUTH_REDIRECT_URI') or REDIRECT_URI}, and set "
                "CHUTES_CLIENT_ID and CHUTES_CLIENT_SECRET. Or store an API key: chutes-connect login --api-key"
            )
        return cls(
            client_id,
            _first_secret(env, "CHUTES_CLIENT_SECRET", "CHUTES_OAUTH_CLIENT_SECRET"),
            _first(env, "CHUTES_OAUTH_REDIRECT_URI") or REDIRECT_URI,
            _first(env, "CHUTES_OAUTH_SCOPES") or SCOPES,
        )


def _first(env: Mapping[str, str], *names: str) -> str:
    return next((value for name in names if (value := env.get(name, "").strip())), "")


def _first_secret(env: Mapping[str, str], *names: str) -> Secret | None:
    return next((Secret(env[name].strip()) for name in names if env.get(name, "").strip()), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer from the browser.

    Attributes:
        code: The code, if access was granted.
        problem: Otherwise what is wrong, as a sentence.
        ours: Whether it belongs to this sign-in, and so ends it.
    """

    code: Secret | None = None
    problem: str = ""
    ours: bool = True


class SignIn:
    """One sign-in attempt: builds the URL for the browser and reads the answer.

    Args:
        service: The management URL.
        app: The OAuth app.
    """

    def __init__(self, service: str, app: OAuthApp) -> None:
        self.service = service
        self.app = app
        _check_transport(service)
        oauth, self._verifier, state = _start(app)
        self.url, self._state = oauth.create_authorization_url(
            f"{service}/idp/authorize", state=state, code_verifier=self._verifier.get_secret_value()
        )

    def read(self, answer: str) -> Answer:
        """Read the URL that the browser was redirected to, or just the code from it."""
        answer = answer.strip().strip("'\"")
        if "=" not in answer and "/" not in answer:
            # Only the user can have typed it, and it is worthless without the verifier kept here.
            return Answer(Secret(answer)) if answer else Answer(problem="Nothing was given.", ours=False)
        address = answer.partition("#")[0]
        given = dict(parse_qsl(address.partition("?")[2] or address))
        # First of all, and for errors too: any page can send the browser here, and only the service knows the state.
        if not compare_digest(given.get("state", "").encode(), self._state.encode()):
            return Answer(
                problem="This answer belongs to another sign-in (its state does not match), so it was not used.",
                ours=False,
            )
        if "error" in given:
            return Answer(problem=_refused(given["error"]))
        if not given.get("code"):
            return Answer(problem="There is no code in this answer.", ours=False)
        return Answer(Secret(given["code"]))

    def finish(self, code: Secret, *, keeper: Keeper = "file", now: float | None = None) -> StoredLogin:
        """Exchange the code for a login.

        Raises:
            LoginError: The service rejected it.
            APIError: The service could not be reached.
        """
        outcome = self._trade(code)
        del code
        if isinstance(outcome, APIError):
            raise outcome
        if isinstance(outcome, Refusal):
            raise _not_traded(outcome)
        return StoredLogin(
            self.service,
            outcome.access,
            (time.time() if now is None else now) + outcome.expires_in,
            outcome.refresh,
            self.app.client_id,
            self.app.client_secret,
            outcome.scope or self.app.scope,
            user_of(self.service, outcome.access),
            keeper,
        )

    def _trade(self, code: Secret) -> Grant | Refusal | APIError:
        form: dict[str, Secret | str] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.app.redirect_uri,
            "client_id": self.app.client_id,
            "code_verifier": self._verifier,
        }
        if self.app.client_secret is not None:
            form["client_secret"] = self.app.client_secret
        return request_tokens(self.service, form)


def _start(app: OAuthApp) -> tuple[_OAuth, Secret, str]:
    try:
        from authlib.common.security import generate_token  # type: ignore[import-untyped]
        from authlib.oauth2.client import OAuth2Client  # type: ignore[import-untyped]
    except ImportError as error:
        problem = LoginError(f"Signing in through the browser is an extra ({error}): pip install 'chutes-connect[cli]'")
    else:
        oauth = OAuth2Client(
            None,  # no session: only its offline parts are used
            client_id=app.client_id,
            redirect_uri=app.redirect_uri,
            scope=app.scope,
            code_challenge_method="S256",
        )
        return oauth, Secret(generate_token(64)), generate_token(32)
    raise problem


def _check_transport(service: str) -> None:
    if not service.lower().startswith("https:") and not is_loopback(service):
        raise LoginError(f"Tokens are not sent unencrypted: {service} must be an https address.")


def _refused(error: str) -> str:
    """Say what an error means, in our words: what stands beside it came by way of the browser."""
    if error == "access_denied":
        return "Access was denied in the browser. Nothing was stored."
    if error == "invalid_scope":
        return "The app may not request these scopes. Change CHUTES_OAUTH_SCOPES or the app's registration."
    return f"The service refused ({error if error in _ERRORS else 'with an error that OAuth does not have'})."


def _not_traded(refusal: Refusal) -> LoginError:
    if refusal.error == "invalid_grant":
        return LoginError(
            f"The service rejected this code ({refusal}). A code is valid once, for ten minutes, and only for the "
            "sign-in that it was issued for. Run chutes-connect login again."
        )
    if refusal.error == "invalid_client":
        return LoginError("The service does not know this client id and secret. Check CHUTES_CLIENT_ID and _SECRET.")
    return LoginError(f"The service did not sign you in: {refusal}.")
