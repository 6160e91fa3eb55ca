"""The plain exchange: what it gives, and what it raises without showing a key."""

from __future__ import annotations

import traceback

import pytest

from chutes_cli.exchange import Answer, exchange
from chutes_core.errors import APIError, AuthenticationError, ConnectionFailedError, Kind, TimeLimitError
from chutes_core.secrets.secret import Secret
from chutes_local import LocalChutes

from .conftest import NOWHERE

HIDDEN = Secret("_".join(["cpk", "hidden", "1"]))


def test_it_sends_the_key_and_gives_what_came(service: LocalChutes) -> None:
    """The key travels in the header; the body is read as JSON."""
    answer = exchange("GET", f"{service.management_url}/users/me", secret=Secret(service.api_key))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.value()["username"] == "local"  # type: ignore[index]


def test_a_refusal_is_the_exception_for_it(service: LocalChutes) -> None:
    """A status that is no success becomes the error that the client would raise."""
    answer = exchange("GET", f"{service.management_url}/users/me", secret=Secret("cpk_bad"))
    with pytest.raises(AuthenticationError):
        answer.value()


def test_no_reply(service: LocalChutes) -> None:
    """No connection and no reply in time are told apart, and the key is in no frame that a report shows."""
    with pytest.raises(ConnectionFailedError) as caught:
        exchange("GET", NOWHERE, secret=HIDDEN)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert HIDDEN.get_secret_value() not in "".join(shown.format())
    service.faults.parse("/users/me=hang(seconds=600)")
    with pytest.raises(TimeLimitError):
        exchange("GET", f"{service.management_url}/users/me", secret=Secret(service.api_key), timeout=0.05)


def test_a_body_that_is_no_json() -> None:
    """A web page in the place of JSON is a malformed reply, and an empty body is nothing."""
    assert Answer(204, {}, b"", 0.0).value() is None
    with pytest.raises(APIError) as caught:
        Answer(200, {}, b"<html>", 0.0).value()
    assert caught.value.kind is Kind.MALFORMED
