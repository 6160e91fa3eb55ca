"""A login as a value, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from chutes_core.catalog.checked import number
from chutes_core.secrets.secret import Secret
from chutes_core.settings import origin_of

__all__ = ["Keeper", "StoredLogin", "access_of", "from_json", "secrets_of", "to_json"]

Keeper = Literal["file", "keyring"]


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """A stored login.

    Attributes:
        service: The management URL that it is for.
        access: The API key, or the access token.
        expires_at: When the token expires, in seconds since 1970; None for a key.
        refresh: The refresh token, valid once.
        client_id: The app that signed in; empty for a key.
        client_secret: The app's secret, required for renewal.
        scope: The scopes of the token.
        user: The user name, if the service returned it.
        keeper: Where the secrets are: in the file itself, or in the system's keyring.
    """

    service: str
    access: Secret
    expires_at: float | None = None
    refresh: Secret | None = None
    client_id: str = ""
    client_secret: Secret | None = None
    scope: str = ""
    user: str = ""
    keeper: Keeper = "file"

    @classmethod
    def of_key(cls, service: str, key: Secret, keeper: Keeper = "file") -> StoredLogin:
        """Create a login that consists of an API key."""
        return cls(service, access_of(key.get_secret_value(), service, key.places), keeper=keeper)

    @property
    def is_key(self) -> bool:
        """Whether this is an API key, which neither expires nor renews."""
        return not self.client_id

    @property
    def renewable(self) -> bool:
        """Whether it can be renewed."""
        return self.refresh is not None and self.client_secret is not None

    def good_for(self, now: float) -> float:
        """Return the seconds until the token expires."""
        return float("inf") if self.expires_at is None else self.expires_at - now


def access_of(text: str, service: str, places: Iterable[object] = ()) -> Secret:
    """Return the key or token of a login, which may go to its own service, and where it was said to go.

    >>> sorted(access_of("cpk_0123", "https://own.example/api", ["https://gateway.example"]).places)
    ['https://gateway.example', 'https://own.example']
    """
    own = origin_of(service)
    named = {each for each in places if isinstance(each, str)}
    return Secret(text, "the stored login", named | {own} if own.startswith("https:") else named)


_PLAIN = ("service", "client_id", "scope", "user", "keeper")
_SECRET = ("access", "refresh", "client_secret")


def from_json(row: Mapping[str, object]) -> StoredLogin | None:
    """Read a login; None if invalid. Secrets held by the keyring are not filled in."""
    texts = {name: value for name in (*_PLAIN, *_SECRET) if isinstance(value := row.get(name) or "", str)}
    ends, keeper = row.get("expires_at"), texts.get("keeper")
    if len(texts) < len(_PLAIN + _SECRET) or not isinstance(ends, int | float | None):
        return None
    if ends is not None and number(ends) is None:  # no time that a clock could reach
        return None
    if keeper not in get_args(Keeper) or not texts["service"] or (keeper == "file" and not texts["access"]):
        return None
    refresh, client_secret = (Secret(texts[name]) if texts[name] else None for name in ("refresh", "client_secret"))
    places = row.get("places")
    try:
        access = access_of(texts["access"], texts["service"], places if isinstance(places, list) else ())
    except ValueError:  # the service is no address
        return None
    return StoredLogin(
        texts["service"],
        access,
        ends,
        refresh,
        texts["client_id"],
        client_secret,
        texts["scope"],
        texts["user"],
        cast("Keeper", keeper),
    )


def secrets_of(login: StoredLogin) -> dict[str, str]:
    """Return the plain text of its secrets, only for storing them."""
    held = {name: cast("Secret | None", getattr(login, name)) for name in _SECRET}
    return {name: secret.get_secret_value() for name, secret in held.items() if secret is not None}


def to_json(login: StoredLogin) -> dict[str, object]:
    """Return a login as JSON, without the secrets if the keyring holds them."""
    row: dict[str, object] = {name: getattr(login, name) for name in _PLAIN}
    row["expires_at"] = login.expires_at
    row["places"] = sorted(login.access.places)
    return row | (secrets_of(login) if login.keeper == "file" else {})
