"""Return a valid stored login, renewing it if needed: one thread renews for all.

The service replaces both tokens at each renewal and never accepts a used refresh token again. So one thread of one
process renews; the others wait and read what it stored, and the new pair is on disk before it is used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from chutes_core.errors import APIError
from chutes_core.login.errors import LoginEndedError, LoginError
from chutes_core.login.store import LoginStore, StoredLogin
from chutes_core.login.tokens import Grant, Refusal, request_tokens
from chutes_core.secrets.secret import Secret

__all__ = ["current_login"]

MARGIN = 60.0
"""Seconds before expiry at which a token is renewed, so that a call does not start with one about to expire."""

_LOG = logging.getLogger("chutes_core.login")
_AGAIN = "Sign in again: chutes-connect login"


def current_login(
    store: LoginStore, *, refused: Secret | None = None, now: Callable[[], float] = time.time
) -> StoredLogin | None:
    """Return the stored login, renewed if its token is about to expire or was rejected; None if there is none.

    Args:
        store: The store of the login.
        refused: A token that the service rejected although it seemed valid.
        now: The clock, in seconds since 1970.

    Raises:
        LoginEndedError: It has ended and cannot be renewed.
        LoginError: It cannot be read, or not renewed with this app's credentials.
        APIError: The service could not be reached.
    """
    login = store.load()
    if login is None or _as_it_is(login, refused, now()):
        return login
    with store.exclusive():
        login = store.load()  # may have been renewed while we waited
        if login is None or _as_it_is(login, refused, now()):
            return login
        return _renewed(store, login, refused, now)


def _as_it_is(login: StoredLogin, refused: Secret | None, now: float) -> bool:
    """Return whether to use a login as is, because it is valid or cannot be renewed."""
    if login.access == refused:
        return not login.renewable
    left = login.good_for(now)
    return left > MARGIN or (left > 0 and not login.renewable)


def _renewed(store: LoginStore, login: StoredLogin, refused: Secret | None, now: Callable[[], float]) -> StoredLogin:
    if login.refresh is None or login.client_secret is None:
        raise LoginEndedError(_why_over(login))
    store.check_writable()
    outcome = request_tokens(
        login.service,
        {
            "grant_type": "refresh_token",
            "refresh_token": login.refresh,
            "client_id": login.client_id,
            "client_secret": login.client_secret,
        },
    )
    if isinstance(outcome, Grant):
        login = after(login, outcome, now())
        store.save(login)
        _LOG.info("The login was renewed; its token is good for %.0f s", login.good_for(now()))
        return login
    spent = isinstance(outcome, Refusal) and outcome.error == "invalid_grant"
    if spent:
        store.save(replace(login, refresh=None))  # never retry with a dead token
    if login.good_for(now()) > 0 and login.access != refused:
        _LOG.warning("The login was not renewed, and its token is good for %.0f s more", login.good_for(now()))
        return login  # the old token is valid for some more seconds
    if isinstance(outcome, APIError):
        raise outcome
    raise _over(login, outcome) if spent else _not_renewed(outcome)


def after(login: StoredLogin, grant: Grant, now: float) -> StoredLogin:
    """Return the login with a new pair of tokens."""
    return replace(
        login,
        access=grant.access,
        refresh=grant.refresh,
        expires_at=now + grant.expires_in,
        scope=grant.scope or login.scope,
    )


def _why_over(login: StoredLogin) -> str:
    if login.client_secret is None:
        return (
            "Your login has ended: it was made without the app's client secret, which the service requires for "
            f"renewal. {_AGAIN} (with CHUTES_CLIENT_SECRET set, it renews itself)."
        )
    return f"Your login has ended and cannot be renewed. {_AGAIN}"


def _over(login: StoredLogin, refusal: Refusal) -> LoginEndedError:
    return LoginEndedError(
        f"Your login has ended: the service no longer accepts its refresh token ({refusal}). A refresh token is valid "
        "once, for 30 days, so it is too old, was revoked, or was used by someone else. If the last is possible, "
        f"revoke the app's access in your account at Chutes. {_AGAIN}"
    )


def _not_renewed(refusal: Refusal) -> LoginError:
    if refusal.error == "invalid_client":
        return LoginError(
            "Your login could not be renewed: the service does not know this client id and secret (invalid_client). "
            "If the app has a new secret, set CHUTES_CLIENT_SECRET and sign in again: chutes-connect login"
        )
    return LoginError(f"Your login could not be renewed: the service answered {refusal}. {_AGAIN}")
