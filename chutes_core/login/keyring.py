"""Store the secrets of a login in the system's keyring. The ``keyring`` package is optional.

As in the store, functions that handle the plain text of a token return errors instead of raising them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, cast

from chutes_core.errors import redact
from chutes_core.login.errors import LoginError
from chutes_core.login.value import StoredLogin, secrets_of
from chutes_core.secrets.secret import Secret

__all__ = ["forget", "from_keyring", "to_keyring"]

_NAME = "chutes-connect"


class _Keyring(Protocol):
    def get_password(self, service_name: str, username: str) -> str | None: ...
    def set_password(self, service_name: str, username: str, password: str) -> None: ...
    def delete_password(self, service_name: str, username: str) -> None: ...


def _keyring() -> _Keyring | LoginError:
    from importlib import import_module

    try:
        return cast("_Keyring", import_module("keyring"))
    except ImportError:
        return LoginError("Using the system's keyring needs a package: pip install keyring")


def _keyring_failed(error: Exception) -> LoginError:
    said = redact(f"{type(error).__name__}: {error}")
    return LoginError(f"The system's keyring does not work here ({said}). Sign in again without --keyring.")


def to_keyring(login: StoredLogin) -> LoginError | None:
    """Store the secrets of a login."""
    keyring = _keyring()
    if isinstance(keyring, LoginError):
        return keyring
    try:
        keyring.set_password(_NAME, login.service, json.dumps(secrets_of(login)))
    except Exception as error:  # every backend has its own errors
        return _keyring_failed(error)
    return None


def from_keyring(login: StoredLogin) -> StoredLogin | LoginError:
    """Return the login with its secrets."""
    keyring = _keyring()
    if isinstance(keyring, LoginError):
        return keyring
    try:
        found = json.loads(keyring.get_password(_NAME, login.service) or "{}")
    except Exception as error:
        return _keyring_failed(error)
    access, refresh, client_secret = (_secret(found, name) for name in ("access", "refresh", "client_secret"))
    if access is None:
        return LoginError("The login is no longer in the system's keyring. Sign in again: chutes-connect login")
    access = Secret(access.get_secret_value(), login.access.source, login.access.places)
    return replace(login, access=access, refresh=refresh, client_secret=client_secret)


def _secret(found: object, name: str) -> Secret | None:
    text = found.get(name) if isinstance(found, dict) else None
    return Secret(text) if isinstance(text, str) and text else None


def forget(service: str) -> None:
    """Remove the secrets of a service."""
    keyring = _keyring()
    if not isinstance(keyring, LoginError):
        with suppress(Exception):  # it may have been removed there by hand
            keyring.delete_password(_NAME, service)
