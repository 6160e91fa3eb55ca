"""A service to sign in at, and logins that were made there."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chutes_core.login.pkce import OAuthApp, SignIn
from chutes_core.login.renew import current_login
from chutes_core.login.store import LoginStore, StoredLogin
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes, serve
from chutes_local.world.oauth import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_REDIRECT, AuthorizeQuery

APP = OAuthApp(DEMO_CLIENT_ID, Secret(DEMO_CLIENT_SECRET))
PUBLIC_APP = OAuthApp(DEMO_CLIENT_ID)
SCOPE = "openid profile chutes:invoke"


@pytest.fixture(scope="session")
def running() -> Iterator[LocalChutes]:
    with serve(backend="echo") as server:
        yield server


@pytest.fixture
def server(running: LocalChutes, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalChutes]:
    """The embedded Chutes, as new, and an environment that leads there without a key."""
    running.reset()
    for name, value in running.env.items():
        if name != "CHUTES_API_KEY":
            monkeypatch.setenv(name, value)
    yield running
    running.reset()


@dataclass
class SignedIn:
    """A login that is stored, at a clock of its own."""

    server: LocalChutes
    store: LoginStore
    first: StoredLogin
    clock: float = field(default_factory=time.time)

    def now(self) -> float:
        return self.clock

    def current(self, refused: Secret | None = None) -> StoredLogin:
        found = current_login(self.store, refused=refused, now=self.now)
        assert found is not None
        return found

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the service and for the client."""
        self.clock += seconds
        self.server.clock.advance(seconds)


def code_for(server: LocalChutes, sign_in: SignIn) -> Secret:
    """Have access allowed, as the consent page does."""
    from urllib.parse import parse_qs, urlsplit

    asked = {name: values[0] for name, values in parse_qs(urlsplit(sign_in.url).query).items()}
    query = AuthorizeQuery(
        asked["client_id"],
        asked["redirect_uri"],
        asked["scope"],
        asked["state"],
        asked["code_challenge"],
        asked["code_challenge_method"],
    )
    return Secret(server.oauth.grant_code(server.oauth.check(query)))


def sign_in_at(server: LocalChutes, app: OAuthApp = APP) -> StoredLogin:
    sign_in = SignIn(server.management_url, app)
    return sign_in.finish(code_for(server, sign_in))


@pytest.fixture
def signed_in(server: LocalChutes, tmp_path: Path) -> SignedIn:
    """A login that renews itself."""
    return stored(server, tmp_path, APP)


def stored(server: LocalChutes, folder: Path, app: OAuthApp) -> SignedIn:
    login = sign_in_at(server, app)
    store = LoginStore(server.management_url, folder=folder / "config")
    store.save(login)
    return SignedIn(server, store, login)


def frames(error: BaseException) -> str:
    """The traceback with the variables of each frame, but those of the test itself."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_name.startswith("test_"):
        trace = trace.tb_next
    inner = error.with_traceback(trace)
    return "".join(traceback.TracebackException.from_exception(inner, capture_locals=True).format())


__all__ = ["APP", "DEMO_REDIRECT", "PUBLIC_APP", "SCOPE", "SignedIn", "code_for", "frames", "sign_in_at", "stored"]
