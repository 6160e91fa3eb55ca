"""Sign in with Chutes, without HTTP: apps, authorization codes, rotating tokens.

Lifetimes and errors are the service's: a code is valid once within 600 s, an access token for an hour, a
refresh token once within 30 days, and refreshing needs the client secret, even for an app that signed in with PKCE.

>>> store = OAuthStore(clock=lambda: 0.0)
>>> asked = store.check(AuthorizeQuery(DEMO_CLIENT_ID, DEMO_REDIRECT, "profile chutes:invoke"))
>>> code = store.grant_code(asked)
>>> tokens = store.exchange(code, DEMO_REDIRECT, DEMO_CLIENT_ID, secret=DEMO_CLIENT_SECRET)
>>> tokens["token_type"], tokens["expires_in"], tokens["scope"]
('Bearer', 3600, 'profile chutes:invoke')
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ACCESS_SECONDS = 3600
REFRESH_SECONDS = 30 * 24 * 3600
CODE_SECONDS = 600
NONCE_SECONDS = 300

DEMO_CLIENT_ID = "cid_" + "LocalDemoApp".ljust(24, "0")
DEMO_CLIENT_SECRET = "csc_" + "LocalDemoSecret".ljust(48, "0")
DEMO_REDIRECT = "http://127.0.0.1:1456/oauth-callback"

OPEN_SCOPES = (
    "profile",
    "openid",
    "account:read",
    "chutes:read",
    "chutes:invoke",
    "images:read",
    "invocations:read",
)
SCOPES: dict[str, str] = {
    "profile": "See your user name",
    "profile:read": "See your user name",
    "account:read": "See your account",
    "account:write": "Change your account",
    "balance": "See your balance",
    "balance:read": "See your balance",
    "billing:read": "See your bills",
    "quota": "See your quota",
    "quota:read": "See your quota",
    "usage": "See your usage",
    "usage:read": "See your usage",
    "secrets:read": "List your secrets",
    "secrets:write": "Change your secrets",
    "chutes:read": "List your chutes",
    "chutes:write": "Change your chutes",
    "chutes:delete": "Delete your chutes",
    "chutes:invoke": "Run models on your account",
    "images:read": "List your images",
    "images:write": "Change your images",
    "images:delete": "Delete your images",
    "invocations:read": "See what was run",
    "admin": "Everything",
}
USERINFO_SCOPES = frozenset({"openid", "profile", "account:read", "admin"})
TokenKind = Literal["access_token", "refresh_token"]


class OAuthRefused(Exception):
    """An OAuth error: ``invalid_grant``, ``invalid_client``, ``invalid_scope`` and so on."""

    def __init__(self, error: str, description: str = "") -> None:
        """Keep the error code and its description."""
        super().__init__(f"{error}: {description}" if description else error)
        self.error = error
        self.description = description

    def as_json(self) -> dict[str, str]:
        """Return the error as the token endpoint writes it."""
        body = {"error": self.error}
        return {**body, "error_description": self.description} if self.description else body


@dataclass(slots=True)
class App:
    """A registered client."""

    name: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uris: list[str]
    allowed_scopes: list[str] = field(default_factory=list)
    app_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class AuthorizeQuery:
    """Query parameters of the consent page."""

    client_id: str
    redirect_uri: str
    scope: str = ""
    state: str = ""
    challenge: str = ""
    method: str = ""
    response_type: str = "code"


@dataclass(slots=True)
class Token:
    """An access or refresh token."""

    kind: TokenKind
    client_id: str
    scope: str
    issued: float
    expires: float
    used: bool = False

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes as a set."""
        return frozenset(self.scope.split())


