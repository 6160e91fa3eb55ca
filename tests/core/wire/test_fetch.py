"""Signing in and the command line ask within limits too."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from chutes_cli.exchange import exchange
from chutes_core import APIError, Kind
from chutes_core.calls.effects import WireRequest
from chutes_core.login import tokens
from chutes_core.secrets.secret import Secret
from chutes_core.wire.fetch import Fetched, fetch
from chutes_core.wire.pools import ssl_context
from tests.core.calls.test_bodies import MIB, encoded, packed_up, serving
from tests.core.failures.test_redirects import answered, redirect
from tests.core.raw_server import RawServer, Request, json_reply, raw_server
from tests.core.test_limits import DRIPS, SOON, dripping, gone

ssl_context()


@pytest.mark.parametrize("what", ["headers", "the status", "a body", "chunks", "what is compressed"])
def test_what_drips_is_given_up(what: str) -> None:
    """All of an exchange has the time that was given."""
    with raw_server(dripping(*DRIPS[what])) as server:
        found = fetch(WireRequest(f"{server.base_url}/x", method="GET"), SOON)
        assert gone(server)
    assert isinstance(found, APIError)
    assert found.kind is Kind.CONNECT_TIMEOUT


def test_a_status_is_no_failure() -> None:
    """The caller decides what it means."""
    with raw_server(serving(json_reply({"error": "invalid_grant"}, "400 Bad"))) as server:
        found = fetch(WireRequest(f"{server.base_url}/x", {"a": 1}), 30)
        assert isinstance(found, Fetched)
        assert (found.status, json.loads(found.content)) == (400, {"error": "invalid_grant"})
        assert found.headers["content-type"] == "application/json"
        assert server.requests[0].body == {"a": 1}


def test_a_bomb_is_malformed() -> None:
    """It is unpacked to the limit of any page."""
    with raw_server(serving(encoded(packed_up(b"\0", 16 * MIB)))) as server:
        found = fetch(WireRequest(f"{server.base_url}/x", method="GET"), 30)
    assert isinstance(found, APIError)
    assert found.kind is Kind.MALFORMED
    assert "larger than 8,388,608 bytes" in str(found)


def test_nobody_listens() -> None:
    """That is no connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = fetch(WireRequest(f"http://127.0.0.1:{port}/", method="GET"), 30)
    assert isinstance(found, APIError)
    assert found.kind is Kind.CONNECT


def test_tokens_go_nowhere_else() -> None:
    """A token endpoint that redirects is not followed to another host, with its secrets."""
    with raw_server(answered) as stranger, raw_server(serving(redirect(307, stranger.base_url))) as server:
        failed = tokens.request_tokens(server.base_url, {"refresh_token": Secret("crt_secret")})
        assert tokens.revoke(server.base_url, Secret("crt_secret")) is not None
        assert tokens.user_of(server.base_url, Secret("cak_secret")) == ""
        assert stranger.connections == 0
    assert isinstance(failed, APIError)
    assert "redirects to http://127.0.0.1" in str(failed)


def test_a_compressed_token_reply_is_read() -> None:
    """As every reply is."""
    body = gzip.compress(json.dumps({"access_token": "cak_1", "expires_in": 60}).encode())

    def handle(connection: socket.socket, request: Request, server: RawServer) -> None:
        connection.sendall(encoded(body))

    with raw_server(handle) as server:
        # The form is no JSON, which this server would read; an empty one will do.
        grant = tokens.request_tokens(server.base_url, {})
    assert isinstance(grant, tokens.Grant)
    assert grant.access.get_secret_value() == "cak_1"


def test_the_command_line_has_the_error_raised() -> None:
    """Or the answer, whatever its status."""
    with raw_server(serving(json_reply({"detail": "no"}, "404 No"))) as server:
        assert exchange("GET", f"{server.base_url}/x").status == 404
    with raw_server(dripping(*DRIPS["headers"])) as server, pytest.raises(APIError):
        exchange("GET", f"{server.base_url}/x", timeout=SOON)
