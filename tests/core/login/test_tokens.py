"""What the token endpoint writes back of a request is not repeated."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import cast
from urllib.parse import parse_qsl, quote

import pytest

from chutes_core.errors import APIError
from chutes_core.login.errors import LoginError
from chutes_core.login.pkce import OAuthApp, SignIn
from chutes_core.login.tokens import Grant, Refusal, request_tokens, revoke, user_of
from chutes_core.login.value import access_of
from chutes_core.secrets.secret import Secret
from chutes_core.wire.fetch import Fetched

SECRETS = {"client_secret": "s3cr3t/of+app", "code": "c0de~of-the-browser", "refresh_token": "r3fresh-without-prefix"}


class Echo(BaseHTTPRequestHandler):
    """Answers every request with an error, or a name, that has all that was sent in it."""

    status, found = 400, "invalid_grant"

    def do_POST(self) -> None:
        form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        told = " ".join([*form.values(), *map(quote, form.values()), "\u202e\x1b[2J"])
        self._say({"error": self.found or told, "error_description": told, "detail": told})

    def do_GET(self) -> None:
        self._say({"username": self.headers["authorization"].partition(" ")[2]}, 200)

    def _say(self, body: object, status: int = 0) -> None:
        data = json.dumps(body).encode()
        self.send_response(status or self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def clean(text: str) -> bool:
    return not any(form in text for each in SECRETS.values() for form in (each, quote(each))) and text.isprintable()


@pytest.mark.parametrize("found", ["invalid_grant", ""])
def test_a_refusal_has_nothing_of_what_was_sent(service: str, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    """Codes, verifiers and secrets have no known beginning: they are masked by value."""
    monkeypatch.setattr(Echo, "found", found)
    refusal = request_tokens(service, {name: Secret(text) for name, text in SECRETS.items()})
    assert isinstance(refusal, Refusal)
    assert "****" in str(refusal)
    assert clean(str(refusal))
    sign_in = SignIn(service, OAuthApp("cid_0123", Secret(SECRETS["client_secret"])))
    with pytest.raises(LoginError) as caught:
        sign_in.finish(Secret(SECRETS["code"]))
    assert clean(str(caught.value))
    assert sign_in._verifier.get_secret_value() not in str(caught.value)


def test_a_failure_has_nothing_of_what_was_sent(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text of another status, nor its body."""
    monkeypatch.setattr(Echo, "status", 418)
    error = cast("APIError", revoke(service, Secret(SECRETS["refresh_token"])))
    assert SECRETS["refresh_token"] not in f"{error} {error.body}"


def test_a_name_that_is_the_token_is_none(service: str) -> None:
    """A service may not have the token printed as who is signed in."""
    assert user_of(service, access_of("t0ken-without-prefix", service)) == ""


def test_scopes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shown in a sentence of the command's."""
    granted = Fetched(200, {}, b'{"access_token": "cak_0123", "scope": "openid\\nerror: forged"}')
    monkeypatch.setattr("chutes_core.login.tokens._post", lambda url, form: granted)
    grant = request_tokens("https://api.chutes.ai", {})
    assert isinstance(grant, Grant)
    assert grant.scope == "openid error: forged"