class OAuthStore:
    """All state of the sign-in."""

    def __init__(self, clock: Callable[[], float], redirect_uris: tuple[str, ...] = ()) -> None:
        """Start with one app, the documented demo client."""
        self._clock = clock
        self.apps: list[App] = [App("Local demo", DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, [DEMO_REDIRECT, *redirect_uris])]
        self._pending: dict[str, tuple[AuthorizeQuery, float]] = {}
        self._codes: dict[str, tuple[AuthorizeQuery, float]] = {}
        self._tokens: dict[str, Token] = {}
        self.auto_consent: Literal["allow", "deny"] | None = None

    def register(self, name: str, redirect_uris: list[str], allowed_scopes: list[str]) -> App:
        """Add an app with new credentials."""
        app = App(name, "cid_" + _random(24), "csc_" + _random(48), redirect_uris, allowed_scopes)
        app.created_at = self._clock()
        self.apps.append(app)
        return app

    def app(self, key: str) -> App | None:
        """Find an app by client id or app id."""
        return next((app for app in self.apps if key in (app.client_id, app.app_id)), None)

    def check(self, query: AuthorizeQuery) -> AuthorizeQuery:
        """Validate an authorization query. ``invalid_scope`` is for the app, every other error for the user."""
        app = self.app(query.client_id)
        if app is None:
            raise OAuthRefused("invalid_client", "Unknown client_id")
        if query.redirect_uri not in app.redirect_uris:
            raise OAuthRefused("invalid_request", "redirect_uri is not registered for this app")
        if query.response_type != "code":
            raise OAuthRefused("unsupported_response_type", "response_type must be code")
        if query.challenge and query.method not in ("plain", "S256"):
            raise OAuthRefused("invalid_request", "code_challenge_method must be plain or S256")
        for scope in query.scope.split():
            if scope not in SCOPES and scope != "openid":
                raise OAuthRefused("invalid_scope", f"Unknown scope: {scope}")
            if scope not in OPEN_SCOPES and scope not in app.allowed_scopes:
                raise OAuthRefused("invalid_scope", f"Scope '{scope}' requires explicit app registration")
        return query

    def ask(self, query: AuthorizeQuery) -> str:
        """Store a pending consent, and return the nonce of its form."""
        nonce = secrets.token_urlsafe(24)
        self._pending[nonce] = (query, self._clock() + NONCE_SECONDS)
        return nonce

    def answered(self, nonce: str) -> AuthorizeQuery:
        """Return the query that a submitted consent form belongs to."""
        query, expires = self._pending.pop(nonce, (None, 0.0))
        if query is None or self._clock() > expires:
            raise OAuthRefused("invalid_request", "This consent page has expired: start again in the app")
        return query

    def grant_code(self, query: AuthorizeQuery) -> str:
        """Issue the code that goes back to the app."""
        code = _random(48)
        self._codes[code] = (query, self._clock() + CODE_SECONDS)
        return code

    def exchange(
        self, code: str, redirect_uri: str, client_id: str, *, secret: str = "", verifier: str = ""
    ) -> dict[str, object]:
        """Exchange a code for tokens; a code is valid once."""
        query, expires = self._codes.pop(code, (None, 0.0))
        if query is None or self._clock() > expires or client_id != query.client_id:
            raise OAuthRefused("invalid_grant")
        if redirect_uri != query.redirect_uri:
            raise OAuthRefused("invalid_grant")
        if query.challenge:
            if not _proves(verifier, query):
                raise OAuthRefused("invalid_grant")
        else:
            self.check_client(client_id, secret)
        return self._issue(client_id, query.scope or "profile")

    def refresh(self, refresh_token: str, client_id: str, secret: str) -> dict[str, object]:
        """Exchange a refresh token for a new pair; the old one is then invalid. The token is looked at first."""
        token = self._tokens.get(refresh_token)
        if token is None or token.kind != "refresh_token" or not self._live(token):
            raise OAuthRefused("invalid_grant")
        self.check_client(client_id, secret)
        if token.client_id != client_id:
            raise OAuthRefused("invalid_grant")
        token.used = True
        return self._issue(client_id, token.scope)

    def check_client(self, client_id: str, secret: str) -> None:
        """Refuse wrong client credentials; every client has a secret."""
        app = self.app(client_id)
        if app is None or not secrets.compare_digest(app.client_secret.encode(), secret.encode()):
            raise OAuthRefused("invalid_client")

    def live(self, token: str) -> Token | None:
        """Find a valid token of either kind."""
        found = self._tokens.get(token)
        return found if found is not None and self._live(found) else None

    def revoke(self, token: str) -> None:
        """Revoke a token."""
        self._tokens.pop(token, None)

    def _live(self, token: Token) -> bool:
        return not token.used and self._clock() < token.expires

    def _issue(self, client_id: str, scope: str) -> dict[str, object]:
        now = self._clock()
        access, refresh = f"cak_{uuid.uuid4()}.{_random(48)}", f"crt_{uuid.uuid4()}.{_random(48)}"
        self._tokens[access] = Token("access_token", client_id, scope, now, now + ACCESS_SECONDS)
        self._tokens[refresh] = Token("refresh_token", client_id, scope, now, now + REFRESH_SECONDS)
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
            "refresh_token": refresh,
            "scope": scope,
        }


def _proves(verifier: str, query: AuthorizeQuery) -> bool:
    if query.method == "S256":
        digest = hashlib.sha256(verifier.encode()).digest()
        verifier = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return bool(verifier) and secrets.compare_digest(verifier.encode(), query.challenge.encode())


def _random(length: int) -> str:
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(length))
