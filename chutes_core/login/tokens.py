"""The service's token endpoints: exchange a code or refresh token for a pair, revoke, look up a token's user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chutes_core.calls.effects import WireRequest
from chutes_core.catalog.checked import number
from chutes_core.door import loads
from chutes_core.errors import APIError, Kind, redact
from chutes_core.failures.reading import error_from_response, failure
from chutes_core.login.value import access_of
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret

if TYPE_CHECKING:
    from chutes_core.wire.fetch import Fetched

__all__ = ["Grant", "Refusal", "request_tokens", "revoke", "user_of"]

_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A successful response of the token endpoint."""

    access: Secret
    expires_in: float
    refresh: Secret | None = None
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An OAuth error response: ``invalid_grant`` and so on."""

    error: str
    description: str = ""

    def __str__(self) -> str:
        return f"{self.error}: {self.description}" if self.description else self.error


def request_tokens(service: str, form: Mapping[str, Secret | str]) -> Grant | Refusal | APIError:
    """Request a pair of tokens. Errors are returned, so that no traceback passes the frames that hold the tokens."""
    reply = _post(f"{service}/idp/token", form)
    if isinstance(reply, APIError):
        return reply
    status, headers, content = reply
    body = _object(content)
    if status == 200:
        grant = _grant(service, body)
        return grant or failure(Kind.MALFORMED, "the token endpoint returned no token", status_code=status)
    if status in (400, 401) and isinstance(body.get("error"), str):
        return Refusal(_shown(body["error"], 40), _shown(body.get("error_description") or "", 300))
    return error_from_response(status, content, headers)


def revoke(service: str, token: Secret) -> APIError | None:
    """Revoke a token; return the error, if any."""
    reply = _post(f"{service}/idp/token/revoke", {"token": token})
    if isinstance(reply, APIError):
        return reply
    return None if reply.status == 200 else error_from_response(reply.status, reply.content, reply.headers)


def user_of(service: str, access: Secret) -> str:
    """Return the user name of a token; empty if the service does not say."""
    from chutes_core.wire.fetch import fetch

    reply = fetch(WireRequest(f"{service}/idp/userinfo", method="GET", secret=access), _SECONDS)
    name = None if isinstance(reply, APIError) or reply.status != 200 else _object(reply.content).get("username")
    known = Known()
    known.learn({}, access)
    return name if isinstance(name, str) and name.isprintable() and known.text(name) == name else ""


def _post(url: str, form: Mapping[str, Secret | str]) -> Fetched | APIError:
    from chutes_core.wire.fetch import fetch

    plain = {name: text.get_secret_value() if isinstance(text, Secret) else text for name, text in form.items()}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    secrets = [text for text in form.values() if isinstance(text, Secret)]
    return fetch(WireRequest(url, None, headers, content=urlencode(plain).encode()), _SECONDS, secrets)


def _shown(said: object, most: int) -> str:
    """Return what the service said as a part of a sentence: one line, without keys."""
    text = " ".join(str(said).split())
    return redact("".join(char for char in text if char.isprintable()))[:most]


def _object(content: bytes) -> dict[str, object]:
    try:
        loaded = loads(content)
    except ValueError:
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _grant(service: str, body: Mapping[str, object]) -> Grant | None:
    access, refresh, seconds = body.get("access_token"), body.get("refresh_token"), number(body.get("expires_in"))
    if not isinstance(access, str) or not access:
        return None
    return Grant(
        access_of(access, service),
        3600.0 if seconds is None else seconds,
        Secret(refresh) if isinstance(refresh, str) and refresh else None,
        " ".join(str(body.get("scope") or "").split()),
    )
