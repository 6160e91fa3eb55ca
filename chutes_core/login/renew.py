"""Have a stored login at hand that is good now: renewed by one, used by all.

The service replaces both tokens at each renewal and takes a used one never again. So one thread of one process
renews; the others wait for it and read what it stored, and the new pair is on disk before anybody uses it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from chutes_core.auth import Secret
from chutes_core.errors import APIError
from chutes_core.login.errors import LoginEndedError, LoginError
from chutes_core.login.store import LoginStore, StoredLogin
from chutes_core.login.tokens import Grant, Refusal, request_tokens

__all__ = ["current_login"]

MARGIN = 60.0
"""A token is renewed so many seconds before its end: a call that begins with it must not outlive it at once."""

_AGAIN = "Sign in again: chutes-connect login"


def current_login(
    store: LoginStore, *, refused: Secret | None = None, now: Callable[[], float] = time.time
) -> StoredLogin | None:
    """Return the stored login, renewed where its token is about to end or was refused; None without one.

    Args:
        store: Where it is kept.
        refused: A token that the service did not take, although it seemed good.
        now: The clock, in seconds since 1970.

    Raises:
        LoginEndedError: It is over and cannot be renewed.
        LoginError: It cannot be read, or not be renewed with this app's credentials.
        APIError: The service could not be asked.
    """
    login = store.load()
    if login is None or _as_it_is(login, refused, now()):
        return login
    with store.exclusive():
        login = store.load()  # another may have renewed it while we waited
        if login is None or _as_it_is(login, refused, now()):
            return login
        return _renewed(store, login, refused, now)


def _as_it_is(login: StoredLogin, refused: Secret | None, now: float) -> bool:
    """Whether a login is to be used as it stands, since it is good or nothing can be done."""
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
        return login
    spent = isinstance(outcome, Refusal) and outcome.error == "invalid_grant"
    if spent:
        store.save(replace(login, refresh=None))  # no second try with a token that is dead
    if login.good_for(now()) > 0 and login.access != refused:
        return login  # the old token still has some seconds
    if isinstance(outcome, APIError):
        raise outcome
    raise _over(login, outcome) if spent else _not_renewed(outcome)


def after(login: StoredLogin, grant: Grant, now: float) -> StoredLogin:
    """Put a new pair into a login."""
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
            "Your login has ended: it was made without the app's client secret, and the service renews nothing without "
            f"it. {_AGAIN} (with CHUTES_CLIENT_SECRET set, it will renew itself)."
        )
    return f"Your login has ended and cannot be renewed. {_AGAIN}"


def _over(login: StoredLogin, refusal: Refusal) -> LoginEndedError:
    return LoginEndedError(
        f"Your login has ended: the service does not take its refresh token any more ({refusal}). It is good once "
        "and for 30 days, so it is too old, was revoked, or somebody else has used it. If the last is possible, "
        f"revoke the app's access in your account at Chutes. {_AGAIN}"
    )


def _not_renewed(refusal: Refusal) -> LoginError:
    if refusal.error == "invalid_client":
        return LoginError(
            "Your login could not be renewed: the service does not know this client id and secret (invalid_client). "
            "If the app has a new secret, set CHUTES_CLIENT_SECRET and sign in again: chutes-connect login"
        )
    return LoginError(f"Your login could not be renewed: the service answered {refusal}. {_AGAIN}")
