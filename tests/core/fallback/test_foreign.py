"""Failures of other providers' clients, by what those clients say of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from chutes_core import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback.foreign import as_failure

REQUEST = httpx.Request("POST", "https://other.example/v1")


def named(name: str, base: type[Exception] = Exception, **told: Any) -> Exception:
    """An exception of a class of this name, with what a client puts on it."""
    error = type(name, (base,), {})("no good")
    for key, value in told.items():
        setattr(error, key, value)
    return error


def status_error(status: int, headers: dict[str, str] | None = None) -> httpx.HTTPStatusError:
    response = httpx.Response(status, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError(f"status {status}", request=REQUEST, response=response)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (named("AnyError", status_code=429), Kind.RATE_LIMIT),
        (status_error(429), Kind.RATE_LIMIT),
        (status_error(503), Kind.UPSTREAM),
        (named("ClientResponseError", status=500), Kind.UPSTREAM),
        (named("GoogleAPIError", code=503), Kind.UPSTREAM),
        (named("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 429}}), Kind.RATE_LIMIT),
        (named("ClientError", response={}), None),
        (named("ResourceExhausted"), Kind.RATE_LIMIT),
        (named("ThrottlingException"), Kind.RATE_LIMIT),
        (httpx.ConnectError("refused"), Kind.CONNECT),
        (httpx.ProxyError("no"), Kind.CONNECT),
        (httpx.ReadTimeout("late"), Kind.FIRST_TOKEN_TIMEOUT),
        (httpx.WriteError("gone"), Kind.RESET),
        (httpx.RemoteProtocolError("half"), Kind.RESET),
        (httpx.DecodingError("not gzip"), None),
        (named("ConnectionError", named("RequestException").__class__), Kind.CONNECT),
        (named("ServerDisconnectedError"), Kind.RESET),
        (named("ClientPayloadError"), Kind.RESET),
        (ConnectionResetError("reset"), Kind.RESET),
        (named("TimeoutError"), Kind.FIRST_TOKEN_TIMEOUT),
        (KeyError("typo"), None),
        (named("AnyError", status_code=200), None),
        (named("AnyError", code="rate_limit"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_a_failure_means(error: Exception, kind: Kind | None) -> None:
    """By its status, wherever the client keeps that, else by the names that clients give their failures."""
    found = as_failure(error, "other/model")
    assert (found.kind if found is not None else None) is kind


@pytest.mark.parametrize("text", ["model: claude-x", 'model "llama9" not found, try pulling it first', ""])
def test_what_a_client_does_not_find_concerns_its_member_alone(text: str) -> None:
    """The others may be asked: a 404 of another provider says nothing of the request."""
    error = named("NotFoundError", status_code=404)
    error.args = (text,)
    found = as_failure(error, "other/model")
    assert found is not None
    assert (found.kind, found.status_code) == (Kind.MODEL_NOT_FOUND, 404)


def test_a_client_that_names_the_size_is_believed() -> None:
    """So that a larger window is tried, although the status is that of any bad request."""
    found = as_failure(named("OpenAIContextOverflowError", status_code=400), "other/model")
    assert found is not None
    assert found.kind is Kind.CONTEXT_LENGTH


def test_a_failure_of_ours_stays_what_it_is() -> None:
    """It has been read already."""
    ours = failure(Kind.COLD)
    assert as_failure(ours, "other/model") is ours


def test_what_the_service_asks_for_is_kept() -> None:
    """How long to wait stands in the reply's headers."""
    found = as_failure(status_error(429, {"retry-after": "7"}), "other/model")
    assert found is not None
    assert (found.status_code, found.retry_after) == (429, 7.0)
